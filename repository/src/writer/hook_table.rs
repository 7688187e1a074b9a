//! The hooks that a run knows, in a bounded table: chunk-id prefix → pack. They are
//! of packs in the tables of live heads, and of the run's own.

use std::collections::HashMap;
use std::sync::Arc;

use super::recent::IdMap;
use crate::hooks::{Hook, MAX_HOOKS};
use crate::names::PartName;
use crate::tables::UsedPack;

/// Packs of other sessions that are known at most: a tebibyte of them, 24 MB.
const MAX_PACKS: usize = 64 * 1024;
/// Room for packs is made in such steps: doubling would take twice what is needed.
const STEP: usize = 1024;
/// A pack is small with so many bytes of ids and lengths: some 450 chunks.
const SMALL_CHUNK_TABLE_BYTES: u32 = 8 * 1024;
/// Hooks to them: 12 heads full of them.
const MAX_FOREIGN: usize = 12 * MAX_HOOKS;
/// What an entry of a map of hooks takes while the map grows.
const HOOK_BYTES: usize = 32;
/// The most that the hooks take, in bytes. The packs that they lead to take 380 bytes
/// each: an entry, two bits for each of some 600 blocks, and a place in the map of names.
pub(super) const HOOKS_BYTES: usize = (MAX_FOREIGN + 2 * MAX_HOOKS) * HOOK_BYTES;

/// A pack that a hook leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum HookedPack {
    /// Of another session: index in this table.
    Foreign(u32),
    /// Of this run: index in its table of packs.
    Own(u32),
}

/// The table. What was added first counts where two packs have the same chunk.
#[derive(Debug, Default)]
pub(super) struct HookTable {
    packs: Vec<UsedPack>,
    by_name: HashMap<PartName, u32>,
    foreign: IdMap<u64, u32>,
    own: IdMap<u64, u32>,
    /// Own hooks from here on were thinned out.
    own_limit: Option<u64>,
}

impl HookTable {
    /// Adds a pack of a live head and returns its index; `None` without room.
    pub(super) fn add_pack(&mut self, pack: &UsedPack) -> Option<u32> {
        if let Some(index) = self.by_name.get(&pack.entry.name) {
            // What either head uses may be used.
            let known = &mut self.packs[*index as usize].usage;
            if *known != pack.usage {
                let known = Arc::make_mut(known);
                known.iter_mut().zip(&*pack.usage).for_each(|(known, usage)| *known |= usage);
            }
            return Some(*index);
        }
        if self.packs.len() == MAX_PACKS {
            return None;
        }
        if self.packs.len() == self.packs.capacity() {
            self.packs.reserve_exact(STEP);
        }
        let index = self.packs.len() as u32;
        self.by_name.insert(pack.entry.name.clone(), index);
        self.packs.push(pack.clone());
        Some(index)
    }

    /// Adds hooks of packs that were added.
    pub(super) fn add_hooks(&mut self, hooks: impl IntoIterator<Item = (u64, u32)>) {
        for (prefix, pack) in hooks {
            if self.foreign.len() < MAX_FOREIGN {
                self.foreign.entry(prefix).or_insert(pack);
            }
        }
    }

    /// Adds the hooks of a pack of this run.
    pub(super) fn add_own(&mut self, pack: u32, hooks: &[u64]) {
        for prefix in hooks.iter().filter(|prefix| self.own_limit.is_none_or(|n| **prefix < n)) {
            self.own.entry(*prefix).or_insert(pack);
        }
        if self.own.len() > 2 * MAX_HOOKS {
            let mut prefixes: Vec<u64> = self.own.keys().copied().collect();
            let (_, limit, _) = prefixes.select_nth_unstable(MAX_HOOKS);
            self.own.retain(|prefix, _| prefix < limit);
            self.own_limit = Some(*limit);
        }
    }

    /// The pack of which this is a hook.
    pub(super) fn find(&self, prefix: u64) -> Option<HookedPack> {
        let own = || self.own.get(&prefix).copied().map(HookedPack::Own);
        self.foreign.get(&prefix).copied().map(HookedPack::Foreign).or_else(own)
    }

