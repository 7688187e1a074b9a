//! What all parts of one writer share: keys, tables, totals, and the first failure.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dbbackup_contract::ByteCounts;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::block::OpenBlock;
use super::finished::FinishedStream;
use super::hook_search::HookSearch;
use super::meta::MetaWriter;
use super::pack_use::PackUses;
use super::packer::Packer;
use super::predecessors::Predecessors;
use super::recent::RecentChunks;
use super::workers::Job;
use crate::collector::Absent;
use crate::head::CopiedFrom;
use crate::keyring::DigestKey;
use crate::moves::Home;
use crate::names::{PartName, SnapshotId};
use crate::pack::PackEntry;
use crate::repository::Inner;
use crate::tables::UsedPack;
use crate::{Error, Result};

/// Bytes of recipes that stand in the head.
pub(super) const INLINE_RECIPE_BYTES: u64 = 64 * 1024;

/// What a copy takes over from the snapshot that it is a copy of.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) copied_from: CopiedFrom,
    /// What the digests of its streams are keyed with.
    pub(crate) digest_key: DigestKey,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) inner: Arc<Inner>,
    pub(super) id: SnapshotId,
    /// Cancelled by the caller, by a failure, or by the writer's end.
    pub(super) stop: CancellationToken,
    failure: OnceLock<Arc<Error>>,
    pub(super) fenced: CancellationToken,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) packer: Mutex<Packer>,
    pub(super) packs: Mutex<PackUses>,
    pub(super) recent: Mutex<RecentChunks>,
    pub(super) tail: Mutex<OpenBlock>,
    /// Blocks of streams that were dropped: others may refer to their chunks.
    pub(super) abandoned: Mutex<Vec<OpenBlock>>,
    /// Blocks on their way into a pack.
    pub(super) sealing: TaskTracker,
    pub(super) meta: tokio::sync::Mutex<MetaWriter>,
    pub(super) streams: Mutex<Streams>,
    /// Segments of streams between cutting and their place in a block.
    pub(super) segments: Arc<Semaphore>,
    pub(super) depth: usize,
    pub(super) level: i32,
    absent: Absent,
    pub(super) predecessors: Predecessors,
    pub(super) hooks: HookSearch,
    /// Of copies alone.
    pub(super) origin: Option<Origin>,
    passed_over: AtomicU64,
    pub(super) totals: Totals,
    pub(super) inline_recipe_bytes: AtomicU64,
}

/// The streams of a writer, open and finished.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) open: HashSet<String>,
    /// About 200 bytes a stream and its name.
    pub(super) finished: BTreeMap<String, FinishedStream>,
}

/// Bytes so far, for progress.
#[derive(Debug, Default)]
pub(super) struct Totals {
    read: AtomicU64,
    new: AtomicU64,
    stored: AtomicU64,
}

impl Totals {
    pub(super) fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_new(&self, bytes: u64) {
        self.new.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_stored(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> ByteCounts {
        ByteCounts {
            read: self.read.load(Ordering::Relaxed),
            new: self.new.load(Ordering::Relaxed),
            stored: self.stored.load(Ordering::Relaxed),
        }
    }
}

/// What a writer is made of.
pub(super) struct Parts {
    pub(super) inner: Arc<Inner>,
    pub(super) id: SnapshotId,
    pub(super) stop: CancellationToken,
    pub(super) fenced: CancellationToken,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) packer: Packer,
    pub(super) depth: usize,
    pub(super) segments: usize,
    pub(super) level: i32,
    pub(super) absent: Absent,
    pub(super) predecessors: Predecessors,
    pub(super) origin: Option<Origin>,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let session: Arc<str> = Arc::from(parts.id.as_str());
        Self {
            inner: parts.inner,
            id: parts.id,
            stop: parts.stop,
            failure: OnceLock::new(),
            fenced: parts.fenced,
            jobs: parts.jobs,
            packer: Mutex::new(parts.packer),
            packs: Mutex::default(),
            recent: Mutex::default(),
            tail: Mutex::default(),
            abandoned: Mutex::default(),
            sealing: TaskTracker::new(),
            meta: tokio::sync::Mutex::new(MetaWriter::new(session)),
            streams: Mutex::default(),
            segments: Arc::new(Semaphore::new(parts.segments)),
            depth: parts.depth,
            level: parts.level,
            absent: parts.absent,
            passed_over: AtomicU64::new(parts.predecessors.damaged()),
            predecessors: parts.predecessors,
            hooks: HookSearch::default(),
            origin: parts.origin,
            totals: Totals::default(),
            inline_recipe_bytes: AtomicU64::new(0),
        }
    }

