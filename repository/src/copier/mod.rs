//! Copies of snapshots in a second repository, made without the database.
//!
//! In comes a snapshot of one repository, out goes one of another, with the same
//! streams. It is written by the ordinary [`SnapshotWriter`], so it is committed, tried
//! again, found by the next copy and deleted like any other; what it is a copy of stands
//! in its [`crate::About`].

mod old_copy;
mod placed_runs;
mod stream;
mod unchanged;

use dbbackup_contract::ByteCounts;
use tokio_util::sync::CancellationToken;

use self::old_copy::OldCopy;
use self::stream::Copier;
use crate::head::CopiedFrom;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::writer::Origin;
use crate::{Begun, CommitInfo, Error, SessionOptions, SnapshotId, SnapshotWriter};

/// How a copy is made.
pub struct CopyOptions<'a> {
    /// Threads that hash and compress, at least 1.
    pub workers: u32,
    /// zstd's level, 1 to 19.
    pub compression_level: i32,
    /// Stops the copy when cancelled.
    pub cancel: CancellationToken,
    /// Is told the stream at hand, the bytes of all streams that are done, and of how many.
    pub progress: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        Self {
            workers: dbbackup_contract::DEFAULT_WORKERS,
            compression_level: crate::DEFAULT_COMPRESSION_LEVEL,
            cancel: CancellationToken::new(),
            progress: &|_, _, _| {},
        }
    }
}

/// What a copy did.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The copy.
    pub snapshot: Snapshot,
    /// Whether it was made now.
    pub outcome: CopyOutcome,
    /// Bytes that were read and decrypted in the source, that were new in the
    /// destination, and that were stored there; all 0 where it was there already.
    pub bytes: ByteCounts,
    /// Bytes that were taken over without being read or decrypted.
    pub unchanged: u64,
}

/// Whether a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// It was made now.
    New,
    /// An earlier one had made it.
    Already,
}

/// Why a copy failed, and on which side.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CopyError {
    /// Both are one repository.
    #[error("both repositories are the repository {0}")]
    SameRepository(crate::RepositoryId),
    /// The source could not give it.
    #[error("the source: {0}")]
    Source(#[source] Error),
    /// The destination could not take it.
    #[error("the destination: {0}")]
    Destination(#[source] Error),
}

type CopyResult<T> = std::result::Result<T, CopyError>;

/// The run that makes the copy of a snapshot: the same one whenever it is tried.
#[must_use]
pub fn copy_run_id(source: &Repository, snapshot: &SnapshotId) -> String {
    dbbackup_contract::copy_run_id(&source.id().to_string(), snapshot.as_str())
}

/// Copies the snapshot whose id begins with `snapshot`. Nothing is committed unless all
/// of it was verified; a copy that was made before is found.
///
/// # Errors
/// Of the source: `SnapshotNotFound`, `SnapshotForgotten`, `SnapshotWrittenOff`, or why
/// it cannot be read. Of the destination: what [`Repository::begin`] and
/// [`SnapshotWriter::commit`] say; `SnapshotForgotten` if the copy was let go there.
pub async fn copy(
    source: &Repository,
    destination: &Repository,
    snapshot: &str,
    options: &CopyOptions<'_>,
) -> CopyResult<Copied> {
    if source.id() == destination.id() {
        return Err(CopyError::SameRepository(source.id()));
    }
    // The session is first: what is found after it stays until it ends.
    let session = source.begin_reading().await.map_err(CopyError::Source)?;
    let copied = copy_found(source, destination, snapshot, options).await;
    if let Err(error) = session.end().await {
        tracing::debug!(%error, "the end of reading could not be noted");
    }
    copied
}

async fn copy_found(
    source: &Repository,
    destination: &Repository,
    snapshot: &str,
    options: &CopyOptions<'_>,
) -> CopyResult<Copied> {
    let snapshot = source.find(snapshot).await.map_err(CopyError::Source)?;
    snapshot.must_not_be_written_off().map_err(CopyError::Source)?;
    let about = snapshot.about();
    let run_id = copy_run_id(source, snapshot.id());
    let session = SessionOptions {
        workers: options.workers,
        compression_level: options.compression_level,
        cancel: options.cancel.clone(),
        ..SessionOptions::new(&about.series, run_id, about.slot_time)
    };
    let origin = Origin {
        copied_from: CopiedFrom {
            repository_id: source.id().to_string(),
            snapshot: snapshot.id().to_string(),
        },
        digest_key: snapshot.digest_key().clone(),
    };
    let begun = destination.begin_as(session, Some(origin)).await;
    let writer = match begun.map_err(CopyError::Destination)? {
        Begun::Started(writer) => writer,
        Begun::Committed(copy) => {
            let (outcome, bytes) = (CopyOutcome::Already, ByteCounts::default());
            return Ok(Copied { snapshot: copy, outcome, bytes, unchanged: 0 });
        }
    };
    let old = OldCopy::find(source, &writer).await.map_err(CopyError::Source)?;
    let copier = Copier { snapshot: &snapshot, writer: &writer, old: old.as_ref(), options };
    // Whichever side waits: who cancels does not wait for it.
    let unchanged = tokio::select! {
        biased;
        () = options.cancel.cancelled() => return Err(CopyError::Destination(Error::Cancelled)),
        done = copier.all() => done?,
    };
    commit(&snapshot, writer, unchanged).await
}

/// Commits the copy with what the snapshot says of itself.
async fn commit(snapshot: &Snapshot, writer: SnapshotWriter, unchanged: u64) -> CopyResult<Copied> {
    let (about, report) = (snapshot.about(), snapshot.report().clone());
    let info = CommitInfo {
        kind: about.kind.clone(),
        made_by: about.made_by,
        labels: about.labels.clone(),
        report: Box::new(move |_| report),
    };
    let copy = writer.commit(info).await.map_err(CopyError::Destination)?;
    let all = copy.about().bytes.clone();
    let bytes = ByteCounts { read: all.read.saturating_sub(unchanged), ..all };
    Ok(Copied { snapshot: copy, outcome: CopyOutcome::New, bytes, unchanged })
}
