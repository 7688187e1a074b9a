//! One copy: open both repositories, and let `dbbackup_repository::copy` take the snapshot
//! from the one into the other.
//!
//! Memory: a writer of one stream, a reader's two times 8 MiB and the recipes of an earlier
//! copy, in the room that a backup has for further streams and the server's clients.

use dbbackup_contract::{
    CopyAction, CopyBytes, CopyReport, Failure, Outcome, ProgressPhase, Reason,
};
use dbbackup_repository::{CopyError, CopyOptions, CopyOutcome};
use jiff::Timestamp;

use super::open::named;
use super::{Order, open};

/// Copies the snapshot; a failure is in the report.
pub(crate) async fn copy(order: &Order<'_>, action: &CopyAction) -> CopyReport {
    let mut report = CopyReport::begun(Timestamp::now());
    match try_copy(order, action, &mut report).await {
        Ok(()) => report.outcome = Outcome::Succeeded,
        Err(failure) => report.error = Some(failure),
    }
    report.completion_time = Timestamp::now();
    report
}

async fn try_copy(
    order: &Order<'_>,
    action: &CopyAction,
    report: &mut CopyReport,
) -> Result<(), Failure> {
    let of_source = |failure: Failure| named(failure, &order.repository.name);
    let of_destination = |failure: Failure| named(failure, &action.destination.name);
    let source = order.open().await.map_err(of_source)?;
    let opening = order.step(open(&action.destination, order.stall_timeout));
    let destination = opening.await.map_err(of_destination)?;
    let progress = |name: &str, done, total| order.board.bytes(name, done, Some(total));
    let options = CopyOptions {
        workers: order.workers,
        cancel: order.cancel.clone(),
        progress: &progress,
        ..CopyOptions::default()
    };
    let copying = dbbackup_repository::copy(&source, &destination, &action.snapshot, &options);
    let copied = copying.await.map_err(|error| match error {
        CopyError::SameRepository(_) => Failure::new(Reason::InvalidSpec, error.to_string())
            .with_hint("A copy needs a repository of its own: another storage, or another path."),
        CopyError::Source(error) => of_source(error.into()),
        CopyError::Destination(error) => of_destination(error.into()),
    })?;
    let id = copied.snapshot.id();
    report.already = copied.outcome == CopyOutcome::Already;
    tracing::info!(%id, already = report.already, "copied");
    order.board.phase(ProgressPhase::Verifying);
    let verified = order.step(copied.snapshot.verify_manifest()).await;
    verified.map_err(of_destination)?;
    let bytes = copied.bytes;
    report.bytes = CopyBytes {
        read: bytes.read,
        unchanged: copied.unchanged,
        new: bytes.new,
        stored: bytes.stored,
    };
    report.snapshot_id = Some(id.to_string());
    Ok(())
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
