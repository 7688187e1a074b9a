//! `snapshots`: what a repository holds, oldest first.

use dbbackup_contract::{ExitCode, Failure};
use dbbackup_repository::{Error, Snapshot, SnapshotId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::SnapshotsArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;

pub(super) async fn snapshots(
    args: SnapshotsArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let board = ProgressBoard::new(None);
    let repository = open(&args.repository, cancel).await?;
    let list = unless_stopped(cancel, repository.snapshots(args.series.as_deref())).await?;
    board.clear();
    let mut found = list.snapshots;
    // Names sort by series first; people read by time.
    found.sort_by(|a, b| a.about().slot_time.cmp(&b.about().slot_time).then(a.id().cmp(b.id())));
    if args.json {
        print::json(&found.iter().map(described).collect::<Vec<_>>())?;
    } else {
        for snapshot in &found {
            let about = snapshot.about();
            print::line(&format!(
                "{}  {}  {:>10}  {}{}",
                snapshot.id(),
                about.slot_time.strftime("%Y-%m-%d %H:%M:%SZ"),
                print::bytes(about.bytes.read),
                about.series,
                if snapshot.written_off().is_some() { "  (written off)" } else { "" }
            ));
        }
    }
    let lost = |(id, _): &&(SnapshotId, Error)| !list.written_off.contains_key(id);
    let unreadable: Vec<_> = list.unreadable.iter().filter(lost).collect();
    for (id, error) in &unreadable {
        print::aside(&format!("error: snapshot {id} cannot be read: {error} ({})", error.reason()));
    }
    if !unreadable.is_empty() {
        print::aside("hint: Bring these objects back from a copy of the repository.");
    }
    Ok(if unreadable.is_empty() { ExitCode::Success } else { ExitCode::Damaged })
}

fn described(snapshot: &Snapshot) -> Value {
    let about = snapshot.about();
    json!({
        "id": snapshot.id().to_string(),
        "series": about.series,
        "sequence": about.sequence,
        "kind": about.kind,
        "slotTime": about.slot_time,
        "startTime": about.start_time,
        "commitTime": about.commit_time,
        "bytes": {"read": about.bytes.read, "new": about.bytes.new, "stored": about.bytes.stored},
        "streams": about.streams,
        "labels": about.labels,
        "report": snapshot.report(),
        "writtenOff": snapshot.written_off(),
    })
}
