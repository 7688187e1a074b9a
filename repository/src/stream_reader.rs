//! Reading a stream: its recipe is walked ahead, blocks are fetched together
//! where they stand together, decoded on other threads, and handed out in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::blocks::{GROUP_BYTES, PackBlocks, read_blocks};
use crate::buffers::Buffers;
use crate::head::MetaEntry;
use crate::keyring::DigestKey;
use crate::pack::PackEntry;
use crate::recipe::{End, RunReader};
use crate::repository::Inner;
use crate::spans::{Span, spans};
use crate::tables::{StreamEntry, UsedPack};
use crate::wire::Malformed;
use crate::{Error, Result};

/// Plain bytes that are fetched and decoded ahead of the reader.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;
/// Buffers for groups that wait to be used again.
const IDLE_BUFFERS: usize = 8;
/// Parts of groups that wait for the reader.
const PARTS_AHEAD: usize = 64;
/// Plain bytes of decoded blocks that are kept for parts of them that come later.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Blocks that were fetched together, their plain bytes behind each other.
type Group = Shared<BoxFuture<'static, Result<Bytes>>>;

/// The stream's next bytes, perhaps still on their way: a part of a group.
struct Part {
    group: Group,
    /// Tells groups apart.
    number: u64,
    start: usize,
    end: usize,
    /// Where the group was fetched for this part: how far ahead that is.
    _ahead: Option<OwnedSemaphorePermit>,
}

/// One open stream of a snapshot. Every byte that it gives was verified.
pub struct StreamReader {
    parts: mpsc::Receiver<Result<Part>>,
    /// Absent where parts of a stream are read, whose digest nobody knows.
    hasher: Option<Box<blake3::Hasher>>,
    entry: StreamEntry,
    given: u64,
    done: bool,
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("name", &self.entry.name).finish_non_exhaustive()
    }
}

impl StreamReader {
    pub(crate) fn open(
        inner: Arc<Inner>,
        metas: Vec<MetaEntry>,
        packs: Arc<Vec<UsedPack>>,
        entry: StreamEntry,
        digest_key: Option<&DigestKey>,
    ) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_AHEAD);
        let hasher = digest_key.map(|key| Box::new(key.hasher()));
        let planned = entry.clone();
        tokio::spawn(async move {
            let mut planner = Planner {
                inner,
                metas,
                packs,
                entry: planned,
                cache: BlockCache::default(),
                buffers: Buffers::new(IDLE_BUFFERS),
                ahead: Arc::new(Semaphore::new(AHEAD_BYTES)),
                groups: 0,
                open: None,
                sender,
            };
            if let Err(Stop::Failed(error)) = planner.run().await {
                let _ = planner.sender.send(Err(error)).await;
            }
        });
        Self { parts, hasher, entry, given: 0, done: false }
    }

    /// The stream's length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.entry.length
    }

    /// The next bytes, in order; `None` at the end.
    ///
    /// # Errors
    /// `RepositoryDamaged`, `ObjectMissing`, or what the store says; nothing that
    /// follows can be used then.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.done {
            return Ok(None);
        }
        let Some(part) = self.parts.recv().await else {
            self.done = true;
            return self.verify_end().map(|()| None);
        };
        let part = part?;
        let bytes = part.group.await?.slice(part.start..part.end);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.given += bytes.len() as u64;
        Ok(Some(bytes))
    }

    fn verify_end(&self) -> Result<()> {
        let is_it = |hasher: &blake3::Hasher| *hasher.finalize().as_bytes() == self.entry.digest;
        let whole = self.given == self.entry.length && self.hasher.as_deref().is_none_or(is_it);
        if whole {
            return Ok(());
        }
        let name = format!("the stream {:?}", self.entry.name);
        Err(Error::damaged(name, "its bytes are not those that were backed up"))
    }
}

/// Why planning ended early.
enum Stop {
    Failed(Error),
    /// The reader was dropped.
    Unread,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Planner {
    inner: Arc<Inner>,
    metas: Vec<MetaEntry>,
    packs: Arc<Vec<UsedPack>>,
    entry: StreamEntry,
    cache: BlockCache,
    buffers: Buffers,
    ahead: Arc<Semaphore>,
    groups: u64,
    /// The part that the next block may make longer.
    open: Option<Part>,
    sender: mpsc::Sender<Result<Part>>,
}

impl Planner {
    async fn run(&mut self) -> std::result::Result<(), Stop> {
        for segment in std::mem::take(&mut self.entry.segments) {
            let runs = self.inner.piece(&segment.place, &self.metas).await?;
            let mut reader = RunReader::new(&runs);
            let (mut end, mut covered) = (End::default(), 0_u64);
            while let Some(run) = reader.next(end).map_err(|error| self.malformed(error))? {
                covered += run.length;
                if covered > segment.covers {
                    return Err(self.malformed(Malformed("a segment is too long")).into());
                }
                let packs = Arc::clone(&self.packs);
                let pack = packs
                    .get(run.pack as usize)
                    .ok_or_else(|| self.malformed(Malformed("it names a pack that is none")))?;
                let blocks = self.inner.footers.blocks(&self.inner, &pack.entry).await?;
                let (parts, run_end) = spans(&run, |block| blocks.plain(block))
                    .map_err(|error| self.malformed(error))?;
                end = run_end;
                self.plan(run.pack, &pack.entry, &blocks, &parts).await?;
            }
            if covered != segment.covers {
                return Err(self.malformed(Malformed("a segment is too short")).into());
            }
        }
        self.send_open().await
    }

