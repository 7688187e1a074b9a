//! The packs and meta objects that are there, and which of them are garbage.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;

use super::mark::Marked;
use super::notes::{MAX_CONDEMNED, Parts};
use crate::Result;
use crate::names::{META, PACKS, PartName, SnapshotId};
use crate::repository::Inner;

/// Every pack and meta object with its size: about 60 bytes each, 4 MB for a
/// tebibyte of packs.
#[derive(Debug, Default)]
pub(super) struct Stored {
    packs: HashMap<PartName, u64>,
    metas: HashMap<PartName, u64>,
    sessions: BTreeSet<Arc<str>>,
}

impl Stored {
    pub(super) async fn list(inner: &Inner) -> Result<Self> {
        let mut all = Self::default();
        for folder in [PACKS, META] {
            let mut listing = inner.store.list(folder);
            while let Some(object) = listing.next().await {
                let object = object?;
                let last = object.name.rsplit('/').next().unwrap_or_default();
                // Something else that somebody has put there is not ours to judge.
                let Some(name) = PartName::parse(last) else { continue };
                let name = all.interned(name);
                let parts = if folder == PACKS { &mut all.packs } else { &mut all.metas };
                parts.insert(name, object.size);
            }
        }
        Ok(all)
    }

    fn interned(&mut self, name: PartName) -> PartName {
        match self.sessions.get(&name.session) {
            Some(session) => PartName::new(Arc::clone(session), name.n),
            None => {
                self.sessions.insert(Arc::clone(&name.session));
                name
            }
        }
    }

    /// The sessions that have left anything.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.sessions.iter().filter_map(|session| SnapshotId::parse(session).ok())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.packs.values().chain(self.metas.values()).sum()
    }

    /// Whether a pack is there, and how large it is.
    pub(super) fn pack(&self, name: &PartName) -> Option<u64> {
        self.packs.get(name).copied()
    }

    /// Bytes of these packs and meta objects, as far as they are there, and `of` is
    /// true for them.
    pub(super) fn bytes_of(&self, parts: &Parts, of: impl Fn(&PartName) -> bool) -> u64 {
        let sum = |names: &BTreeSet<String>, sizes: &HashMap<PartName, u64>| -> u64 {
            let named = names.iter().filter_map(|name| PartName::parse(name));
            named.filter(|name| of(name)).filter_map(|name| sizes.get(&name)).sum()
        };
        sum(&parts.packs, &self.packs) + sum(&parts.metas, &self.metas)
    }

    /// These were deleted.
    pub(super) fn remove(&mut self, parts: &Parts) {
        for (names, sizes) in [(&parts.packs, &mut self.packs), (&parts.metas, &mut self.metas)] {
            for name in names.iter().filter_map(|name| PartName::parse(name)) {
                sizes.remove(&name);
            }
        }
    }

    /// What nothing uses and nobody can use any more without having seen that it
    /// is condemned: all but what unresolved sessions have written.
    pub(super) fn garbage(&self, marked: &Marked, unresolved: &BTreeSet<SnapshotId>) -> Parts {
        let busy = |name: &PartName| {
            SnapshotId::parse(&name.session).map_or(true, |id| unresolved.contains(&id))
        };
        let mut garbage = Parts::default();
        for name in self.packs.keys().filter(|name| !marked.uses_pack(name) && !busy(name)) {
            if garbage.packs.len() == MAX_CONDEMNED {
                break;
            }
            garbage.packs.insert(name.last_part());
        }
        for name in self.metas.keys().filter(|name| !marked.uses_meta(name) && !busy(name)) {
            if garbage.len() >= MAX_CONDEMNED {
                break;
            }
            garbage.metas.insert(name.last_part());
        }
        garbage
    }
}
