//! Writing a snapshot: streams in, packs and a head out.
//!
//! ```text
//! StreamWriter: cut ─▶ hash (workers) ─▶ look up ─▶ block ─▶ compress (workers)
//!                                            │                   │
//!                                            ▼                   ▼
//!                                          recipe            pack ─▶ upload
//! ```
//!
//! Every arrow is bounded. What that sums up to is computed by
//! [`writer_memory_bytes`], and `contract::runner_memory_bytes` covers it.

mod block;
mod candidates;
mod commit;
mod finder;
mod finished;
mod hook_search;
mod hook_table;
mod memory;
mod meta;
mod other_series;
mod pack_use;
mod packer;
mod predecessors;
mod prefix_filter;
mod recent;
mod recipe_builder;
mod segments;
mod shared;
mod stream;
mod stream_digest;
mod taken_over;
#[cfg(test)]
mod tebibyte;
mod walker;
mod workers;

use std::sync::Arc;

use dbbackup_contract::ByteCounts;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::block::BlockAddress;
pub(crate) use self::commit::inline_pack_pages;
pub use self::commit::{CommitFacts, CommitInfo};
pub use self::memory::writer_memory_bytes;
use self::packer::{Packer, packs_under_way};
pub(crate) use self::predecessors::Predecessors;
pub(crate) use self::recipe_builder::{CodedSegment, RecipeBuilder, Source};
pub(crate) use self::shared::Origin;
use self::shared::{Parts, Shared};
pub use self::stream::{StreamSummary, StreamWriter};
use crate::chunker::Cutting;
use crate::guards::{Guard, holds};
use crate::names::{MAX_STREAM_NAME_BYTES, SNAPSHOTS, SnapshotId, series_prefix};
use crate::repository::{Inner, Repository};
use crate::session::{BegunAttempt, Heart};
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// zstd's level for blocks where nothing else is said. Of so small inputs it is as fast as
/// level 1 and stores 2 % less; level 3 stores another 1 % less and is a quarter slower.
pub const DEFAULT_COMPRESSION_LEVEL: i32 = 2;
/// Most worker threads.
const MAX_WORKERS: u32 = 64;

/// What a run is, and how it is written.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The series: its newest snapshot is the predecessor.
    pub series: String,
    /// The run: the same in every attempt.
    pub run_id: String,
    /// The run's slot: the same in every attempt.
    pub slot_time: Timestamp,
    /// Threads that hash and compress, at least 1.
    pub workers: u32,
    /// zstd's level, 1 to 19.
    pub compression_level: i32,
    /// Stops the writer when cancelled.
    pub cancel: CancellationToken,
}

impl SessionOptions {
    /// Options with the usual number of workers and level.
    #[must_use]
    pub fn new(series: impl Into<String>, run_id: impl Into<String>, slot_time: Timestamp) -> Self {
        Self {
            series: series.into(),
            run_id: run_id.into(),
            slot_time,
            workers: dbbackup_contract::DEFAULT_WORKERS,
            compression_level: DEFAULT_COMPRESSION_LEVEL,
            cancel: CancellationToken::new(),
        }
    }
}

/// How a run begins.
#[derive(Debug)]
pub enum Begun {
    /// An earlier attempt of the run has committed this snapshot: nothing is to do.
    Committed(Snapshot),
    /// A new attempt; every earlier one is fenced.
    Started(SnapshotWriter),
}

/// An attempt of a run. Dropped without [`SnapshotWriter::commit`] it leaves
/// garbage for the collector, and no snapshot.
#[derive(Debug)]
pub struct SnapshotWriter {
    repository: Repository,
    shared: Arc<Shared>,
    options: SessionOptions,
    start_time: Timestamp,
    heart: Heart,
    _stop: DropGuard,
}

impl Repository {
    /// Begins an attempt of a run, after giving up every earlier one.
    ///
    /// # Errors
    /// What the store says; `RepositoryDamaged` if an earlier attempt, or what
    /// the collector condemned, cannot be read; `SnapshotForgotten` if the run
    /// had committed and its snapshot was let go since.
    pub async fn begin(&self, options: SessionOptions) -> Result<Begun> {
        self.begin_as(options, None).await
    }

    /// The same, of a copy where `origin` says of what.
    pub(crate) async fn begin_as(
        &self,
        options: SessionOptions,
        origin: Option<Origin>,
    ) -> Result<Begun> {
        let SessionOptions { series, run_id, slot_time, .. } = &options;
        match self.begin_attempt(series, run_id, *slot_time).await? {
            Ok(attempt) => {
                Ok(Begun::Started(SnapshotWriter::start(self, options, attempt, origin)?))
            }
            Err(snapshot) => Ok(Begun::Committed(snapshot)),
        }
    }

    /// The newest snapshot of a series that can be read; `before` leaves out
    /// those whose slot is not before it.
    pub(crate) async fn newest(
        &self,
        series: &str,
        before: Option<Timestamp>,
    ) -> Result<Option<Snapshot>> {
        for id in self.names_of(series).await? {
            match self.snapshot(&id).await {
                Ok(Some(snapshot)) => {
                    if before.is_none_or(|before| snapshot.about().slot_time < before) {
                        return Ok(Some(snapshot));
                    }
                }
                Ok(None) => {}
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(error) => tracing::warn!(%error, snapshot = %id, "passed over"),
            }
        }
        Ok(None)
    }

