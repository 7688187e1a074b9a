//! Sets of a pack's blocks: a bit for each.

use crate::tables::{Usage, UsedPack};

/// Some of a pack's blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockSet(Vec<u8>);

impl BlockSet {
    /// The blocks of which a snapshot uses anything.
    pub(crate) fn used(pack: &UsedPack) -> Self {
        let mut used = Self::default();
        for block in (0..pack.entry.blocks).filter(|n| pack.usage(*n) != Usage::Unused) {
            used.insert(block);
        }
        used
    }

    /// A set from its bytes, the lowest bits first.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut set = Self(bytes.to_vec());
        set.trim();
        set
    }

    /// The bytes of a set of the blocks of a pack that has so many of them.
    pub(crate) fn to_bytes(&self, blocks: u32) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize((blocks as usize).div_ceil(8), 0);
        bytes
    }

    pub(crate) fn insert(&mut self, block: u32) {
        let at = block as usize / 8;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (block % 8);
    }

    pub(crate) fn contains(&self, block: u32) -> bool {
        self.0.get(block as usize / 8).is_some_and(|byte| byte >> (block % 8) & 1 == 1)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (byte, more) in self.0.iter_mut().zip(&other.0) {
            *byte |= more;
        }
    }

    /// Whether it has every block of `other`.
    pub(crate) fn has_all_of(&self, other: &Self) -> bool {
        let byte = |n| self.0.get(n).copied().unwrap_or(0);
        other.0.iter().enumerate().all(|(n, wanted)| wanted & !byte(n) == 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    /// How many blocks before this one are in the set.
    pub(crate) fn rank(&self, block: u32) -> u32 {
        let whole = block as usize / 8;
        let before: u32 = self.0.iter().take(whole).map(|byte| byte.count_ones()).sum();
        let last = self.0.get(whole).map_or(0, |byte| byte & ((1 << (block % 8)) - 1));
        before + last.count_ones()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.0.len() as u32 * 8).filter(|block| self.contains(*block))
    }

    /// Equal sets have equal bytes.
    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

impl FromIterator<u32> for BlockSet {
    fn from_iter<T: IntoIterator<Item = u32>>(blocks: T) -> Self {
        let mut set = Self::default();
        blocks.into_iter().for_each(|block| set.insert(block));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            one in prop::collection::btree_set(0..100_u32, 0..40),
            two in prop::collection::btree_set(0..100_u32, 0..40),
        ) {
            let set: BlockSet = one.iter().copied().collect();
            let other: BlockSet = two.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), one.clone());
            prop_assert_eq!(set.len() as usize, one.len());
            prop_assert_eq!(set.is_empty(), one.is_empty());
            prop_assert_eq!(set.has_all_of(&other), two.is_subset(&one));
            for block in 0..110 {
                prop_assert_eq!(set.contains(block), one.contains(&block));
                prop_assert_eq!(set.rank(block) as usize, one.range(..block).count());
            }
            prop_assert_eq!(BlockSet::from_bytes(&set.to_bytes(100)), set.clone());
            let mut both = set;
            both.add(&other);
            prop_assert_eq!(both.iter().collect::<BTreeSet<_>>(), &one | &two);
        }
    }
}
