//! `repair`: says which snapshots can no longer be restored. It makes nothing up
//! and deletes nothing; what it would do is printed before.

use std::collections::BTreeMap;

use dbbackup_contract::{ExitCode, Failure, ProgressPhase, Reason};
use dbbackup_repository::{CheckLevel, Repository, SnapshotId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::RepairArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;
use crate::work;

/// What is said of a snapshot that a person names without a reason.
const BY_HAND: &str = "somebody has written it off by hand";

/// The snapshots to write off, and why.
type Plan = BTreeMap<SnapshotId, String>;

pub(super) async fn repair(
    args: RepairArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let board = ProgressBoard::new(None);
    let repository = open(&args.repository, cancel).await?;
    board.phase(ProgressPhase::Verifying);
    let plan = if args.write_off.is_empty() {
        lost_snapshots(&repository, &board, cancel).await
    } else {
        let reason = args.reason.as_deref().unwrap_or(BY_HAND);
        unless_stopped(cancel, named_snapshots(&repository, &args.write_off, reason)).await
    };
    board.clear();
    let plan = plan?;
    if args.json {
        let write_off =
            plan.iter().map(|(id, reason)| json!({"snapshot": id.to_string(), "reason": reason}));
        print::json(&json!({"writeOff": write_off.collect::<Vec<_>>(), "done": args.yes}))?;
    } else {
        for (id, reason) in &plan {
            print::line(&format!("write off snapshot {id}: {reason}"));
        }
        if plan.is_empty() {
            print::line("nothing to repair");
        }
    }
    if !args.yes {
        if !plan.is_empty() && !args.json {
            print::aside(
                "note: nothing was done; --yes does it. It cannot be undone.\n\
                 hint: What can still be brought back from a copy of the repository should be \
                 brought back first.",
            );
        }
        return Ok(ExitCode::Success);
    }
    for (id, reason) in &plan {
        unless_stopped(cancel, repository.write_off(id, reason)).await?;
    }
    if !args.json && !plan.is_empty() {
        print::line(&format!("wrote off {}", print::count(plan.len() as u64, "snapshot")));
    }
    Ok(ExitCode::Success)
}

/// Snapshots of which nothing can be restored, by a check of the structure. What a
/// newer release has made, or a store that does not answer, is no damage.
async fn lost_snapshots(
    repository: &Repository,
    board: &ProgressBoard<'_>,
    cancel: &CancellationToken,
) -> Result<Plan, Failure> {
    let report = work::checked(repository, CheckLevel::Structure.into(), board, cancel).await?;
    let mut plan = Plan::new();
    for problem in report.problems {
        let reason = problem.error.reason();
        if !matches!(reason, Reason::RepositoryDamaged | Reason::ObjectMissing) {
            continue;
        }
        for touched in problem.touched.into_iter().filter(|touched| touched.all) {
            plan.entry(touched.snapshot).or_insert_with(|| problem.error.to_string());
        }
    }
    Ok(plan)
}

/// The snapshots that a person means, readable or not.
async fn named_snapshots(
    repository: &Repository,
    prefixes: &[String],
    reason: &str,
) -> Result<Plan, Failure> {
    let list = repository.snapshots(None).await?;
    let readable = list.snapshots.iter().map(|snapshot| snapshot.id());
    let known: Vec<&SnapshotId> =
        readable.chain(list.unreadable.iter().map(|(id, _)| id)).collect();
    let mut plan = Plan::new();
    for prefix in prefixes {
        // One whose head is gone is not listed: its whole id says which one is meant.
        let id = match SnapshotId::parse(prefix) {
            Ok(id) => id,
            Err(_) => one_of(&known, prefix)?.clone(),
        };
        plan.insert(id, reason.to_owned());
    }
    Ok(plan)
}

fn one_of<'a>(known: &[&'a SnapshotId], prefix: &str) -> Result<&'a SnapshotId, Failure> {
    let mut fitting = known.iter().filter(|id| id.as_str().starts_with(prefix));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(Failure::new(
            Reason::SnapshotNotFound,
            format!("no snapshot has an id that begins with {prefix:?}"),
        )),
        (Some(_), Some(_)) => Err(Failure::new(
            Reason::SnapshotAmbiguous,
            format!("several snapshots have an id that begins with {prefix:?}"),
        )),
    }
}
