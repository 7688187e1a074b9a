//! The packs that the new snapshot uses, and how much of each block.

use std::collections::HashMap;
use std::sync::Arc;

use crate::names::PartName;
use crate::pack::PackEntry;
use crate::tables::{Usage, UsedPack, pack_usage};

/// A block that is used whole has this many parts.
const PARTS: u64 = 200;
/// Rounding may lose some of them.
const WHOLE: u8 = 190;
const QUARTER: u8 = 50;

#[derive(Debug)]
enum Packed {
    /// Made by this run, and not durable yet.
    UnderWay(PartName),
    /// Made by this run: all of it is new.
    Own(Arc<PackEntry>),
    /// Of an earlier run: parts of each block that are used.
    Inherited { entry: Arc<PackEntry>, parts: Box<[u8]> },
}

/// The table of packs as it grows. A pack takes about 250 bytes and one for
/// each of its blocks: 64 MB for a tebibyte of packs that are all inherited.
#[derive(Debug, Default)]
pub(super) struct PackUses {
    packs: Vec<Packed>,
    by_name: HashMap<PartName, u32>,
}

impl Packed {
    fn name(&self) -> &PartName {
        match self {
            Self::UnderWay(name) => name,
            Self::Own(entry) | Self::Inherited { entry, .. } => &entry.name,
        }
    }
}

impl PackUses {
    /// Gives a new pack its place in the table.
    pub(super) fn add_own(&mut self, name: PartName) -> u32 {
        let index = self.packs.len() as u32;
        self.by_name.insert(name.clone(), index);
        self.packs.push(Packed::UnderWay(name));
        index
    }

    /// A new pack is durable.
    pub(super) fn settle_own(&mut self, index: u32, entry: PackEntry) {
        if let Some(packed) = self.packs.get_mut(index as usize) {
            *packed = Packed::Own(Arc::new(entry));
        }
    }

    /// A pack of this run that is durable.
    pub(super) fn own(&self, index: u32) -> Option<UsedPack> {
        match self.packs.get(index as usize)? {
            Packed::Own(entry) => Some(UsedPack::whole(Arc::clone(entry))),
            _ => None,
        }
    }

    /// The name of a pack in the table.
    pub(super) fn name(&self, index: u32) -> Option<&PartName> {
        self.packs.get(index as usize).map(Packed::name)
    }

    /// The place in the table of a pack that is in it.
    pub(super) fn index(&self, name: &PartName) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The place in the table of a pack of an earlier run.
    pub(super) fn inherited(&mut self, entry: &Arc<PackEntry>) -> u32 {
        if let Some(index) = self.by_name.get(&entry.name) {
            return *index;
        }
        let index = self.packs.len() as u32;
        self.by_name.insert(entry.name.clone(), index);
        let parts = vec![0; entry.blocks as usize].into();
        let packed = Packed::Inherited { entry: Arc::clone(entry), parts };
        self.packs.push(packed);
        index
    }

    /// Notes that `length` bytes of a block of `plain` bytes are used.
    pub(super) fn mark(&mut self, index: u32, block: u32, length: u32, plain: u32) {
        if let Some(Packed::Inherited { parts, .. }) = self.packs.get_mut(index as usize)
            && let Some(part) = parts.get_mut(block as usize)
        {
            let added = (u64::from(length) * PARTS).div_ceil(u64::from(plain.max(1)));
            *part = part.saturating_add(u8::try_from(added).unwrap_or(u8::MAX));
        }
    }

    /// The finished table; `None` if a pack never became durable.
    pub(super) fn into_table(self) -> Option<Vec<UsedPack>> {
        self.packs
            .into_iter()
            .map(|packed| match packed {
                Packed::UnderWay(_) => None,
                Packed::Own(entry) => Some(UsedPack::whole(entry)),
                Packed::Inherited { entry, parts } => Some(UsedPack {
                    usage: pack_usage(parts.iter().map(|parts| match *parts {
                        0 => Usage::Unused,
                        parts if parts < QUARTER => Usage::Sparse,
                        parts if parts < WHOLE => Usage::Used,
                        _ => Usage::Whole,
                    })),
                    entry,
                }),
            })
            .collect()
    }
}
