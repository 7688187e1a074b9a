//! Walks a recipe ahead of the reader, and begins to fetch what is needed next.

use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc};

use super::Part;
use super::cache::{BlockCache, CachedBlock, Group};
use super::lookahead::{Lookahead, Step};
use crate::blocks::read_blocks;
use crate::buffers::Buffers;
use crate::head::MetaEntry;
use crate::pack::PackEntry;
use crate::recipe::{End, RunReader};
use crate::repository::Inner;
use crate::spans::spans;
use crate::tables::{StreamEntry, UsedPack};
use crate::wire::Malformed;
use crate::{Error, Result};

/// Plain bytes that are fetched and decoded ahead of the reader.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;
/// Buffers for groups that wait to be used again.
const IDLE_BUFFERS: usize = 8;

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

type Planned = std::result::Result<(), Stop>;

/// Plans one stream.
pub(super) struct Planner {
    inner: Arc<Inner>,
    metas: Vec<MetaEntry>,
    packs: Arc<Vec<UsedPack>>,
    entry: StreamEntry,
    lookahead: Lookahead,
    cache: BlockCache,
    buffers: Buffers,
    ahead: Arc<Semaphore>,
    groups: u64,
    /// The part that the next block may make longer.
    open: Option<Part>,
    sender: mpsc::Sender<Result<Part>>,
}

impl Planner {
    pub(super) fn new(
        inner: Arc<Inner>,
        metas: Vec<MetaEntry>,
        packs: Arc<Vec<UsedPack>>,
        entry: StreamEntry,
        sender: mpsc::Sender<Result<Part>>,
    ) -> Self {
        Self {
            inner,
            metas,
            packs,
            entry,
            lookahead: Lookahead::default(),
            cache: BlockCache::default(),
            buffers: Buffers::new(IDLE_BUFFERS),
            ahead: Arc::new(Semaphore::new(AHEAD_BYTES)),
            groups: 0,
            open: None,
            sender,
        }
    }

    /// Sends the stream's parts, and what hinders that.
    pub(super) async fn run(mut self) {
        if let Err(Stop::Failed(error)) = self.walk().await {
            let _ = self.sender.send(Err(error)).await;
        }
    }

    async fn walk(&mut self) -> Planned {
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
                for span in parts {
                    let plain = blocks.plain(span.block).unwrap_or_default();
                    self.lookahead.push(Step { pack: run.pack, span, plain });
                    while self.lookahead.is_full() {
                        self.plan_next().await?;
                    }
                }
            }
            if covered != segment.covers {
                return Err(self.malformed(Malformed("a segment is too short")).into());
            }
        }
        while !self.lookahead.is_empty() {
            self.plan_next().await?;
        }
        self.send_open().await
    }

    fn malformed(&self, error: Malformed) -> Error {
        Error::damaged(format!("the recipe of {:?}", self.entry.name), error.to_string())
    }

    /// Plans the next part. Where its block is not known it is fetched, with those that
    /// stand behind it and are needed soon.
    async fn plan_next(&mut self) -> Planned {
        let Some(step) = self.lookahead.pop() else { return Ok(()) };
        let mut ahead = None;
        if !self.cache.has(step.block()) {
            let wanted = self.lookahead.group(&step, &self.cache);
            let bytes: usize = wanted.iter().map(|(_, plain)| plain).sum();
            // Before it waits for the reader, the reader has all that there is.
            self.send_open().await?;
            ahead = Arc::clone(&self.ahead).acquire_many_owned(bytes as u32).await.ok();
            let packs = Arc::clone(&self.packs);
            let Some(pack) = packs.get(step.pack as usize) else {
                return Err(self.malformed(Malformed("it names a pack that is none")).into());
            };
            let numbers = wanted.iter().map(|((_, block), _)| *block).collect();
            let group = fetch(&self.inner, &pack.entry, numbers, &self.buffers);
            self.groups += 1;
            self.cache.add(&wanted, self.groups, &group);
        }
        let Some(CachedBlock { group, number, at }) = self.cache.get(step.block()) else {
            return Err(Error::System("a block was forgotten".into()).into());
        };
        let start = at + step.span.offset as usize;
        let end = start + step.span.length as usize;
        match &mut self.open {
            Some(open) if open.number == number && open.end == start => open.end = end,
            _ => {
                self.send_open().await?;
                self.open = Some(Part { group, number, start, end, _ahead: ahead });
            }
        }
        Ok(())
    }

    async fn send_open(&mut self) -> Planned {
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
