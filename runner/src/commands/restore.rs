//! `restore`: databases of a snapshot, as new databases of a server.

use std::time::Instant;

use dbbackup_contract::{
    ExitCode, Failure, Outcome, Reason, Report, RestoreAction, RestoreDatabase, RestoreStrategy,
};
use tokio_util::sync::CancellationToken;

use crate::cli::RestoreArgs;
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
    let action = RestoreAction {
        request_uid: args.request_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        snapshot: args.snapshot,
        target: server_access(&args.server)?,
        databases: databases(args.databases, args.as_names)?,
        globals: args.globals.into(),
        strategy: RestoreStrategy::CreateNew,
    };
    let board = ProgressBoard::new(None);
    let stall_timeout = args.repository.stall_timeout();
    let mut order = work::Order::by_hand(&repository, stall_timeout, &board, cancel);
    order.even_if_written_off = args.even_if_written_off;
    let (report, settlement) = work::restore(&order, &action).await;
    board.clear();
    if let Some(settlement) = settlement {
        settlement.settle(cancel).await;
    }
    if args.json {
        print::json(&report)?;
    } else {
        let left_out = "it exists on the server, and holds nothing in the backup";
        print::databases(&report.databases, left_out);
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
    if report.error.as_ref().is_some_and(Failure::is_retryable) {
        let id = &action.request_uid;
        print::aside(&format!("To go on with this restore, give --request-id {id}"));
    }
    Ok(Report::Restore(report).exit_code())
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
    Ok(names.into_iter().map(|name| RestoreDatabase { name, as_name: as_names.next() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
