//! `store`: any bytes through the pipeline: standard input, a file, or a folder.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use dbbackup_contract::{DEFAULT_WORKERS, ExitCode, Failure, Reason};
use dbbackup_repository::{
    CommitInfo, SessionOptions, Snapshot, SnapshotWriter, StreamOptions, Totals,
};
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::byte_source::{ByteSource, unreadable};
use crate::cli::StoreArgs;
use crate::commands::{print, repository_access};
use crate::progress::ProgressBoard;
use crate::tree::{self, DATA, Entry, EntryKind, TREE};
use crate::work;

pub(super) async fn store(args: StoreArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    // What is to be stored is looked at before a session begins.
    let entries = match &args.path {
        Some(path) => Some(listed(path.clone()).await?),
        None => None,
    };
    let repository = work::open(&repository_access(&args.repository)?).await?;
    let writer = repository
        .begin(SessionOptions {
            series: args.name.clone(),
            run_id: uuid::Uuid::new_v4().to_string(),
            slot_time: Timestamp::now(),
            workers: DEFAULT_WORKERS,
            cancel: cancel.clone(),
            ..SessionOptions::default()
        })
        .await?;
    let board = ProgressBoard::new(None);
    let outcome = async {
        match (&args.path, &entries) {
            (Some(path), Some(entries)) => store_tree(&writer, path, entries, &board).await,
            _ => {
                let input = ByteSource::read(std::io::stdin(), "standard input");
                store_stream(&writer, DATA, input, &board).await
            }
        }
    };
    let stored = tokio::select! {
        outcome = outcome => outcome,
        () = cancel.cancelled() => Err(Failure::new(Reason::Interrupted, "told to stop")),
    };
    board.clear();
    stored?;
    let totals = writer.totals();
    let kind = if entries.is_some() { "tree" } else { "stream" };
    let info = CommitInfo { kind: kind.to_owned(), labels: json!({}), report: json!({}) };
    let snapshot = writer.commit(info).await?;
    show(&snapshot, &totals, args.json)?;
    Ok(ExitCode::Success)
}

fn show(snapshot: &Snapshot, totals: &Totals, as_json: bool) -> Result<(), Failure> {
    let id = snapshot.id().to_string();
    if as_json {
        return print::json(&json!({
            "id": id,
            "bytes": {"read": totals.read, "new": totals.new, "stored": totals.stored},
        }));
    }
    print::line(&format!(
        "snapshot {id}: read {}, of which {} are new: {} stored",
        print::bytes(totals.read),
        print::bytes(totals.new),
        print::bytes(totals.stored)
    ));
    Ok(())
}

async fn listed(path: PathBuf) -> Result<Vec<Entry>, Failure> {
    let listing = tokio::task::spawn_blocking(move || tree::list(&path)).await;
    listing.map_err(|error| Failure::new(Reason::Internal, format!("the listing died: {error}")))?
}

async fn store_tree(
    writer: &SnapshotWriter,
    root: &Path,
    entries: &[Entry],
    board: &ProgressBoard<'_>,
) -> Result<(), Failure> {
    let mut list = writer.stream(TREE, StreamOptions::default()).await?;
    for entry in entries {
        let mut line = serde_json::to_vec(entry)
            .map_err(|error| Failure::new(Reason::Internal, format!("no JSON: {error}")))?;
        line.push(b'\n');
        list.write(Bytes::from(line)).await?;
    }
    list.finish().await?;
    for entry in entries {
        if let EntryKind::File { stream } = &entry.kind {
            let path = if entry.path.is_empty() { root.to_owned() } else { tree::place(root, entry)? };
            let name = path.display().to_string();
            let file = std::fs::File::open(&path).map_err(|error| unreadable(&name, &error))?;
            store_stream(writer, stream, ByteSource::read(file, &name), board).await?;
        }
    }
    Ok(())
}

async fn store_stream(
    writer: &SnapshotWriter,
    name: &str,
    mut input: ByteSource,
    board: &ProgressBoard<'_>,
) -> Result<(), Failure> {
    let mut stream = writer.stream(name, StreamOptions::default()).await?;
    while let Some(piece) = input.next().await? {
        stream.write(piece).await?;
        board.bytes(name, writer.totals().read, None);
    }
    stream.finish().await?;
    Ok(())
}
