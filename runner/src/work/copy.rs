//! One copy: open both repositories, and take the snapshot's streams from the one into the
//! other, as a backup would that reads them from a server.
//!
//! The run's id is derived from what is copied, so that another attempt finds what an earlier
//! one has committed. The source's digests are verified while it is read: a stream that is
//! damaged ends the copy before anything is committed.
//!
//! Memory: a writer of one stream, and a reader's two times 8 MiB in the room that a backup
//! has for further streams and the server's clients.

use dbbackup_contract::{
    ByteCounts, CopyAction, CopyBytes, CopyReport, Failure, Outcome, ProgressPhase, Reason,
};
use dbbackup_repository::{
    Begun, CommitInfo, Cutting, Error, Repository, SessionOptions, Snapshot, SnapshotWriter,
    sha256_hex,
};
use jiff::Timestamp;

use super::open::named;
use super::{Order, committed, end, open};

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
    if source.id() == destination.id() {
        let message = format!("both repositories are the repository {}", source.id());
        return Err(Failure::new(Reason::InvalidSpec, message)
            .with_hint("A copy needs a repository of its own: another storage, or another path."));
    }
    let found = order.step(source.find(&action.snapshot)).await;
    let snapshot = found.map_err(of_source)?;
    snapshot.must_not_be_written_off().map_err(|error| of_source(error.into()))?;
    let options = session_options(order, &source, &snapshot);
    let begun = order.step(destination.begin(options)).await.map_err(of_destination)?;
    let copied = match begun {
        Begun::Committed(copied) => {
            tracing::info!(id = %copied.id(), "an earlier attempt has committed");
            report.already = true;
            copied
        }
        Begun::Started(writer) => {
            // While it lives, the collector leaves alone what the snapshot needs.
            let session = order.step(source.begin_reading()).await.map_err(of_source)?;
            let transferred = transfer(order, action, &snapshot, &writer).await;
            end(session).await;
            transferred?;
            commit(order, writer, &snapshot).await.map_err(of_destination)?
        }
    };
    order.board.phase(ProgressPhase::Verifying);
    let verified = order.step(copied.verify_manifest()).await;
    verified.map_err(of_destination)?;
    if !report.already {
        let ByteCounts { read, new, stored } = copied.about().bytes.clone();
        report.bytes = CopyBytes { read, new, stored };
    }
    report.snapshot_id = Some(copied.id().to_string());
    Ok(())
}

fn session_options(order: &Order<'_>, source: &Repository, snapshot: &Snapshot) -> SessionOptions {
    let about = snapshot.about();
    let run_id = sha256_hex(format!("copy/{}/{}", source.id(), snapshot.id()).as_bytes());
    SessionOptions {
        workers: order.workers,
        cancel: order.cancel.clone(),
        ..SessionOptions::new(&about.series, &run_id[..32], about.slot_time)
    }
}

/// Takes all streams over.
async fn transfer(
    order: &Order<'_>,
    action: &CopyAction,
    snapshot: &Snapshot,
    writer: &SnapshotWriter,
) -> Result<(), Failure> {
    order.board.phase(ProgressPhase::Transferring);
    let listing = order.step(snapshot.streams("")).await;
    let streams = listing.map_err(|failure| named(failure, &order.repository.name))?;
    let total = streams.iter().map(|stream| stream.length).sum();
    for stream in &streams {
        order.step(take_over(order, action, (snapshot, writer), &stream.name, total)).await?;
    }
    Ok(())
}

/// Each failure names the repository that it is of.
async fn take_over(
    order: &Order<'_>,
    action: &CopyAction,
    (snapshot, writer): (&Snapshot, &SnapshotWriter),
    name: &str,
    total: u64,
) -> Result<(), Failure> {
    let of_source = |error: Error| named(error.into(), &order.repository.name);
    let of_destination = |error: Error| named(error.into(), &action.destination.name);
    let mut from = snapshot.stream(name).await.map_err(of_source)?;
    let mut to = writer.stream(name, Cutting::default()).await.map_err(of_destination)?;
    while let Some(bytes) = from.next().await.map_err(of_source)? {
        to.write(bytes).await.map_err(of_destination)?;
        order.board.bytes(name, writer.totals().read, Some(total));
    }
    to.finish().await.map_err(of_destination)?;
    Ok(())
}

/// Commits the copy with what the snapshot says of itself.
async fn commit(
    order: &Order<'_>,
    writer: SnapshotWriter,
    snapshot: &Snapshot,
) -> Result<Snapshot, Failure> {
    let about = snapshot.about();
    let report = snapshot.report().clone();
    let info = CommitInfo {
        kind: about.kind.clone(),
        made_by: about.made_by,
        labels: about.labels.clone(),
        report: Box::new(move |_| report),
    };
    let copied = committed(order.cancel, writer, info).await?;
    tracing::info!(id = %copied.id(), "copy committed");
    Ok(copied)
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
