//! Hooks: a sparse sample of the chunk ids of a snapshot's packs, by which a pack is
//! found that holds a chunk and, most likely, its neighbours (sparse indexing:
//! Lillibridge and others, FAST 2009). How they are coded: `docs/format.md`, "Hooks".

use crate::wire::{Malformed, Reader, put_varint};

/// Prefixes below this are hooks: one in 64 of a large pack.
const HOOK_LIMIT: u64 = 1 << 58;
/// A pack has so many hooks at least, the smallest ones: a day's scattered changes
/// are a small pack, of which one chunk in 64 would be one or none.
const LEAST_HOOKS: usize = 32;
/// Most hooks of a head, in 88 KiB: enough for 4 GiB of a stream. Where there are
/// more, the smallest stay, and a stream is found some chunks later.
pub(crate) const MAX_HOOKS: usize = 8 * 1024;

/// A chunk that leads to a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hook {
    /// Index in the head's table of packs.
    pub(crate) pack: u32,
    /// The first bytes of the chunk's id.
    pub(crate) prefix: u64,
}

/// The first bytes of an id, little-endian: enough to look it up, not to trust it.
pub(crate) fn prefix(id: &[u8]) -> u64 {
    id.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The hooks among the prefixes of a pack's chunks.
pub(crate) fn choose(mut prefixes: Vec<u64>) -> Vec<u64> {
    let limit = if prefixes.len() > LEAST_HOOKS {
        let (_, least, _) = prefixes.select_nth_unstable(LEAST_HOOKS);
        HOOK_LIMIT.max(*least)
    } else {
        u64::MAX
    };
    prefixes.retain(|prefix| *prefix < limit);
    prefixes
}

/// Codes a head's hooks, the smallest ones if they are too many.
pub(crate) fn encode_hooks(mut hooks: Vec<Hook>) -> Vec<u8> {
    if hooks.len() > MAX_HOOKS {
        hooks.select_nth_unstable_by_key(MAX_HOOKS, |hook| hook.prefix);
        hooks.truncate(MAX_HOOKS);
    }
    hooks.sort_unstable();
    let (mut out, mut before) = (Vec::new(), 0);
    put_varint(&mut out, hooks.len() as u64);
    for Hook { pack, prefix } in hooks {
        put_varint(&mut out, u64::from(pack - before));
        out.extend_from_slice(&prefix.to_le_bytes());
        before = pack;
    }
    out
}

/// Reads a head's hooks.
pub(crate) fn parse_hooks(section: &[u8]) -> Result<Vec<Hook>, Malformed> {
    let mut reader = Reader::new(section);
    let count = reader.count(MAX_HOOKS)?;
    let (mut hooks, mut before) = (Vec::new(), 0_u32);
    for _ in 0..count {
        let pack =
            before.checked_add(reader.small()?).ok_or(Malformed("no pack has this index"))?;
        hooks.push(Hook { pack, prefix: u64::from_le_bytes(reader.array()?) });
        before = pack;
    }
    reader.end()?;
    Ok(hooks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Evenly spread, and in no order.
    fn spread(chunks: u64) -> Vec<u64> {
        (1..=chunks).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect()
    }

    proptest! {
        #[test]
        fn hooks_survive(hooks in prop::collection::vec((any::<u32>(), any::<u64>()), 0..50)) {
            let mut hooks: Vec<_> =
                hooks.into_iter().map(|(pack, prefix)| Hook { pack, prefix }).collect();
            let read = parse_hooks(&encode_hooks(hooks.clone())).unwrap();
            hooks.sort_unstable();
            prop_assert_eq!(read, hooks);
        }

        #[test]
        fn hostile_hooks_are_refused_or_read_within_bounds(bytes: Vec<u8>) {
            let _ = parse_hooks(&bytes);
        }
    }

    #[test]
    fn one_chunk_in_64_and_the_32_smallest_are_hooks() {
        assert_eq!(choose(spread(30)).len(), 30);
        for (chunks, hooks) in [(100, 32..=32), (2000, 32..=32), (6400, 95..=105)] {
            let chosen = choose(spread(chunks));
            assert!(hooks.contains(&chosen.len()), "{} of {chunks}", chosen.len());
            assert!(spread(chunks).iter().all(|p| *p >= HOOK_LIMIT || chosen.contains(p)));
        }
        assert_eq!(prefix(&[0, 1, 2, 3, 4, 5, 6, 7, 8]) >> 56, 7, "the eighth byte decides");
    }

    #[test]
    fn a_head_with_too_many_hooks_keeps_the_smallest() {
        let all = spread(2 * MAX_HOOKS as u64);
        let hooks = (0..).zip(&all).map(|(pack, prefix)| Hook { pack, prefix: *prefix });
        let coded = encode_hooks(hooks.collect());
        assert!(coded.len() <= 88 * 1024);
        let kept = parse_hooks(&coded).unwrap();
        assert_eq!(kept.len(), MAX_HOOKS);
        let largest = kept.iter().map(|hook| hook.prefix).max().unwrap();
        assert_eq!(all.iter().filter(|prefix| **prefix <= largest).count(), MAX_HOOKS);
    }
}
