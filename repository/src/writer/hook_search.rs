//! The second way to find known chunks, where no predecessor serves: a segment is
//! looked up as a whole in the packs that hooks in it and in some segments behind it
//! lead to, and in those around it. These are packs of the run itself, and packs in the
//! tables of live heads, read after W2 (`docs/adr/0037-repository-finding-chunks.md`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use tokio::sync::OnceCell;

use super::block::BlockAddress;
use super::candidates::{Candidate, Candidates};
use super::hook_table::{HookTable, HookedPack};
use super::other_series::HEADS_OF_A_SERIES;
use super::predecessors::MAX_PREDECESSORS;
use super::shared::Shared;
use crate::hooks::prefix;
use crate::keyring::ChunkId;
use crate::names::PartName;
use crate::snapshot::Snapshot;
use crate::tables::UsedPack;
use crate::{Error, Result};

/// So much of a run that nothing knew makes it worth while to read hooks.
const MISSES_BEFORE_HOOKS: u64 = 256 * 1024;
/// Small packs that are fetched when heads are read. Of an older state each of many
/// days' packs may have a few chunks, of which none is a hook.
const SMALL_PACKS: usize = 128;
/// Footers that are read at the same time.
const FOOTERS_AT_ONCE: usize = 4;
/// Other series whose heads are read at the same time.
const SERIES_AT_ONCE: usize = 2;
/// Their heads, each of a mebibyte at most.
pub(super) const HEADS_AT_ONCE: usize = SERIES_AT_ONCE * HEADS_OF_A_SERIES;

/// Hooks, and the packs that they have led to. Nothing is read before a stream asks.
#[derive(Debug, Default)]
pub(super) struct HookSearch {
    table: Mutex<HookTable>,
    candidates: Mutex<Candidates>,
    heads: OnceCell<()>,
    /// Bytes of all streams that nothing knew, until heads were read.
    missed: AtomicU64,
}

impl HookSearch {
    /// A pack of this run is durable.
    pub(super) fn add_own(&self, shared: &Shared, pack: u32, hooks: &[u64]) {
        shared.lock(&self.table).add_own(pack, hooks);
    }

    /// Follows the hooks among chunks that are not known otherwise, `missed` bytes of
    /// which nobody has asked for before, and looks into the packs of the table that
    /// are `around` them. Reads heads once so much was missed.
    pub(super) async fn follow(
        &self,
        shared: &Arc<Shared>,
        missed: u64,
        missing: &[ChunkId],
        around: &[u32],
    ) -> Result<()> {
        let missed = missed + self.missed.fetch_add(missed, Ordering::Relaxed);
        if missed >= MISSES_BEFORE_HOOKS {
            let read = async {
                self.read_heads(shared).await;
                let small = shared.lock(&self.table).small_packs(SMALL_PACKS);
                self.fetch_all(shared, small).await;
            };
            shared.unless_stopped(self.heads.get_or_init(|| read)).await?;
        }
        let wanted = self.wanted(shared, missing, around);
        shared.unless_stopped(self.fetch_all(shared, wanted)).await
    }

    /// The packs in which a segment is looked up.
    pub(super) fn hooked(&self, shared: &Shared, missing: &[ChunkId]) -> Hooked {
        let (mut chunks, packs) = shared.lock(&self.candidates).look(missing);
        chunks.sort_unstable();
        Hooked { chunks, packs, hit: HashMap::new() }
    }

    /// Packs that have hooks among these chunks, or chunks around them, and were not
    /// fetched; best last, so that it is the first to be looked at.
    fn wanted(&self, shared: &Shared, missing: &[ChunkId], around: &[u32]) -> Vec<HookedPack> {
        let mut hooks: HashMap<HookedPack, usize> = HashMap::new();
        let around: Vec<PartName> = {
            let packs = shared.lock(&shared.packs);
            around.iter().filter_map(|pack| packs.name(*pack).cloned()).collect()
        };
        let table = shared.lock(&self.table);
        // What has changed since an older state was stored in the middle of what has
        // not, and among few chunks there is seldom a hook to a large pack.
        for pack in around.iter().filter_map(|name| table.index(name)) {
            *hooks.entry(HookedPack::Foreign(pack)).or_default() += 1;
        }
        for pack in missing.iter().filter_map(|id| table.find(prefix(id))) {
            *hooks.entry(pack).or_default() += 1;
        }
        drop(table);
        let mut candidates = shared.lock(&self.candidates);
        let mut packs: Vec<(HookedPack, usize)> = hooks.into_iter().collect();
        packs.sort_unstable_by_key(|(_, n)| *n);
        packs.retain(|(pack, _)| !candidates.hit(*pack));
        packs.drain(..packs.len() - candidates.allow(packs.len()));
        packs.into_iter().map(|(pack, _)| pack).collect()
    }

    async fn fetch_all(&self, shared: &Shared, packs: Vec<HookedPack>) {
        let fetch = |pack| self.fetch(shared, pack);
        futures::stream::iter(packs).map(fetch).buffered(FOOTERS_AT_ONCE).collect().await
    }

