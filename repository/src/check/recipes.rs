//! Every recipe is walked: is it whole, and which damages does its stream meet.

use std::collections::BTreeSet;

use super::{BadBlocks, Check, CheckLevel, unless_unavailable};
use crate::block_set::BlockSet;
use crate::check::metas::Metas;
use crate::recipe::{End, Run, RunReader, packs_of};
use crate::snapshot::Snapshot;
use crate::spans::spans;
use crate::tables::{MAX_STREAM_TABLE_BYTES, Segment, StreamEntry, Usage, UsedPack};
use crate::wire::Malformed;
use crate::{Error, Result, SnapshotId};

/// Why a segment was not followed to its end.
enum Lost {
    /// It is not whole.
    Malformed(Malformed),
    /// Blocks of a pack are unknown, for a reason that is booked.
    BlocksUnknown,
    Failed(Error),
}

impl From<Malformed> for Lost {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

/// A pack of a snapshot's table, and its index among all packs that are needed.
struct TablePack<'a> {
    used: &'a UsedPack,
    index: Option<usize>,
}

/// A segment that is walked, and the problems that it meets.
struct Walk<'a> {
    packs: &'a [TablePack<'a>],
    runs: &'a [u8],
    met: &'a mut BTreeSet<usize>,
}

impl Check<'_> {
    /// Walks every stream of every snapshot. Heads are read again, so that no more
    /// than one is in memory.
    pub(super) async fn walk_recipes(&mut self) -> Result<()> {
        let ids: Vec<SnapshotId> = self.snapshots.keys().cloned().collect();
        for id in ids {
            let error = match self.repository.head_at(&id).await {
                Ok(Some(snapshot)) => self.walk_snapshot(&snapshot).await.err(),
                // It was let go meanwhile.
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                let problem = self.report.problem(unless_unavailable(error)?);
                self.report.touches_all(problem, &id);
            }
        }
        Ok(())
    }

    /// # Errors
    /// Where the snapshot's tables cannot be read: then none of it can be restored.
    async fn walk_snapshot(&mut self, snapshot: &Snapshot) -> Result<()> {
        let used = snapshot.packs().await?;
        let of = |used| TablePack { used, index: self.index_of(&used.entry) };
        let packs: Vec<TablePack<'_>> = used.iter().map(of).collect();
        for TablePack { used, index } in &packs {
            let moved = index.and_then(|index| self.packs[index].moved.as_ref());
            if moved.is_some_and(|moved| !moved.has_all_of(&BlockSet::used(used))) {
                let problem = self.report.problem(Error::Missing(used.entry.name.pack_object()));
                self.report.touches_all(problem, snapshot.id());
            }
        }
        let mut metas = Metas::new(self.inner, snapshot);
        let (mut streams, mut before) = (0, None);
        let mut left = MAX_STREAM_TABLE_BYTES;
        for page in 0..snapshot.stream_pages() {
            for entry in &*snapshot.stream_page_within(page, &mut left).await? {
                if before.as_ref().is_some_and(|before| *before >= entry.name) {
                    let detail = "its streams are not in order";
                    return Err(Error::damaged(snapshot.id().head_name(), detail));
                }
                before = Some(entry.name.clone());
                streams += 1;
                self.walk_stream(snapshot, &packs, entry, &mut metas).await?;
            }
        }
        if streams != snapshot.about().streams {
            let detail =
                format!("it has {streams} streams instead of {}", snapshot.about().streams);
            return Err(Error::damaged(snapshot.id().head_name(), detail));
        }
        for error in metas.verify_rest().await? {
            self.report.problem(error);
        }
        Ok(())
    }

    async fn walk_stream(
        &mut self,
        snapshot: &Snapshot,
        packs: &[TablePack<'_>],
        entry: &StreamEntry,
        metas: &mut Metas<'_>,
    ) -> Result<()> {
        let mut met = BTreeSet::new();
        for segment in &entry.segments {
            // Walking needs nothing from outside for long: others get their turn.
            tokio::task::yield_now().await;
            let runs = match metas.piece(&segment.place).await {
                Ok(runs) => runs,
                Err(error) => {
                    met.insert(self.report.problem(unless_unavailable(error)?));
                    continue;
                }
            };
            let mut walk = Walk { packs, runs: &runs, met: &mut met };
            let lost = match self.options.level {
                CheckLevel::Structure => self.walk_packs(&mut walk).err(),
                _ => self.walk_blocks(segment, &mut walk).await.err(),
            };
            let malformed = match lost {
                None => continue,
                Some(Lost::Failed(error)) => return Err(error),
                // From here on only the packs are known.
                Some(Lost::BlocksUnknown) => match self.walk_packs(&mut walk) {
                    Err(Lost::Malformed(error)) => error,
                    _ => continue,
                },
                Some(Lost::Malformed(error)) => error,
            };
            let name = format!("the recipe of {:?}", entry.name);
            met.insert(self.report.problem(Error::damaged(name, malformed.to_string())));
        }
        for problem in met {
            let owner = (self.options.owner)(&entry.name);
            self.report.touches(problem, snapshot.id(), &entry.name, owner);
        }
        Ok(())
    }

    /// The damages of the packs that a segment names.
    fn walk_packs(&self, walk: &mut Walk<'_>) -> std::result::Result<(), Lost> {
        for number in packs_of(walk.runs)? {
            let index = index_in(walk.packs, number)?;
            walk.met.extend(self.packs[index].damage.as_ref().map(|damage| damage.problem));
        }
        Ok(())
    }

    /// The damages of the blocks that a segment uses, and whether it is whole.
    async fn walk_blocks(
        &mut self,
        segment: &Segment,
        walk: &mut Walk<'_>,
    ) -> std::result::Result<(), Lost> {
        let mut reader = RunReader::new(walk.runs);
        let (mut end, mut covered) = (End::default(), 0_u64);
        while let Some(run) = reader.next(end)? {
            covered = covered.saturating_add(run.length);
            end = self.walk_run(&run, walk).await?;
        }
        if covered != segment.covers {
            return Err(Malformed("a segment covers another length than it says").into());
        }
        Ok(())
    }

    async fn walk_run(&mut self, run: &Run, walk: &mut Walk<'_>) -> std::result::Result<End, Lost> {
        let index = index_in(walk.packs, run.pack)?;
        let damage = self.packs[index].damage.as_ref();
        if damage.is_some_and(|damage| damage.blocks == BadBlocks::All) {
            return Err(Lost::BlocksUnknown);
        }
        let used = walk.packs[run.pack as usize].used;
        let (parts, end) = match &self.packs[index].blocks {
            Some(kept) => spans(run, |block| kept.get(block as usize).copied())?,
            None => match self.inner.footers.blocks(self.inner, &used.entry).await {
                Ok(blocks) => spans(run, |block| blocks.plain(block))?,
                Err(error) => {
                    let error = unless_unavailable(error).map_err(Lost::Failed)?;
                    walk.met.insert(self.report.problem(error));
                    return Err(Lost::BlocksUnknown);
                }
            },
        };
        // What the head does not count, the collector would delete.
        if parts.iter().any(|part| used.usage(part.block) == Usage::Unused) {
            return Err(Malformed("it uses a block that its head does not count").into());
        }
        if let Some(damage) = damage
            && let BadBlocks::Some(bad) = &damage.blocks
            && parts.iter().any(|part| bad.contains(&part.block))
        {
            walk.met.insert(damage.problem);
        }
        Ok(end)
    }
}

/// The index of a table's pack among all that are needed.
fn index_in(packs: &[TablePack<'_>], number: u32) -> std::result::Result<usize, Malformed> {
    let pack = packs.get(number as usize).ok_or(Malformed("it names a pack that is none"))?;
    pack.index.ok_or(Malformed("it uses a pack that its head does not count"))
}
