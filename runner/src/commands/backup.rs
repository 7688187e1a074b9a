//! `backup`: databases of a server into a repository.

use std::time::{Duration, Instant};

use dbbackup_contract::{
    AfterHook, BackupAction, BeforeHook, DatabaseSelection, DurationText, ExitCode, Failure, Hook,
    HookOnError, HookWhen, Hooks, MadeBy, Origin, Reason, Report, Source, SqlText,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::cli::BackupArgs;
use crate::commands::{print, repository_access, server_access};
use crate::progress::ProgressBoard;
use crate::work;

pub(super) async fn backup(
    args: BackupArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let repository = repository_access(&args.repository)?;
    let server = &args.server.server;
    let action = BackupAction {
        series: args
            .series
            .unwrap_or_else(|| format!("postgresql/{}:{}", server.host, server.port)),
        run_id: uuid::Uuid::new_v4().to_string(),
        slot_time: Timestamp::now(),
        origin: Origin {
            cluster: String::new(),
            namespace: String::new(),
            backup: "command line".to_owned(),
            schedule: None,
        },
        made_by: MadeBy::Schedule,
        source: Source::Postgresql {
            access: server_access(&args.server)?,
            databases: DatabaseSelection {
                include: args.include.into_iter().chain(server.database.clone()).collect(),
                exclude: args.exclude,
            },
        },
        method: args.method.into(),
        hooks: hooks(&args.before, &args.after, &args.hook_timeout)?,
    };
    let board = ProgressBoard::new(None);
    let stall_timeout = args.repository.stall_timeout();
    let order = work::Order::by_hand(&repository, stall_timeout, &board, cancel);
    let report = work::back_up(&order, &action).await;
    board.clear();
    if args.json {
        print::json(&report)?;
    } else {
        if let Some(id) = &report.snapshot_id {
            print::line(&format!("snapshot {id}"));
        }
        print::databases(&report.databases, "it allows no connections");
        if report.snapshot_id.is_some() {
            print::line(&print::byte_counts(&report.bytes, started.elapsed()));
        }
    }
    let of_hooks = report.hooks.iter().filter_map(|hook| hook.error.as_ref());
    for failure in of_hooks.filter(|failure| report.error.as_ref() != Some(failure)) {
        print::failure(failure);
    }
    if let Some(failure) = &report.error {
        print::failure(failure);
    }
    Ok(Report::Backup(report).exit_code())
}

/// Each is called by its flag and its number: what it does is shown nowhere.
fn hooks(before: &[String], after: &[String], timeout: &str) -> Result<Hooks, Failure> {
    let limit: Duration = DurationText::new(timeout).parse().map_err(|error| {
        Failure::new(Reason::UsageError, format!("--hook-timeout {timeout}: {error}"))
    })?;
    let of_flag = |flag: &'static str| {
        move |(index, text): (usize, &String)| {
            let name = format!("{flag} {}", index + 1);
            let Some((database, sql)) = text.split_once('=') else {
                let message = format!("{name} names no database");
                return Err(Failure::new(Reason::UsageError, message)
                    .with_hint(format!("Write {flag} 'shop=select note_backup()'.")));
            };
            let (database, sql) = (database.to_owned(), SqlText(sql.to_owned()));
            Ok(Hook { name, database, sql, timeout_seconds: limit.as_secs().max(1) })
        }
    };
    let before = before.iter().enumerate().map(of_flag("--before"));
    let after = after.iter().enumerate().map(of_flag("--after"));
    Ok(Hooks {
        credentials: None,
        before: before
            .map(|hook| Ok(BeforeHook { hook: hook?, on_error: HookOnError::Fail }))
            .collect::<Result<_, Failure>>()?,
        after: after
            .map(|hook| Ok(AfterHook { hook: hook?, when: HookWhen::Always }))
            .collect::<Result<_, Failure>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_of_the_command_line_are_called_by_their_flags() {
        let list = |text: &str| vec![text.to_owned(), "crm=select 'a=b'".to_owned()];
        let parsed = hooks(&list("shop=checkpoint"), &list("shop="), "2m").unwrap();
        let (before, after) = (&parsed.before[1].hook, &parsed.after[0].hook);
        assert_eq!((before.name.as_str(), before.database.as_str()), ("--before 2", "crm"));
        assert_eq!((before.sql.0.as_str(), before.timeout_seconds), ("select 'a=b'", 120));
        assert_eq!((after.name.as_str(), after.sql.0.as_str()), ("--after 1", ""));
        for (text, timeout) in [("checkpoint", "2m"), ("shop=checkpoint", "soon")] {
            let failure = hooks(&list(text), &[], timeout).unwrap_err();
            assert_eq!(failure.reason, Reason::UsageError, "{failure}");
            assert!(!failure.message.contains("checkpoint"), "{failure}");
        }
    }
}