    /// Fetches a pack's chunks. One that cannot be had is not asked for again.
    async fn fetch(&self, shared: &Shared, id: HookedPack) {
        let pack = match id {
            HookedPack::Own(index) => shared.lock(&shared.packs).own(index),
            HookedPack::Foreign(index) => shared.lock(&self.table).pack(index).cloned(),
        };
        let Some(pack) = pack else { return };
        let name = pack.entry.name.pack_object();
        match Candidate::load(&shared.inner, id, pack).await {
            Ok(candidate) => shared.lock(&self.candidates).add(candidate),
            Err(error) => {
                if let HookedPack::Foreign(index) = id {
                    shared.lock(&self.table).forget(index);
                }
                shared.pass_over(&error, &name);
            }
        }
    }

    /// Fetches the packs behind those that the stream is about to leave.
    pub(super) async fn fetch_next(&self, shared: &Shared, hooked: &Hooked) {
        for (id, name) in hooked.ending() {
            let next = PartName::new(Arc::clone(&name.session), name.n.saturating_add(1));
            let next = match id {
                HookedPack::Own(_) => shared.lock(&shared.packs).index(&next).map(HookedPack::Own),
                HookedPack::Foreign(_) => {
                    shared.lock(&self.table).index(&next).map(HookedPack::Foreign)
                }
            };
            if let Some(next) = next
                && !shared.lock(&self.candidates).hit(next)
            {
                self.fetch(shared, next).await;
            }
        }
    }

    /// Reads the hooks of the newest heads of the series, then of other series. No backup
    /// fails for what cannot be read here.
    async fn read_heads(&self, shared: &Arc<Shared>) {
        for n in 0..MAX_PREDECESSORS {
            let Some(snapshot) = shared.predecessors.nth(n, shared).await else { break };
            self.add_head(shared, &snapshot).await;
        }
        let repository = shared.predecessors.repository();
        let others = match repository.other_series(&shared.id).await {
            Ok(others) => others,
            Err(error) => return shared.pass_over(&error, "other series"),
        };
        let read = |ids| repository.newest_of(ids);
        let mut heads = futures::stream::iter(others).map(read).buffered(SERIES_AT_ONCE);
        while let Some((read, unread)) = heads.next().await {
            unread.iter().for_each(|(id, error)| shared.pass_over(error, id.as_str()));
            for snapshot in read {
                self.add_head(shared, &snapshot).await;
            }
        }
    }

    /// Adds the packs and hooks of a live head.
    async fn add_head(&self, shared: &Shared, snapshot: &Snapshot) {
        let mut numbers = Vec::new();
        let add = |pack: &UsedPack| {
            let mut table = shared.lock(&self.table);
            // Of one whose blocks were moved to several packs, hooks lead to the first.
            let added: Vec<_> = shared.now(pack).iter().map(|now| table.add_pack(now)).collect();
            numbers.push(added.first().copied().flatten());
        };
        let read = async {
            let hooks = snapshot.hooks()?;
            if !hooks.is_empty() {
                snapshot.for_each_pack(add).await?;
            }
            Ok::<_, Error>(hooks)
        };
        match read.await {
            Ok(hooks) => {
                let number = |pack: u32| numbers.get(pack as usize).copied().flatten();
                let hooks = hooks
                    .into_iter()
                    .filter_map(|hook| number(hook.pack).map(|number| (hook.prefix, number)));
                shared.lock(&self.table).add_hooks(hooks);
            }
            Err(error) => shared.pass_over(&error, snapshot.id().as_str()),
        }
    }

    /// The hooks that the head keeps, of all packs in its table: its own, and those
    /// of the heads that were read.
    pub(super) async fn for_head(&self, shared: &Shared, packs: &[UsedPack]) -> Vec<u8> {
        if !self.heads.initialized() {
            for snapshot in shared.predecessors.read() {
                self.add_head(shared, &snapshot).await;
            }
        }
        let hooks = shared.lock(&self.table).hooks_of(packs);
        if hooks.is_empty() { Vec::new() } else { crate::hooks::encode_hooks(hooks) }
    }
}

/// The packs in which one segment is looked up.
#[derive(Debug)]
pub(super) struct Hooked {
    /// Chunks of it that they may have, sorted.
    chunks: Vec<ChunkId>,
    packs: Vec<Arc<Candidate>>,
    /// Those that had a chunk, and whether it was near their end.
    hit: HashMap<HookedPack, (PartName, bool)>,
}

impl Hooked {
    /// Where a chunk is; its pack then stands in the table of packs.
    pub(super) fn find(
        &mut self,
        shared: &Shared,
        id: &ChunkId,
        length: u32,
    ) -> Option<(BlockAddress, u32)> {
        self.chunks.binary_search(id).ok()?;
        let find = |(at, pack): (usize, &Arc<Candidate>)| Some((at, pack.find(id, length)?));
        let (at, place) = self.packs.iter().enumerate().find_map(find)?;
        // The next chunk most likely stands in the same pack.
        self.packs[..=at].rotate_right(1);
        let found = &self.packs[0];
        let entry = &found.pack.entry;
        let near_end = found.is_near_its_end(place.block);
        if self.hit.insert(found.id, (entry.name.clone(), near_end)).is_none() {
            shared.lock(&shared.hooks.candidates).hit(found.id);
        }
        let mut packs = shared.lock(&shared.packs);
        let pack = packs.inherited(entry);
        packs.mark(pack, place.block, length, place.plain);
        Some((BlockAddress { pack, block: place.block, plain: place.plain }, place.offset))
    }

    fn ending(&self) -> impl Iterator<Item = (HookedPack, &PartName)> {
        let ending = self.hit.iter().filter(|(_, (_, near_end))| *near_end);
        ending.map(|(id, (name, _))| (*id, name))
    }
}
