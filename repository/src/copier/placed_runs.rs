//! A stream's recipe as runs with their positions in the stream, read segment by segment.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::blocks::PackBlocks;
use crate::recipe::{End, Run, RunReader, packs_of};
use crate::snapshot::Snapshot;
use crate::spans::spans;
use crate::tables::{StreamEntry, UsedPack};
use crate::wire::Malformed;
use crate::{Error, Result};

/// Decoded segments that are kept of a recipe: of at most 32,768 runs, hence two
/// mebibytes, each.
const SEGMENTS_KEPT: usize = 8;

/// A run, and where it stands in the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) position: u64,
    pub(super) run: Run,
    pub(super) end: End,
}

/// A decoded segment.
#[derive(Debug)]
pub(super) struct Runs {
    /// In the order of the stream.
    pub(super) runs: Vec<Placed>,
    /// Their indices in the order of their addresses.
    by_address: Vec<u32>,
}

/// What a segment has at an address.
pub(super) enum At {
    /// The byte there stands at this position of the stream; so do those behind it, up to
    /// so many.
    Found { position: u64, length: u64 },
    /// Nothing; the next run of the pack begins so many bytes later, if there is one.
    Missing(Option<u64>),
}

impl Runs {
    fn new(runs: Vec<Placed>) -> Self {
        let mut by_address: Vec<u32> = (0..runs.len() as u32).collect();
        by_address.sort_by_key(|n| address(&runs[*n as usize].run));
        Self { runs, by_address }
    }

    /// What stands at the beginning of `run`, whose pack has these blocks.
    pub(super) fn at(&self, run: &Run, blocks: &PackBlocks) -> At {
        let key = address(run);
        let behind =
            self.by_address.partition_point(|n| address(&self.runs[*n as usize].run) <= key);
        let nth = |n: usize| self.by_address.get(n).map(|n| &self.runs[*n as usize]);
        if let Some(found) = behind.checked_sub(1).and_then(nth)
            && found.run.pack == run.pack
            && (run.block, run.offset) < (found.end.block, found.end.offset)
            && let Some(within) = distance(&found.run, run, blocks)
            && within < found.run.length
        {
            let (position, length) = (found.position + within, found.run.length - within);
            return At::Found { position, length };
        }
        let next = nth(behind).filter(|next| next.run.pack == run.pack);
        At::Missing(next.and_then(|next| distance(run, &next.run, blocks)))
    }
}

fn address(run: &Run) -> (u32, u32, u32) {
    (run.pack, run.block, run.offset)
}

/// Bytes from the beginning of one run to that of a later one of the same pack.
fn distance(from: &Run, to: &Run, blocks: &PackBlocks) -> Option<u64> {
    let mut between = u64::from(to.offset);
    for block in from.block..to.block {
        between += u64::from(blocks.plain(block)?);
    }
    between.checked_sub(u64::from(from.offset))
}

/// The rest of a run behind its first `skipped` bytes; `None` if it has no more.
pub(super) fn behind(run: &Run, skipped: u64, blocks: &PackBlocks) -> Option<Run> {
    let length = run.length.checked_sub(skipped).filter(|left| *left > 0)?;
    let (mut block, mut offset) = (run.block, u64::from(run.offset) + skipped);
    loop {
        let plain = u64::from(blocks.plain(block)?);
        if offset < plain {
            return Some(Run { block, offset: offset as u32, length, ..*run });
        }
        (block, offset) = (block + 1, offset - plain);
    }
}

/// A stream of a snapshot.
#[derive(Debug)]
pub(super) struct PlacedRuns {
    pub(super) snapshot: Snapshot,
    pub(super) packs: Arc<Vec<UsedPack>>,
    pub(super) entry: StreamEntry,
    /// Where each segment begins in the stream.
    starts: Vec<u64>,
    kept: VecDeque<(usize, Arc<Runs>)>,
}

impl PlacedRuns {
    pub(super) async fn of(snapshot: &Snapshot, entry: StreamEntry) -> Result<Self> {
        let packs = snapshot.packs().await?;
        let starts = entry.segments.iter().scan(0, |end, segment| {
            let start = *end;
            *end += segment.covers;
            Some(start)
        });
        let starts = starts.collect();
        Ok(Self { snapshot: snapshot.clone(), packs, entry, starts, kept: VecDeque::new() })
    }

    /// The blocks of a pack, by its index in the table.
    pub(super) async fn blocks(&self, pack: u32) -> Result<Arc<PackBlocks>> {
        let used = self.packs.get(pack as usize);
        let used = used.ok_or_else(|| self.malformed(Malformed("it names a pack that is none")))?;
        let inner = self.snapshot.inner();
        inner.footers.blocks(inner, &used.entry).await
    }

    /// The segment that holds a position.
    pub(super) fn segment_at(&self, position: u64) -> usize {
        self.starts.partition_point(|start| *start <= position).saturating_sub(1)
    }

    /// Whether a segment is at hand.
    pub(super) fn is_kept(&self, n: usize) -> bool {
        self.kept.iter().any(|(kept, _)| *kept == n)
    }

    /// The runs of a segment.
    pub(super) async fn segment(&mut self, n: usize) -> Result<Arc<Runs>> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == n)
            && let Some(kept) = self.kept.remove(at)
        {
            let runs = Arc::clone(&kept.1);
            self.kept.push_back(kept);
            return Ok(runs);
        }
        let runs = Arc::new(Runs::new(self.decode(n).await?));
        if self.kept.len() >= SEGMENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((n, Arc::clone(&runs)));
        Ok(runs)
    }

    async fn decode(&self, n: usize) -> Result<Vec<Placed>> {
        let none = || self.malformed(Malformed("a segment is missing"));
        let segment = self.entry.segments.get(n).ok_or_else(none)?;
        let start = self.starts.get(n).copied().ok_or_else(none)?;
        let coded = self.snapshot.inner().piece(&segment.place, self.snapshot.metas()).await?;
        let mut reader = RunReader::new(&coded);
        let (mut runs, mut end, mut position) = (Vec::new(), End::default(), start);
        while let Some(run) = reader.next(end).map_err(|error| self.malformed(error))? {
            let blocks = self.blocks(run.pack).await?;
            let parts = spans(&run, |block| blocks.plain(block));
            end = parts.map_err(|error| self.malformed(error))?.1;
            runs.push(Placed { position, run, end });
            position += run.length;
        }
        if position != start + segment.covers {
            return Err(self.malformed(Malformed("a segment has another length")));
        }
        Ok(runs)
    }

    /// The segments that name each pack, by its index in the table: four bytes for each
    /// pack that a segment names.
    pub(super) async fn segments_of_packs(&self) -> Result<HashMap<u32, Vec<u32>>> {
        let mut segments = HashMap::<_, Vec<_>>::new();
        for (segment, n) in self.entry.segments.iter().zip(0..) {
            let coded = self.snapshot.inner().piece(&segment.place, self.snapshot.metas()).await?;
            for pack in packs_of(&coded).map_err(|error| self.malformed(error))? {
                segments.entry(pack).or_default().push(n);
            }
        }
        Ok(segments)
    }

    fn malformed(&self, error: Malformed) -> Error {
        Error::damaged(format!("the recipe of {:?}", self.entry.name), error.to_string())
    }
}