    /// Names of a series' snapshots and tombstones, newest first.
    async fn names_of(&self, series: &str) -> Result<Vec<SnapshotId>> {
        let inner: &Inner = &self.inner;
        let prefix = format!("{SNAPSHOTS}{}", series_prefix(&inner.keys, series));
        let listed = dbbackup_storage::collect_listing(inner.store.list(&prefix)).await?;
        let parse = |name: &str| SnapshotId::parse(name.strip_prefix(SNAPSHOTS)?).ok();
        Ok(listed.iter().rev().filter_map(|object| parse(&object.name)).collect())
    }

    /// A snapshot that another one may be built on; `None` where a tombstone or
    /// nothing stands in its place, or where it does not count.
    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<Snapshot>> {
        Ok(match self.head_at(id).await? {
            Some(snapshot) if self.inner.counts(id).await? => Some(snapshot),
            Some(_) | None => None,
        })
    }
}

impl Inner {
    /// Whether a snapshot was neither let go nor written off, so that another one
    /// may be built on it. One of which that cannot be read does not count.
    async fn counts(&self, id: &SnapshotId) -> Result<bool> {
        match self.is_forgotten(id).await {
            Ok(forgotten) => {
                let hidden = forgotten && holds(Guard::ForgottenHead);
                Ok(!hidden && !self.is_written_off(id).await?)
            }
            Err(error @ Error::Storage(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, snapshot = %id, "passed over");
                Ok(false)
            }
        }
    }
}

impl SnapshotWriter {
    fn start(
        repository: &Repository,
        options: SessionOptions,
        attempt: BegunAttempt,
        origin: Option<Origin>,
    ) -> Result<Self> {
        let BegunAttempt { id, absent, predecessors } = attempt;
        let workers = options.workers.clamp(1, MAX_WORKERS) as usize;
        let runtime = Handle::current();
        let stop = options.cancel.child_token();
        let (jobs, queue) = mpsc::channel(workers * workers::JOBS_PER_WORKER);
        let inner = Arc::clone(&repository.inner);
        let session: Arc<str> = Arc::from(id.as_str());
        let shared = Arc::new(Shared::new(Parts {
            inner: Arc::clone(&inner),
            id: id.clone(),
            stop: stop.clone(),
            fenced: CancellationToken::new(),
            jobs,
            packer: Packer::new(
                session,
                runtime.clone(),
                packs_under_way(inner.store.capabilities().network),
            ),
            depth: memory::segments_ahead(workers),
            segments: memory::segments_of_all(workers),
            level: options.compression_level.clamp(1, 19),
            absent,
            predecessors,
            origin,
        }));
        workers::start(&shared, queue, workers, &runtime)?;
        let fenced = shared.fenced.clone();
        let (watched, stopped) = (fenced.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = watched.cancelled() => stopped.cancel(),
                () = stopped.cancelled() => {}
            }
        });
        let start_time = inner.environment.now();
        let heart = Heart::start(inner, id, Some(fenced));
        let repository = repository.clone();
        Ok(Self { repository, shared, options, start_time, heart, _stop: stop.drop_guard() })
    }

    /// The id that the snapshot will have.
    #[must_use]
    pub fn id(&self) -> &SnapshotId {
        &self.shared.id
    }

    /// The newest snapshot of the series. A stream that it lacks is looked for in
    /// the ones before it.
    #[must_use]
    pub fn predecessor(&self) -> Option<&Snapshot> {
        self.shared.predecessors.newest()
    }

    /// How often something of an older snapshot could not be read, so that what
    /// it knew is stored again.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.shared.passed_over()
    }

    /// Bytes so far.
    #[must_use]
    pub fn totals(&self) -> ByteCounts {
        self.shared.totals.get()
    }

    /// Begins a stream. Several may be open at the same time, in any tasks.
    ///
    /// # Errors
    /// When the name was used before, or is no stream's name.
    pub async fn stream(&self, name: &str, cutting: Cutting) -> Result<StreamWriter> {
        self.shared.check()?;
        if name.is_empty() || name.len() > MAX_STREAM_NAME_BYTES {
            return Err(Error::Misuse(format!(
                "a stream's name has 1 to {MAX_STREAM_NAME_BYTES} bytes, not {}",
                name.len()
            )));
        }
        {
            let mut streams = self.shared.lock(&self.shared.streams);
            if streams.finished.contains_key(name) || !streams.open.insert(name.to_owned()) {
                return Err(Error::Misuse(format!("the stream {name:?} was written already")));
            }
        }
        Ok(StreamWriter::open(Arc::clone(&self.shared), name.to_owned(), cutting).await)
    }

    /// Lets all recipes stand in meta objects.
    #[cfg(test)]
    pub(crate) fn leave_no_room_in_the_head(&self) {
        self.shared.take_inline(shared::INLINE_RECIPE_BYTES);
    }

    /// Takes back every finished stream whose name begins with `prefix`.
    ///
    /// # Errors
    /// When a stream with that prefix is still open.
    pub fn discard_streams(&self, prefix: &str) -> Result<()> {
        let mut streams = self.shared.lock(&self.shared.streams);
        if let Some(open) = streams.open.iter().find(|name| name.starts_with(prefix)) {
            return Err(Error::Misuse(format!("the stream {open:?} is still open")));
        }
        streams.finished.retain(|name, _| !name.starts_with(prefix));
        Ok(())
    }
}