    /// A pack of another session.
    pub(super) fn pack(&self, index: u32) -> Option<&UsedPack> {
        self.packs.get(index as usize)
    }

    /// The first small packs of other sessions, `most` of them.
    pub(super) fn small_packs(&self, most: usize) -> Vec<HookedPack> {
        let packs = (0..).zip(&self.packs);
        let small = packs.filter(|(_, pack)| {
            pack.is_used() && pack.entry.chunk_table_bytes <= SMALL_CHUNK_TABLE_BYTES
        });
        small.take(most).map(|(index, _)| HookedPack::Foreign(index)).collect()
    }

    /// The index of a pack of another session.
    pub(super) fn index(&self, name: &PartName) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Leads to this pack no more.
    pub(super) fn forget(&mut self, index: u32) {
        self.foreign.retain(|_, pack| *pack != index);
        if let Some(pack) = self.packs.get(index as usize) {
            self.by_name.remove(&pack.entry.name);
        }
    }

    /// The hooks of the packs of a finished snapshot.
    pub(super) fn hooks_of(&self, packs: &[UsedPack]) -> Vec<Hook> {
        let mut places = HashMap::new();
        for (place, pack) in (0..).zip(packs).filter(|(_, pack)| pack.is_used()) {
            places.extend(self.index(&pack.entry.name).map(|index| (index, place)));
        }
        let foreign = self.foreign.iter().filter_map(|(prefix, index)| {
            places.get(index).map(|pack| Hook { pack: *pack, prefix: *prefix })
        });
        let own = self.own.iter().map(|(prefix, pack)| Hook { pack: *pack, prefix: *prefix });
        foreign.chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pack::PackEntry;

    fn pack(n: u32, usage: u8) -> UsedPack {
        let entry = PackEntry::for_tests(PartName::new(Arc::from("s"), n), 4);
        UsedPack { entry: entry.into(), usage: [usage].into() }
    }

    #[test]
    fn hooks_lead_to_the_pack_that_was_added_first_and_stay_with_the_packs_that_are_used() {
        let mut table = HookTable::default();
        let (five, six) = (table.add_pack(&pack(5, 1)), table.add_pack(&pack(6, 1)));
        assert_eq!((five, six), (Some(0), Some(1)));
        table.add_hooks([(1, 0), (2, 0), (2, 1), (3, 1)]);
        table.add_own(7, &[3, 4]);
        let found: Vec<_> = (1..6).map(|prefix| table.find(prefix)).collect();
        let (five, six) = (Some(HookedPack::Foreign(0)), Some(HookedPack::Foreign(1)));
        assert_eq!(found, [five, five, six, Some(HookedPack::Own(7)), None]);
        let mut hooks = table.hooks_of(&[pack(6, 1), pack(5, 0)]);
        hooks.sort_unstable();
        let hook = |pack, prefix| Hook { pack, prefix };
        assert_eq!(hooks, [hook(0, 3), hook(7, 3), hook(7, 4)]);
        table.forget(0);
        assert_eq!((table.find(1), table.find(3)), (None, six));
        assert_eq!(table.index(&pack(5, 1).entry.name), None);
    }

    #[test]
    fn what_any_live_head_uses_of_a_pack_may_be_used() {
        let mut table = HookTable::default();
        table.add_pack(&pack(5, 1));
        assert_eq!(table.add_pack(&pack(5, 0b1100)), Some(0));
        assert_eq!(table.pack(0).unwrap().usage[..], [0b1101]);
    }

    #[test]
    fn hooks_of_a_large_run_are_thinned_out() {
        let mut table = HookTable::default();
        for n in 0..6 * MAX_HOOKS as u64 {
            table.add_own(1, &[n.wrapping_mul(0x9E37_79B9_7F4A_7C15)]);
            assert!(table.own.len() <= 2 * MAX_HOOKS);
        }
        assert!(table.own.len() >= MAX_HOOKS);
    }
}
