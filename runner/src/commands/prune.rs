//! `prune`: deletes what no snapshot uses, and what no base needs of archived logs.

use dbbackup_contract::{DurationText, ExitCode, Failure, Reason, SHORTEST_GRACE};
use dbbackup_repository::{CollectOptions, CollectReport, RepackOptions};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::PruneArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;
use crate::work;

pub(super) async fn prune(
    args: PruneArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let wrong = |message: String| Failure::new(Reason::UsageError, message);
    let grace = DurationText::new(args.grace).parse().map_err(|error| wrong(error.to_string()))?;
    if grace < SHORTEST_GRACE {
        return Err(wrong("--grace is less than 10m".into()).with_hint(
            "Whoever began to write before the first step must be seen by the second.",
        ));
    }
    let options = CollectOptions {
        grace,
        max_delete_percent: args.max_delete_percent,
        approved_plan: args.approved_plan,
        dry_run: args.dry_run,
        repack: (!args.no_repack).then(RepackOptions::default),
    };
    let board = ProgressBoard::new(None);
    let repository = open(&args.repository, cancel).await?;
    let mut report = CollectReport::default();
    let done = unless_stopped(cancel, repository.collect_into(&options, &mut report)).await;
    let mut log_parts = 0;
    let done = match done {
        // What stops a collection leaves open which bases there are.
        Ok(()) if !args.dry_run => {
            work::tidy_logs(&repository, grace, &mut log_parts, cancel).await
        }
        done => done,
    };
    board.clear();
    // What was freed although something is wrong is told, and then the error.
    if report.deleted_objects == 0 && report.extended_locks == 0 && log_parts == 0 {
        done.clone()?;
    }
    if args.json {
        print::json(&described(&report, log_parts))?;
    } else {
        show(&report, args.dry_run);
        if log_parts > 0 {
            print::line(&format!("deleted {} of archived logs", print::count(log_parts, "part")));
        }
    }
    done.map(|()| ExitCode::Success)
}

fn show(report: &CollectReport, dry_run: bool) {
    if dry_run {
        print::line(&format!(
            "{} of {} are used by no snapshot, in {}",
            print::bytes(report.condemned_bytes),
            print::bytes(report.stored_bytes),
            print::count(report.condemned_objects, "object"),
        ));
        if report.repacked_bytes > 0 {
            let bytes = print::bytes(report.repacked_bytes);
            print::line(&format!("packs of {bytes} would be moved together"));
        }
        return;
    }
    print::line(&format!(
        "deleted {} in {}; {} stored before",
        print::bytes(report.deleted_bytes),
        print::count(report.deleted_objects, "object"),
        print::bytes(report.stored_bytes),
    ));
    if report.repacked_bytes > 0 {
        let bytes = print::bytes(report.repacked_bytes);
        print::line(&format!("moved together what is used in packs of {bytes}"));
    }
    if report.extended_locks > 0 {
        print::line(&format!(
            "extended the locks of {}",
            print::count(report.extended_locks, "object")
        ));
    }
    for blocker in &report.blockers {
        print::line(&format!(
            "waiting for the writer {}, which began {} ago",
            blocker.session,
            print::duration(blocker.age)
        ));
    }
    if report.condemned_objects == 0 && report.repacked_bytes > 0 {
        print::aside("note: prune again to free the packs that blocks were moved out of");
    }
    if report.condemned_objects > 0 {
        print::aside(&format!(
            "note: {} more are condemned; prune again after the grace period to delete them",
            print::count(report.condemned_objects, "object")
        ));
    }
}

fn described(report: &CollectReport, log_parts: u64) -> serde_json::Value {
    let blockers = report.blockers.iter().map(|blocker| {
        json!({"session": blocker.session.to_string(), "ageSeconds": blocker.age.as_secs()})
    });
    json!({
        "storedBytes": report.stored_bytes,
        "deletedObjects": report.deleted_objects,
        "deletedBytes": report.deleted_bytes,
        "condemnedObjects": report.condemned_objects,
        "condemnedBytes": report.condemned_bytes,
        "blockers": blockers.collect::<Vec<_>>(),
        "removedSessions": report.removed_sessions,
        "repackedBytes": report.repacked_bytes,
        "extendedLocks": report.extended_locks,
        "deletedLogParts": log_parts,
    })
}
