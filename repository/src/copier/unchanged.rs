//! Which parts of a stream its predecessor's copy has.
//!
//! New and old snapshot of the source name the same bytes by the same addresses. Where
//! the old one has an address, its position is also the position in the old one's copy,
//! whose recipe says where these bytes are in the destination.

use std::collections::HashMap;

use super::placed_runs::{At, PlacedRuns, behind};
use crate::names::PartName;
use crate::recipe::Run;
use crate::snapshot::Snapshot;
use crate::spans::spans;
use crate::tables::StreamEntry;
use crate::{Error, Result, SnapshotWriter, StreamWriter};

/// Segments of the old recipe that are looked into for one run.
const SEGMENTS_ASKED: usize = 4;

/// A part of the new stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// It has to be read: a run in the source, by the new snapshot's table of packs.
    Read(Run),
    /// The destination has it: a run there, by the old copy's table of packs.
    Known(Run),
}

/// The old snapshot's stream and its copy.
pub(super) struct Unchanged {
    old: PlacedRuns,
    copy: PlacedRuns,
    segments: HashMap<u32, Vec<u32>>,
    packs: HashMap<PartName, u32>,
    /// How many segments may still be decoded: an order that leads back and forth
    /// between more of them than are kept ends the search.
    decodable: usize,
}

impl Unchanged {
    /// The stream `name` of both; `None` where they lack it, or do not hold the same.
    pub(super) async fn of(old: &Snapshot, copy: &Snapshot, name: &str) -> Result<Option<Self>> {
        let (Some(old_entry), Some(entry)) = (entry(old, name).await?, entry(copy, name).await?)
        else {
            return Ok(None);
        };
        let is_same = (old_entry.length, old_entry.digest) == (entry.length, entry.digest)
            && old.digest_key() == copy.digest_key();
        if !is_same {
            return Ok(None);
        }
        let old = PlacedRuns::of(old, old_entry).await?;
        let copy = PlacedRuns::of(copy, entry).await?;
        let segments = old.segments_of_packs().await?;
        let packs = old.packs.iter().zip(0..).map(|(pack, n)| (pack.entry.name.clone(), n));
        let packs = packs.collect();
        let decodable = 4 * old.entry.segments.len() + 16;
        Ok(Some(Self { old, copy, segments, packs, decodable }))
    }

    /// The parts of a run of the new stream.
    pub(super) async fn parts(
        &mut self,
        new: &PlacedRuns,
        run: &Run,
        writer: &SnapshotWriter,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        let name = new.packs.get(run.pack as usize).map(|used| &used.entry.name);
        let Some(pack) = name.and_then(|name| self.packs.get(name)).copied() else {
            parts.push(Part::Read(*run));
            return Ok(());
        };
        let blocks = new.blocks(run.pack).await?;
        let mut rest = *run;
        loop {
            let done = match self.find(&Run { pack, ..rest }, &blocks).await? {
                At::Found { position, length } => {
                    let length = length.min(rest.length);
                    self.known(&Run { length, ..rest }, position, &blocks, writer, parts).await?;
                    length
                }
                At::Missing(next) => {
                    let length = next.filter(|next| *next > 0).unwrap_or(u64::MAX);
                    let length = length.min(rest.length);
                    parts.push(Part::Read(Run { length, ..rest }));
                    length
                }
            };
            match behind(&rest, done, &blocks) {
                Some(left) => rest = left,
                None => return Ok(()),
            }
        }
    }

    /// Gives the writer a part that the destination has.
    pub(super) async fn hand_over(&self, run: &Run, to: &mut StreamWriter) -> Result<()> {
        let gone = || Error::damaged("the recipe of a copy", "it names a block that is none");
        let used = self.copy.packs.get(run.pack as usize).ok_or_else(gone)?;
        let blocks = self.copy.blocks(run.pack).await?;
        let (spans, _) = spans(run, |block| blocks.plain(block)).map_err(|_| gone())?;
        for span in spans {
            let plain = blocks.plain(span.block).ok_or_else(gone)?;
            to.take_over(&used.entry, span, plain).await?;
        }
        Ok(())
    }

    /// Where the old stream has the beginning of `run`.
    async fn find(&mut self, run: &Run, blocks: &crate::blocks::PackBlocks) -> Result<At> {
        let Some(segments) = self.segments.get(&run.pack) else { return Ok(At::Missing(None)) };
        let mut nearest: Option<u64> = None;
        let mut ordered: Vec<usize> = segments.iter().map(|n| *n as usize).collect();
        ordered.sort_by_key(|n| !self.old.is_kept(*n));
        for n in ordered.into_iter().take(SEGMENTS_ASKED) {
            if !self.old.is_kept(n) {
                let Some(left) = self.decodable.checked_sub(1) else { break };
                self.decodable = left;
            }
            match self.old.segment(n).await?.at(run, blocks) {
                At::Missing(next) => {
                    nearest = nearest.into_iter().chain(next.filter(|next| *next > 0)).min();
                }
                found @ At::Found { .. } => return Ok(found),
            }
        }
        Ok(At::Missing(nearest))
    }

    /// What stands at a position of the copy, if new recipes may refer to it.
    async fn known(
        &mut self,
        run: &Run,
        mut position: u64,
        blocks: &crate::blocks::PackBlocks,
        writer: &SnapshotWriter,
        parts: &mut Vec<Part>,
    ) -> Result<()> {
        let gone = || Error::damaged("the recipe of a copy", "it ends too early");
        let mut rest = *run;
        loop {
            let segment = self.copy.segment(self.copy.segment_at(position)).await?;
            let behind_it = segment.runs.partition_point(|placed| placed.position <= position);
            let placed = behind_it.checked_sub(1).and_then(|n| segment.runs.get(n));
            let placed = placed.ok_or_else(gone)?;
            let there = self.copy.blocks(placed.run.pack).await?;
            let known = behind(&placed.run, position - placed.position, &there).ok_or_else(gone)?;
            let length = known.length.min(rest.length);
            let known = Run { length, ..known };
            let used = self.copy.packs.get(known.pack as usize).ok_or_else(gone)?;
            let (spans, _) = spans(&known, |block| there.plain(block)).map_err(|_| gone())?;
            let stands = spans.iter().all(|span| writer.may_refer_to(&used.entry, span.block));
            parts.push(if stands {
                Part::Known(known)
            } else {
                Part::Read(Run { length, ..rest })
            });
            position += length;
            match behind(&rest, length, blocks) {
                Some(left) => rest = left,
                None => return Ok(()),
            }
        }
    }
}

async fn entry(snapshot: &Snapshot, name: &str) -> Result<Option<StreamEntry>> {
    match snapshot.entry(name).await {
        Err(Error::StreamNotFound { .. }) => Ok(None),
        entry => entry.map(Some),
    }
}
