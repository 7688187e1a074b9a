//! `store`: any bytes through the pipeline: standard input, a file, a folder, or what
//! a program writes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dbbackup_contract::{ExitCode, Failure, Reason};
use dbbackup_repository::{
    Begun, CommitInfo, Cutting, SessionOptions, Snapshot, SnapshotWriter, StreamWriter,
};
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::byte_source::ByteSource;
use crate::cli::StoreArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::program::Program;
use crate::progress::ProgressBoard;
use crate::stored_folder::StoredFolder;
use crate::tree::{DATA, Entry, EntryKind, KIND_STREAM, KIND_TREE, TREE};
use crate::work;

pub(super) async fn store(
    args: StoreArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let board = ProgressBoard::new(None);
    // What is to be stored is looked at before a session begins.
    let listed = match &args.path {
        Some(path) => Some(unless_stopped(cancel, listed(path.clone())).await?),
        None => None,
    };
    let repository = open(&args.repository, cancel).await?;
    let run_id = uuid::Uuid::new_v4().to_string();
    let session = SessionOptions {
        cancel: cancel.clone(),
        compression_level: args.compression_level,
        ..SessionOptions::new(&args.name, run_id, Timestamp::now())
    };
    let writer = match unless_stopped(cancel, repository.begin(session)).await? {
        Begun::Started(writer) => writer,
        // A run that was named a moment ago cannot have committed.
        Begun::Committed(snapshot) => {
            board.clear();
            return show(&snapshot, args.json, started.elapsed());
        }
    };
    let kind = if listed.is_some() { KIND_TREE } else { KIND_STREAM };
    match listed {
        Some(listed) => {
            unless_stopped(cancel, store_tree(&writer, listed, args.chunking, &board)).await?;
        }
        _ if !args.command.is_empty() => store_program(&writer, &args, &board, cancel).await?,
        _ => unless_stopped(cancel, store_input(&writer, &args, &board)).await?,
    }
    let info = CommitInfo::new(kind, json!({}), json!({}));
    let snapshot = work::committed(cancel, writer, info).await?;
    board.clear();
    show(&snapshot, args.json, started.elapsed())
}

/// Stores standard input.
async fn store_input(
    writer: &SnapshotWriter,
    args: &StoreArgs,
    board: &ProgressBoard<'_>,
) -> Result<(), Failure> {
    let stream = writer.stream(DATA, args.chunking).await?;
    store_stream(stream, writer, &args.name, ByteSource::standard_input()?, board).await?;
    if writer.totals().read > 0 { Ok(()) } else { Err(nothing_came()) }
}

/// Stores what a program writes, and is done only when it has ended well.
async fn store_program(
    writer: &SnapshotWriter,
    args: &StoreArgs,
    board: &ProgressBoard<'_>,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let mut program = Program::start(&args.command)?;
    let storing = async {
        let mut stream = writer.stream(DATA, args.chunking).await?;
        while let Some(piece) = program.next().await? {
            stream.write(piece).await?;
            board.bytes(&args.name, writer.totals().read, None);
        }
        stream.finish().await?;
        Ok::<_, Failure>(())
    };
    if let Err(failure) = unless_stopped(cancel, storing).await {
        program.end().await;
        return Err(failure);
    }
    program.succeeded(cancel).await
}

/// A program that failed before its first byte looks like this.
fn nothing_came() -> Failure {
    Failure::new(Reason::UsageError, "standard input was empty: nothing is stored").with_hint(
        "See whether the program that writes to it has failed. Or let it be started here: store REPO NAME -- COMMAND.",
    )
}

fn show(snapshot: &Snapshot, as_json: bool, took: Duration) -> Result<ExitCode, Failure> {
    let (id, bytes) = (snapshot.id().to_string(), &snapshot.about().bytes);
    if as_json {
        print::json(&json!({"id": id, "bytes": bytes}))?;
    } else {
        print::line(&format!("snapshot {id}: {}", print::byte_counts(bytes, took)));
    }
    Ok(ExitCode::Success)
}

/// What is stored, and what is in it.
type Listed = (StoredFolder, Vec<Entry>);

async fn listed(path: PathBuf) -> Result<Listed, Failure> {
    let listing = tokio::task::spawn_blocking(move || {
        let mut folder = StoredFolder::open(&path)?;
        let entries = folder.list()?;
        Ok((folder, entries))
    })
    .await;
    listing.map_err(|error| Failure::new(Reason::Internal, format!("the listing died: {error}")))?
}

async fn store_tree(
    writer: &SnapshotWriter,
    (mut folder, entries): Listed,
    chunking: Cutting,
    board: &ProgressBoard<'_>,
) -> Result<(), Failure> {
    let mut list = writer.stream(TREE, Cutting::default()).await?;
    for entry in &entries {
        let mut line = serde_json::to_vec(entry)
            .map_err(|error| Failure::new(Reason::Internal, format!("no JSON: {error}")))?;
        line.push(b'\n');
        list.write(Bytes::from(line)).await?;
    }
    list.finish().await?;
    for entry in &entries {
        if let EntryKind::File { stream } = &entry.kind {
            let (file, name) = folder.file(entry)?;
            let stream = writer.stream(stream, chunking).await?;
            store_stream(stream, writer, &name, ByteSource::read(file, &name), board).await?;
        }
    }
    Ok(())
}

async fn store_stream(
    mut stream: StreamWriter,
    writer: &SnapshotWriter,
    shown: &str,
    mut input: ByteSource,
    board: &ProgressBoard<'_>,
) -> Result<(), Failure> {
    while let Some(piece) = input.next().await? {
        stream.write(piece).await?;
        board.bytes(shown, writer.totals().read, None);
    }
    stream.finish().await?;
    Ok(())
}
