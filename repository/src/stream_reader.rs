//! Reading a stream: its recipe is walked ahead, blocks are fetched together
//! where they stand together, decoded on other threads, and handed out in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::mpsc;

use crate::blocks::{PackBlocks, read_blocks};
use crate::head::MetaEntry;
use crate::pack::PackEntry;
use crate::recipe::{End, RunReader};
use crate::repository::Inner;
use crate::spans::{Span, spans};
use crate::tables::{StreamEntry, UsedPack};
use crate::wire::Malformed;
use crate::{Error, Result};

/// Parts of blocks that are planned ahead: about 4 MiB in blocks of 64 KiB.
const SLICES_AHEAD: usize = 64;
/// Plain bytes that are fetched and decoded together.
const GROUP_BYTES: u32 = 512 * 1024;
/// Plain bytes of decoded blocks that are kept for parts of them that come later.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Blocks that were fetched together.
type Group = Shared<BoxFuture<'static, Result<Arc<Vec<Bytes>>>>>;

/// A part of a block, perhaps still on its way.
struct Slice {
    group: Group,
    index: usize,
    span: Span,
}

/// One open stream of a snapshot. Every byte that it gives was verified.
pub struct StreamReader {
    slices: mpsc::Receiver<Result<Slice>>,
    hasher: Box<blake3::Hasher>,
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
    ) -> Self {
        let (sender, slices) = mpsc::channel(SLICES_AHEAD);
        let hasher = Box::new(inner.keys.stream_hasher());
        let planned = entry.clone();
        tokio::spawn(async move {
            let cache = BlockCache::default();
            let mut planner = Planner { inner, metas, packs, entry: planned, cache, sender };
            if let Err(Stop::Failed(error)) = planner.run().await {
                let _ = planner.sender.send(Err(error)).await;
            }
        });
        Self { slices, hasher, entry, given: 0, done: false }
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
        let Some(slice) = self.slices.recv().await else {
            self.done = true;
            return self.verify_end().map(|()| None);
        };
        let slice = slice?;
        let blocks = slice.group.await?;
        let (start, length) = (slice.span.offset as usize, slice.span.length as usize);
        let block = &blocks[slice.index];
        let bytes = block.slice(start..start + length);
        self.hasher.update(&bytes);
        self.given += bytes.len() as u64;
        Ok(Some(bytes))
    }

    fn verify_end(&self) -> Result<()> {
        let whole = self.given == self.entry.length
            && *self.hasher.finalize().as_bytes() == self.entry.digest;
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
    sender: mpsc::Sender<Result<Slice>>,
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
        Ok(())
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
            if !self.cache.has(pack, part.block) {
                let mut wanted = Vec::new();
                let mut bytes = 0;
                for next in &parts[n..] {
                    let plain = blocks.plain(next.block).unwrap_or_default();
                    if bytes + plain > GROUP_BYTES && !wanted.is_empty()
                        || self.cache.has(pack, next.block)
                    {
                        break;
                    }
                    bytes += plain;
                    wanted.push(next.block);
                }
                let group = fetch(&self.inner, entry, wanted.clone());
                self.cache.add(pack, wanted, &group, bytes as usize);
            }
            let Some((group, index)) = self.cache.get(pack, part.block) else {
                return Err(Error::System("a block was forgotten".into()).into());
            };
            let slice = Slice { group, index, span: *part };
            self.sender.send(Ok(slice)).await.map_err(|_| Stop::Unread)?;
        }
        Ok(())
    }
}

/// Begins to fetch and decode blocks that stood behind each other.
fn fetch(inner: &Arc<Inner>, entry: &PackEntry, blocks: Vec<u32>) -> Group {
    let (inner, entry) = (Arc::clone(inner), entry.clone());
    let fetched =
        tokio::spawn(async move { read_blocks(&inner, &entry, &blocks).await.map(Arc::new) });
    async move { fetched.await.map_err(|error| Error::System(error.to_string()))? }.boxed().shared()
}

/// Groups of blocks, the oldest forgotten first.
#[derive(Default)]
struct BlockCache {
    blocks: HashMap<(u32, u32), (Group, usize)>,
    groups: VecDeque<(u32, Vec<u32>, usize)>,
    bytes: usize,
}

impl BlockCache {
    fn has(&self, pack: u32, block: u32) -> bool {
        self.blocks.contains_key(&(pack, block))
    }

    fn get(&self, pack: u32, block: u32) -> Option<(Group, usize)> {
        self.blocks.get(&(pack, block)).cloned()
    }

    /// Keeps blocks of so many plain bytes.
    fn add(&mut self, pack: u32, blocks: Vec<u32>, group: &Group, bytes: usize) {
        for (index, block) in blocks.iter().enumerate() {
            self.blocks.insert((pack, *block), (group.clone(), index));
        }
        self.groups.push_back((pack, blocks, bytes));
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES && self.groups.len() > 1 {
            let Some((pack, blocks, bytes)) = self.groups.pop_front() else { return };
            for block in blocks {
                self.blocks.remove(&(pack, block));
            }
            self.bytes -= bytes;
        }
    }
}
