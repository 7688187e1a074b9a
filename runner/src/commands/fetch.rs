//! `fetch`: gives back what `store` stored.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::Path;
use std::time::Instant;

use dbbackup_contract::{ExitCode, Failure, Reason};
use dbbackup_repository::{Snapshot, StreamReader};
use tokio_util::sync::CancellationToken;

use crate::byte_sink::ByteSink;
use crate::cli::FetchArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;
use crate::tree::{self, DATA, Entry, EntryKind, FILES, KIND_STREAM, KIND_TREE, TREE, unwritable};
use crate::work;

/// Most bytes of the list of a folder: some ten million entries.
const MAX_TREE_BYTES: u64 = 2 << 30;

pub(super) async fn fetch(
    args: FetchArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    // A bar on the terminal that the bytes go to would be among them.
    let is_shown = args.target.is_some() || !std::io::stdout().is_terminal();
    let board = if is_shown { ProgressBoard::new(None) } else { ProgressBoard::silent() };
    let name = args.repository.repository.to_string();
    let named = |failure| work::named(failure, &name);
    let repository = open(&args.repository, cancel).await.map_err(named)?;
    let snapshot = unless_stopped(cancel, repository.find(&args.snapshot)).await.map_err(named)?;
    if !args.even_if_written_off {
        snapshot.must_not_be_written_off().map_err(Failure::from).map_err(named)?;
    }
    let session = unless_stopped(cancel, repository.begin_reading()).await.map_err(named)?;
    let giving = give_back(&snapshot, args.target.as_deref(), &board);
    let outcome = unless_stopped(cancel, giving).await;
    work::end(session).await;
    board.clear();
    let given = outcome.map_err(|failure| {
        // What is full now is where the bytes go.
        let failure = if failure.reason == Reason::StorageFull { failure } else { named(failure) };
        incomplete(failure, args.target.as_deref())
    })?;
    if let Some(target) = &args.target {
        print::line(&format!(
            "wrote {}, {}, to {} in {}",
            print::count(given.files, "file"),
            print::bytes(given.bytes),
            target.display(),
            print::duration(started.elapsed()),
        ));
    }
    Ok(ExitCode::Success)
}

/// The failure, with what it left behind where it did.
fn incomplete(failure: Failure, target: Option<&Path>) -> Failure {
    match target {
        // Refused before anything was written.
        _ if failure.reason == Reason::UsageError => failure,
        Some(target) if target.exists() => {
            let message = format!("{}; {} is not complete", failure.message, target.display());
            Failure { message, ..failure }
        }
        _ => failure,
    }
}

/// What was given back.
struct Given {
    files: u64,
    bytes: u64,
}

async fn give_back(
    snapshot: &Snapshot,
    target: Option<&Path>,
    board: &ProgressBoard<'_>,
) -> Result<Given, Failure> {
    let (id, kind) = (snapshot.id(), snapshot.about().kind.as_str());
    if !matches!(kind, KIND_STREAM | KIND_TREE) {
        let message = format!("snapshot {id} holds databases ({kind}), which no fetch gives back");
        return Err(Failure::new(Reason::UsageError, message)
            .with_hint("Restore them with: dbbackup-runner restore REPO SNAPSHOT SERVER."));
    }
    let is_tree = snapshot.streams(TREE).await?.iter().any(|stream| stream.name == TREE);
    match (target, is_tree) {
        (None, false) => to_standard_output(snapshot, DATA, board).await,
        (None, true) => match entries(snapshot).await?.as_slice() {
            [Entry { kind: EntryKind::File { stream }, .. }] => {
                to_standard_output(snapshot, stream, board).await
            }
            _ => Err(Failure::new(Reason::UsageError, "this snapshot holds a folder")
                .with_hint("Say where it goes with --target FOLDER.")),
        },
        (Some(target), true) => to_folder(snapshot, target, board).await,
        (Some(_), false) => Err(Failure::new(Reason::UsageError, "this snapshot holds one stream")
            .with_hint("Leave --target out, and send standard output where you want it.")),
    }
}

async fn to_standard_output(
    snapshot: &Snapshot,
    name: &str,
    board: &ProgressBoard<'_>,
) -> Result<Given, Failure> {
    let cannot = |error: std::io::Error| unwritable(Path::new("standard output"), &error);
    let output = ByteSink::standard_output().map_err(cannot)?;
    let mut stream = snapshot.stream(name).await?;
    let (total, mut done) = (stream.length(), 0);
    while let Some(piece) = stream.next().await? {
        done += piece.len() as u64;
        if !output.write(piece).await {
            break;
        }
        board.bytes(name, done, Some(total));
    }
    output.finish().await.map_err(cannot)?;
    Ok(Given { files: 1, bytes: done })
}

