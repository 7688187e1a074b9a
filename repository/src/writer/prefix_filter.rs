//! Tells quickly that none of many packs has a chunk: new chunks are the rule where
//! data is new, and a look into each pack would cost as much as hashing them.

use std::fmt;

/// Bits: some 175,000 chunks fill a sixth of them.
const BITS: usize = 1 << 20;
/// What a filter takes, in bytes.
pub(super) const FILTER_BYTES: usize = BITS / 8;

/// A set of prefixes that may contain more than was added.
pub(super) struct PrefixFilter(Vec<u64>);

impl Default for PrefixFilter {
    fn default() -> Self {
        Self(vec![0; BITS / 64])
    }
}

impl fmt::Debug for PrefixFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrefixFilter")
    }
}

impl PrefixFilter {
    pub(super) fn add(&mut self, prefix: u64) {
        let (word, bit) = place(prefix);
        self.0[word] |= bit;
    }

    pub(super) fn may_have(&self, prefix: u64) -> bool {
        let (word, bit) = place(prefix);
        self.0[word] & bit != 0
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}

/// The low bits of a prefix: hooks are those whose high bits are zero.
fn place(prefix: u64) -> (usize, u64) {
    let bit = prefix as usize % BITS;
    (bit / 64, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_most_else_is_not() {
        let mut filter = PrefixFilter::default();
        let prefix = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..100_000).for_each(|n| filter.add(prefix(n)));
        assert!((0..100_000).all(|n| filter.may_have(prefix(n))));
        let more = (100_000..200_000).filter(|n| filter.may_have(prefix(*n))).count();
        assert!(more < 15_000, "{more}");
        filter.clear();
        assert!(!(0..100_000).any(|n| filter.may_have(prefix(n))));
    }
}
