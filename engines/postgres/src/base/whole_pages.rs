//! Pages that the log holds whole: whatever stands in their place in a base backup, recovery
//! overwrites it.
//!
//! Memory: a bit for each page of the regions that were touched, so 16 MiB for a tebibyte at most,
//! however long the log is.

use std::collections::HashMap;

use super::relation_file::{Fork, RelationId};

/// Pages of a region: 512 bytes of bits for 32 MiB.
const REGION_PAGES: u32 = 4096;
const WORDS: usize = (REGION_PAGES / 64) as usize;

/// A set of pages.
#[derive(Debug, Default)]
pub(crate) struct WholePages {
    regions: HashMap<(RelationId, Fork, u32), Box<[u64; WORDS]>>,
}

impl WholePages {
    /// Notes a page.
    pub(crate) fn insert(&mut self, relation: RelationId, fork: Fork, page: u32) {
        let (region, word, bit) = place(page);
        let words =
            self.regions.entry((relation, fork, region)).or_insert_with(|| Box::new([0; WORDS]));
        words[word] |= bit;
    }

    /// Whether a page was noted.
    pub(crate) fn contains(&self, relation: RelationId, fork: Fork, page: u32) -> bool {
        let (region, word, bit) = place(page);
        self.regions.get(&(relation, fork, region)).is_some_and(|words| words[word] & bit != 0)
    }
}

fn place(page: u32) -> (u32, usize, u64) {
    let within = page % REGION_PAGES;
    (page / REGION_PAGES, (within / 64) as usize, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set(pages in proptest::collection::btree_set(0_u32..20_000, 0..200), others in proptest::collection::vec(any::<u32>(), 50)) {
            let relation = |number| RelationId { tablespace: 1663, database: 5, number };
            let mut set = WholePages::default();
            for page in &pages {
                set.insert(relation(1), Fork::Main, *page);
            }
            for page in pages.iter().chain(&others) {
                prop_assert_eq!(set.contains(relation(1), Fork::Main, *page), pages.contains(page));
                prop_assert!(!set.contains(relation(1), Fork::Visibility, *page));
                prop_assert!(!set.contains(relation(2), Fork::Main, *page));
            }
        }
    }
}