/// The list of a folder, as it was stored.
async fn entries(snapshot: &Snapshot) -> Result<Vec<Entry>, Failure> {
    let mut stream = snapshot.stream(TREE).await?;
    if stream.length() > MAX_TREE_BYTES {
        return Err(damaged(format!("its list has {} bytes", stream.length())));
    }
    let mut json = Vec::new();
    while let Some(piece) = stream.next().await? {
        json.extend_from_slice(&piece);
    }
    serde_json::Deserializer::from_slice(&json)
        .into_iter::<Entry>()
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(format!("its list cannot be read: {error}")))
}

fn damaged(what: String) -> Failure {
    Failure::new(Reason::RepositoryDamaged, format!("the snapshot is no folder: {what}"))
}

async fn to_folder(
    snapshot: &Snapshot,
    target: &Path,
    board: &ProgressBoard<'_>,
) -> Result<Given, Failure> {
    let occupied = std::fs::read_dir(target).is_ok_and(|mut found| found.next().is_some());
    if occupied || target.is_file() || target.is_symlink() {
        return Err(Failure::new(
            Reason::UsageError,
            format!("{} exists and is not an empty folder", target.display()),
        )
        .with_hint("Choose a folder that does not exist yet."));
    }
    let entries = entries(snapshot).await?;
    let files = snapshot.streams(FILES).await?;
    let total = files.iter().map(|stream| stream.length).sum();
    let mut readers = ReadersAhead::new(snapshot, &entries);
    let mut done = 0;
    // Links come last: nothing is ever written through one.
    for entry in &entries {
        let path = tree::place(target, entry)?;
        match &entry.kind {
            EntryKind::Folder => make_folder(&path, entry.path.is_empty())?,
            EntryKind::File { .. } => {
                let mut file = new_file(&path)?;
                let mut reader = readers.next().await?;
                while let Some(piece) = reader.next().await? {
                    tokio::task::block_in_place(|| file.write_all(&piece))
                        .map_err(|error| unwritable(&path, &error))?;
                    done += piece.len() as u64;
                    board.bytes(&entry.path, done, Some(total));
                }
            }
            EntryKind::Link { .. } => {}
        }
    }
    for entry in &entries {
        if let EntryKind::Link { target: to } = &entry.kind {
            let path = tree::place(target, entry)?;
            symlink(tree::link_target(to), &path).map_err(|error| unwritable(&path, &error))?;
        }
    }
    // Children before parents: writing into a folder changes its time.
    for entry in entries.iter().rev() {
        tree::finish(&tree::place(target, entry)?, entry)?;
    }
    let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File { .. }));
    Ok(Given { files: files.count() as u64, bytes: done })
}

/// Most files that are opened before their turn.
const FILES_AHEAD: usize = 16;
/// Where the files that were opened before their turn have so many bytes in all, no
/// further one is: each reader holds on to what it has read ahead.
const BYTES_AHEAD: u64 = 8 * 1024 * 1024;

/// Readers of a folder's files, opened while the files before them are written: a small
/// file takes no time but that of a request.
struct ReadersAhead<'a> {
    snapshot: &'a Snapshot,
    to_open: std::vec::IntoIter<&'a str>,
    opened: VecDeque<StreamReader>,
}

impl<'a> ReadersAhead<'a> {
    fn new(snapshot: &'a Snapshot, entries: &'a [Entry]) -> Self {
        let files = entries.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File { stream } => Some(stream.as_str()),
            _ => None,
        });
        let to_open = files.collect::<Vec<_>>().into_iter();
        Self { snapshot, to_open, opened: VecDeque::new() }
    }

    /// The next file's reader.
    async fn next(&mut self) -> Result<StreamReader, Failure> {
        loop {
            let bytes: u64 = self.opened.iter().map(StreamReader::length).sum();
            let files = self.opened.len();
            if files > FILES_AHEAD || files > 1 && bytes > BYTES_AHEAD {
                break;
            }
            let Some(stream) = self.to_open.next() else { break };
            self.opened.push_back(self.snapshot.stream(stream).await?);
        }
        self.opened.pop_front().ok_or_else(|| damaged("it has more files than streams".to_owned()))
    }
}

/// Only its owner enters it until it gets its own mode at the end.
fn make_folder(path: &Path, is_target: bool) -> Result<(), Failure> {
    let made = DirBuilder::new().mode(0o700).recursive(is_target).create(path);
    made.map_err(|error| unwritable(path, &error))
}

/// A file that did not exist; only its owner reads it until it gets its own mode.
fn new_file(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| unwritable(path, &error))
}
