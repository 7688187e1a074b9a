//! `restore`: databases of a snapshot, as new databases of a server.

use std::collections::BTreeMap;
use std::time::Instant;

use dbbackup_contract::{
    Assertion, DurationText, ExitCode, Failure, Outcome, PlannedAction, Reason, ReplaceAction,
    Report, RestoreAction, RestoreDatabase, RestorePlan, listed,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cli::{RestoreArgs, StrategyArg};
use crate::commands::sql_names::{schema_name, table_name};
use crate::commands::{print, repository_access, server_access};
use crate::progress::ProgressBoard;
use crate::work;

pub(super) async fn restore(
    args: RestoreArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let repository = repository_access(&args.repository)?;
    if args.server.server.database.is_some() {
        return Err(Failure::new(
            Reason::UsageError,
            "the server's address names a database, but a restore creates its own",
        )
        .with_hint("Say which with --database NAME, and its new name with --as NAME."));
    }
    let target = server_access(&args.server)?;
    let databases = databases(args.databases.clone(), args.as_names.clone())?;
    let databases = part_of(databases, &args.schemas, &args.tables)?;
    let request_uid = args.request_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let action = RestoreAction {
        replace: replacing(&args, &databases, &request_uid)?,
        request_uid,
        snapshot: args.snapshot,
        target,
        databases,
        globals: args.globals.into(),
        no_owner: args.no_owner,
        role_map: role_map(&args.role_map)?,
        once: None,
        on_error: args.on_error.into(),
        assertions: assertions(&args.assertions)?,
        dry_run: args.dry_run,
        approved_plan: args.approved_plan.clone(),
    };
    if action.replace.is_some() && !action.dry_run {
        // Said before anything happens: a terminal may be gone by the end.
        let id = &action.request_uid;
        print::aside(&format!("restore {id}; if it is cut off, --request-id {id} goes on"));
    }
    let board = ProgressBoard::new(None);
    let stall_timeout = args.repository.stall_timeout();
    let mut order = work::Order::by_hand(&repository, stall_timeout, &board, cancel);
    order.even_if_written_off = args.even_if_written_off;
    let (report, settlement) = work::restore(&order, &action).await;
    board.clear();
    let only_planned = action.dry_run
        || report.error.as_ref().is_some_and(|error| error.reason == Reason::PlanChanged);
    if args.json {
        print::json(&report)?;
    } else if let Some(plan) = report.plan.as_ref().filter(|_| only_planned) {
        print_plan(plan, &action);
    } else {
        let left_out = "it exists on the server, and holds nothing in the backup";
        print::databases(&report.databases, left_out);
        for database in &report.databases {
            if let (Some(kept), Some(undo)) = (&database.kept_as, &database.undo) {
                print::line(&format!("what was there is kept as {kept}; to undo this, for psql:"));
                print::line(&format!("  {undo}"));
            }
        }
        for warning in report.globals.iter().flat_map(|globals| &globals.warnings) {
            print::line(&format!("warning: {warning}"));
        }
        if report.outcome != Outcome::Failed {
            let (size, took) = (print::bytes(report.restored_bytes), started.elapsed());
            print::line(&format!("restored {size} in {}", print::duration(took)));
        }
    }
    if let Some(failure) = &report.error {
        print::failure(failure);
    }
    // Only now: the marks are how a retry knows what is done.
    if let Some(settlement) = settlement {
        settlement.settle(cancel).await;
    }
    let of_databases = report.databases.iter().filter_map(|database| database.error.as_ref());
    if report.error.iter().chain(of_databases).any(Failure::is_retryable) {
        let id = &action.request_uid;
        print::aside(&format!("To go on with this restore, give --request-id {id}"));
    }
    Ok(Report::Restore(report).exit_code())
}

/// What would be done, and how just that is done.
fn print_plan(plan: &RestorePlan, action: &RestoreAction) {
    for database in &plan.databases {
        let name = print::renamed(&database.name, database.as_name.as_deref());
        let size = format!(
            "{} in {}",
            print::bytes(database.bytes),
            print::count(database.tables, "table")
        );
        let what = match (database.action, &database.replaces, &database.error) {
            (PlannedAction::Refuse, _, Some(error)) => {
                format!("REFUSED: {} ({})", error.message, error.reason)
            }
            (PlannedAction::Refuse, ..) => "REFUSED".to_owned(),
            (PlannedAction::Create, ..) => format!("create, {size}"),
            (PlannedAction::Done, ..) => {
                "in place: an attempt before this one has done it".to_owned()
            }
            (PlannedAction::Skip, ..) => {
                "left out: it exists, and holds nothing in the backup".to_owned()
            }
            (PlannedAction::Replace, None, _) => format!("replace, {size}"),
            (PlannedAction::Replace, Some(replaced), _) => {
                let becomes = match &replaced.kept_as {
                    Some(kept) => format!("kept as {kept}"),
                    None => "dropped".to_owned(),
                };
                format!(
                    "replace, {size}; what is there ({}, {}) is {becomes}",
                    print::bytes(replaced.size_bytes),
                    print::count(replaced.sessions.into(), "session")
                )
            }
        };
        print::line(&format!("  {name}  {what}"));
        for warning in &database.warnings {
            print::line(&format!("    warning: {warning}"));
        }
        if let Some(left_out) = &database.left_out {
            print::line(&format!("    left out: {left_out}"));
        }
    }
    let more = plan.total as usize - plan.databases.len();
    if more > 0 {
        print::line(&format!("  and {}", print::count(more as u64, "database")));
    }
    if !plan.created_roles.is_empty() {
        print::line(&format!("creates the roles {}", listed(&plan.created_roles, 20)));
    }
    print::line(&format!("plan {}; nothing was done", plan.digest));
    print::aside(&format!(
        "To do just that, give --approved-plan {} --request-id {} instead of --dry-run",
        plan.digest, action.request_uid
    ));
}

/// How databases that exist are replaced, if they are.
fn replacing(
    args: &RestoreArgs,
    databases: &[RestoreDatabase],
    request_uid: &str,
) -> Result<Option<ReplaceAction>, Failure> {
    let wrong = |message: &str, hint: String| {
        Err(Failure::new(Reason::UsageError, message).with_hint(hint))
    };
    let given = |set: bool| set && args.strategy == StrategyArg::CreateNew;
    if given(args.terminate_sessions || !args.confirm.is_empty()) {
        let message = "--terminate-sessions and --confirm are of --strategy swap and overwrite";
        return wrong(message, "Say which, or leave them out.".to_owned());
    }
    if args.strategy == StrategyArg::CreateNew {
        return Ok(None);
    }
    let keep = args.strategy == StrategyArg::Swap;
    if databases.is_empty() && !keep {
        let message = "what drops databases says which: --database NAME";
        return wrong(message, "Give one for each database that is to be restored.".to_owned());
    }
    let unconfirmed = databases
        .iter()
        .map(RestoreDatabase::target_name)
        .find(|name| !args.confirm.iter().any(|it| it == name));
    if let Some(name) = unconfirmed.filter(|_| !keep) {
        let message =
            format!("--strategy overwrite drops database {name}, and that is not confirmed");
        return wrong(
            &message,
            format!("Give --confirm {name}, or --strategy swap, which keeps it."),
        );
    }
    let timeout = DurationText::new(args.lock_timeout.clone()).parse();
    let timeout = timeout.map_err(|error| Failure::new(Reason::UsageError, error.to_string()))?;
    let Some(time) = begun(request_uid) else {
        let message = "--request-id is none that this program has given: it does not tell when the restore began";
        return wrong(message, "Leave it out to begin another restore.".to_owned());
    };
    Ok(Some(ReplaceAction {
        keep,
        terminate_sessions: args.terminate_sessions,
        lock_timeout_seconds: timeout.as_secs().max(1),
        time,
        // What was approved names the database that gives way: another one is another plan.
        is_continued: args.request_id.is_some() && args.approved_plan.is_none(),
    }))
}

/// When the restore of this id began: our own ids tell, so that every attempt says the same.
fn begun(request_uid: &str) -> Option<Timestamp> {
    let time = uuid::Uuid::parse_str(request_uid).ok()?.get_timestamp()?;
    Timestamp::from_second(i64::try_from(time.to_unix().0).ok()?).ok()
}

/// `DATABASE=QUERY`, which is its own name.
fn assertions(given: &[String]) -> Result<Vec<Assertion>, Failure> {
    let parse = |text: &String| {
        let Some((database, query)) = text.split_once('=') else {
            let message = format!("--assert {text} names no database");
            return Err(Failure::new(Reason::UsageError, message)
                .with_hint("Write --assert 'shop=select count(*) > 1000 from orders'."));
        };
        let (database, query) = (database.to_owned(), query.to_owned());
        Ok(Assertion { name: query.clone(), database, query })
    };
    given.iter().map(parse).collect()
}

/// The one database, of which only these schemas and tables are meant.
fn part_of(
    mut databases: Vec<RestoreDatabase>,
    schemas: &[String],
    tables: &[String],
) -> Result<Vec<RestoreDatabase>, Failure> {
    if schemas.is_empty() && tables.is_empty() {
        return Ok(databases);
    }
    let [database] = &mut databases[..] else {
        let message = "--schema and --table are of one database";
        return Err(Failure::new(Reason::UsageError, message)
            .with_hint("Give --database once; restore the others by another command."));
    };
    database.schemas = schemas.iter().map(|text| schema_name(text)).collect::<Result<_, _>>()?;
    database.tables = tables.iter().map(|text| table_name(text)).collect::<Result<_, _>>()?;
    Ok(databases)
}

/// `OLD=NEW`. A name that has a `=` itself cannot be told apart from one that has not.
fn role_map(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let wrong = |message: String| {
        Err(Failure::new(Reason::UsageError, message)
            .with_hint("Write --role-map OLD=NEW, once for each role."))
    };
    let mut map = BTreeMap::new();
    for text in given {
        let names = text
            .split_once('=')
            .filter(|(old, new)| !old.is_empty() && !new.is_empty() && !new.contains('='));
        let Some((old, new)) = names else {
            return wrong(format!("--role-map {text} does not say one role for another"));
        };
        if map.insert(old.to_owned(), new.to_owned()).is_some() {
            return wrong(format!("--role-map says two roles for {old}"));
        }
    }
    Ok(map)
}

/// Pairs each `--database` with its `--as`.
fn databases(names: Vec<String>, as_names: Vec<String>) -> Result<Vec<RestoreDatabase>, Failure> {
    if !as_names.is_empty() && as_names.len() != names.len() {
        return Err(Failure::new(
            Reason::UsageError,
            format!("{} --database and {} --as do not pair", names.len(), as_names.len()),
        )
        .with_hint("Give one --as for each --database, in the same order, or none."));
    }
    let mut as_names = as_names.into_iter();
    let (schemas, tables) = (Vec::new(), Vec::new());
    let one = |name| RestoreDatabase {
        name,
        as_name: as_names.next(),
        schemas: schemas.clone(),
        tables: tables.clone(),
    };
    Ok(names.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(arguments: &[&str]) -> Result<Option<ReplaceAction>, Failure> {
        let fixed = [
            "dbbackup-runner",
            "restore",
            "--no-encryption",
            "file:///repo",
            "abcd",
            "postgresql://u@db",
        ];
        let cli = Cli::try_parse_from(fixed.iter().chain(arguments)).unwrap();
        let Command::Restore(args) = cli.command else { panic!("another command") };
        let databases = databases(args.databases.clone(), args.as_names.clone())?;
        replacing(&args, &databases, "01934a1f-0000-7000-8000-000000000000")
    }

    #[test]
    fn what_destroys_says_which_and_twice() {
        assert_eq!(asked(&[]).unwrap(), None);
        let swap = asked(&["--strategy", "swap", "--database", "shop"]).unwrap().unwrap();
        assert!(swap.keep && !swap.terminate_sessions);
        assert!(asked(&["--strategy", "swap"]).unwrap().unwrap().keep);
        assert_eq!(swap.time.to_string(), "2024-11-20T15:09:25Z");
        for refused in [
            &["--strategy", "overwrite"][..],
            &["--strategy", "overwrite", "--database", "shop"],
            &["--strategy", "overwrite", "--database", "shop", "--as", "b", "--confirm", "shop"],
            &["--strategy", "swap", "--database", "shop", "--lock-timeout", "soon"],
            &["--database", "shop", "--confirm", "shop"],
            &["--terminate-sessions"],
        ] {
            assert_eq!(asked(refused).unwrap_err().reason, Reason::UsageError, "{refused:?}");
        }
        let sure = ["--strategy", "overwrite", "--database", "shop", "--confirm", "shop"];
        let overwrite = asked(&sure).unwrap().unwrap();
        assert!(!overwrite.keep && !overwrite.is_continued);
        assert_eq!(begun("my-restore"), None);
    }

    #[test]
    fn one_role_stands_for_another_or_the_map_is_refused() {
        let map =
            |given: &[&str]| role_map(&given.iter().map(|it| (*it).into()).collect::<Vec<_>>());
        let given = map(&["a=b", "b=a", "Odd \"one\"=x y"]).unwrap();
        assert_eq!(given["Odd \"one\""], "x y");
        assert_eq!(given["b"], "a");
        for refused in [&["a"][..], &["=b"], &["a="], &["a=b=c"], &["a=b", "a=c"]] {
            assert_eq!(map(refused).unwrap_err().reason, Reason::UsageError, "{refused:?}");
        }
    }

    #[test]
    fn a_part_is_of_one_database() {
        let named = |names: &[&str]| {
            databases(names.iter().map(|name| (*name).to_owned()).collect(), vec![]).unwrap()
        };
        let (schemas, tables) = (["Sales".to_owned()], ["hr.\"P\"".to_owned()]);
        let part = part_of(named(&["a"]), &schemas, &tables).unwrap();
        assert_eq!((&*part[0].schemas[0], part[0].tables[0].to_string()), ("sales", "hr.P".into()));
        assert!(!part_of(named(&["a", "b"]), &[], &[]).unwrap()[0].is_part());
        for names in [&["a", "b"][..], &[]] {
            let refused = part_of(named(names), &schemas, &[]).unwrap_err();
            assert_eq!(refused.reason, Reason::UsageError);
        }
    }

    #[test]
    fn new_names_pair_with_databases_or_are_refused() {
        let strings =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let paired = databases(strings(&["a", "b"]), strings(&["x", "y"])).unwrap();
        assert_eq!(paired[1].as_name.as_deref(), Some("y"));
        assert_eq!(databases(strings(&["a"]), vec![]).unwrap()[0].as_name, None);
        let failure = databases(strings(&["a", "b"]), strings(&["x"])).unwrap_err();
        assert_eq!(failure.reason, Reason::UsageError);
    }
}