    /// A thread that panicked with a lock has failed the writer; what the lock
    /// guards is not used for a snapshot any more.
    pub(super) fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first failure counts, and stops everything.
    pub(super) fn fail(&self, error: Error) {
        if !matches!(error, Error::Cancelled | Error::Failed(_)) {
            tracing::debug!(%error, "the writer has failed");
            let _ = self.failure.set(Arc::new(error));
        }
        self.stop.cancel();
    }

    /// Why nothing goes on.
    pub(super) fn stopped(&self) -> Error {
        match self.failure.get() {
            Some(error) => Error::Failed(Arc::clone(error)),
            None if self.fenced.is_cancelled() => Error::Fenced(self.id.to_string()),
            None => Error::Cancelled,
        }
    }

    /// Whether nothing new may refer to a pack: it is condemned (W2), or its blocks
    /// were moved. Every way of finding a known chunk asks here.
    pub(super) fn is_absent(&self, pack: &PartName) -> bool {
        self.absent.contains(pack)
    }

    /// The packs that blocks of this one were moved to.
    pub(super) fn homes(&self, pack: &PackEntry) -> impl Iterator<Item = &Home> {
        self.absent.homes(pack)
    }

    /// The packs that hold what a snapshot uses of this one, and may be taken from.
    pub(super) fn now(&self, pack: &UsedPack) -> Vec<UsedPack> {
        self.absent.now(pack)
    }

    /// Where a block of an older snapshot may be taken from: its pack and its number
    /// there, unless it is absent.
    pub(super) fn standing<'a>(
        &'a self,
        pack: &'a Arc<PackEntry>,
        block: u32,
    ) -> Option<(&'a Arc<PackEntry>, u32)> {
        if !self.is_absent(&pack.name) {
            return Some((pack, block));
        }
        self.homes(pack).find_map(|home| Some((&home.entry, home.place(block)?)))
    }

    /// Notes that something of an older snapshot cannot be read. No backup fails
    /// for that: what it knew is stored again.
    pub(super) fn pass_over(&self, error: &Error, what: &str) {
        tracing::warn!(%error, what, "passed over; chunks that it knew may be stored again");
        self.passed_over.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was passed over.
    pub(super) fn passed_over(&self) -> u64 {
        self.passed_over.load(Ordering::Relaxed)
    }

    /// A stream's digest, to be fed.
    pub(super) fn stream_hasher(&self) -> blake3::Hasher {
        let own = self.inner.keys.stream_digest();
        self.origin.as_ref().map_or(own, |origin| &origin.digest_key).hasher()
    }

    /// An error if the writer was stopped.
    pub(super) fn check(&self) -> Result<()> {
        if self.stop.is_cancelled() { Err(self.stopped()) } else { Ok(()) }
    }

    /// Waits for `work`, unless the writer is stopped.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(self.stopped()),
            done = work => Ok(done),
        }
    }

    /// Hands a job to the workers; waits while all are busy.
    pub(super) async fn submit(&self, job: Job) -> Result<()> {
        self.unless_stopped(self.jobs.send(job)).await?.map_err(|_| self.stopped())
    }

    /// Sends blocks to be compressed and packed.
    pub(super) async fn submit_blocks(&self, blocks: Vec<OpenBlock>) -> Result<()> {
        let token = self.sealing.token();
        self.submit(Job::Seal(blocks, token)).await
    }

    /// Takes the first `bytes` of the room for recipes in the head.
    pub(super) fn take_inline(&self, bytes: u64) -> bool {
        self.inline_recipe_bytes
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used + bytes).filter(|used| *used <= INLINE_RECIPE_BYTES)
            })
            .is_ok()
    }
}