    fn malformed(&self, error: Malformed) -> Error {
        Error::damaged(format!("the recipe of {:?}", self.entry.name), error.to_string())
    }

    /// Sends the parts of a run; blocks behind each other that are not known are
    /// fetched together.
    async fn plan(
        &mut self,
        pack: u32,
        entry: &PackEntry,
        blocks: &PackBlocks,
        parts: &[Span],
    ) -> std::result::Result<(), Stop> {
        for (n, part) in parts.iter().enumerate() {
            let mut ahead = None;
            if !self.cache.has(pack, part.block) {
                let (wanted, bytes) = self.wanted(pack, blocks, &parts[n..]);
                // Before it waits for the reader, the reader has all that there is.
                self.send_open().await?;
                let permits = Arc::clone(&self.ahead).acquire_many_owned(bytes as u32);
                ahead = permits.await.ok();
                let numbers = wanted.iter().map(|(block, _)| *block).collect();
                let group = fetch(&self.inner, entry, numbers, &self.buffers);
                self.groups += 1;
                self.cache.add(pack, &wanted, self.groups, &group);
            }
            let Some(CachedBlock { group, number, at }) = self.cache.get(pack, part.block) else {
                return Err(Error::System("a block was forgotten".into()).into());
            };
            let start = at + part.offset as usize;
            let end = start + part.length as usize;
            match &mut self.open {
                Some(open) if open.number == number && open.end == start => open.end = end,
                _ => {
                    self.send_open().await?;
                    self.open = Some(Part { group, number, start, end, _ahead: ahead });
                }
            }
        }
        Ok(())
    }

    /// The blocks of a run that are fetched together with their plain lengths, and
    /// how long they are in all.
    fn wanted(&self, pack: u32, blocks: &PackBlocks, parts: &[Span]) -> (Vec<(u32, usize)>, usize) {
        let (mut wanted, mut bytes) = (Vec::new(), 0);
        for next in parts {
            let plain = blocks.plain(next.block).unwrap_or_default() as usize;
            if bytes + plain > GROUP_BYTES && !wanted.is_empty() || self.cache.has(pack, next.block)
            {
                break;
            }
            bytes += plain;
            wanted.push((next.block, plain));
        }
        (wanted, bytes)
    }

    async fn send_open(&mut self) -> std::result::Result<(), Stop> {
        match self.open.take() {
            Some(part) => self.sender.send(Ok(part)).await.map_err(|_| Stop::Unread),
            None => Ok(()),
        }
    }
}

/// Begins to fetch and decode blocks that stood behind each other.
fn fetch(inner: &Arc<Inner>, entry: &PackEntry, blocks: Vec<u32>, buffers: &Buffers) -> Group {
    let (inner, entry, buffers) = (Arc::clone(inner), entry.clone(), buffers.clone());
    let fetched = tokio::spawn(async move { read_blocks(&inner, &entry, &blocks, &buffers).await });
    async move { fetched.await.map_err(|error| Error::System(error.to_string()))? }.boxed().shared()
}

/// A block of a group.
#[derive(Clone)]
struct CachedBlock {
    group: Group,
    number: u64,
    /// Where it begins in the group.
    at: usize,
}

/// Groups of blocks, the oldest forgotten first.
#[derive(Default)]
struct BlockCache {
    blocks: HashMap<(u32, u32), CachedBlock>,
    groups: VecDeque<(u32, Vec<u32>, usize)>,
    bytes: usize,
}

impl BlockCache {
    fn has(&self, pack: u32, block: u32) -> bool {
        self.blocks.contains_key(&(pack, block))
    }

    fn get(&self, pack: u32, block: u32) -> Option<CachedBlock> {
        self.blocks.get(&(pack, block)).cloned()
    }

    fn add(&mut self, pack: u32, blocks: &[(u32, usize)], number: u64, group: &Group) {
        let mut at = 0;
        for (block, plain) in blocks {
            let cached = CachedBlock { group: group.clone(), number, at };
            self.blocks.insert((pack, *block), cached);
            at += plain;
        }
        self.groups.push_back((pack, blocks.iter().map(|(block, _)| *block).collect(), at));
        self.bytes += at;
        while self.bytes > CACHE_BYTES && self.groups.len() > 1 {
            let Some((pack, blocks, bytes)) = self.groups.pop_front() else { return };
            for block in blocks {
                self.blocks.remove(&(pack, block));
            }
            self.bytes -= bytes;
        }
    }
}
