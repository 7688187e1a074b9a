//! Runs taken apart at the borders of blocks.

use crate::recipe::{End, Run};
use crate::wire::Malformed;

/// A part of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) block: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// The parts of blocks that `run` is made of, and where it ends; `plain_length` is of
/// a block of its pack.
pub(crate) fn spans(
    run: &Run,
    plain_length: impl Fn(u32) -> Option<u32>,
) -> Result<(Vec<Span>, End), Malformed> {
    let mut spans = Vec::new();
    let (mut block, mut offset, mut left) = (run.block, run.offset, run.length);
    loop {
        let plain = plain_length(block).ok_or(Malformed("a run ends outside of its pack"))?;
        let within = plain.checked_sub(offset).filter(|within| *within > 0);
        let within = within.ok_or(Malformed("a run begins outside of its block"))?;
        let length = u32::try_from(left).unwrap_or(u32::MAX).min(within);
        spans.push(Span { block, offset, length });
        left -= u64::from(length);
        if left == 0 {
            return Ok((spans, End { pack: run.pack, block, offset: offset + length }));
        }
        (block, offset) = (block + 1, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_over_blocks_and_not_over_the_packs_end() {
        let blocks = |n| [10, 20, 5].get(n as usize).copied();
        let run = |block, offset, length| Run { pack: 7, block, offset, length };
        let (parts, end) = spans(&run(0, 4, 26), blocks).unwrap();
        assert_eq!(
            parts,
            [Span { block: 0, offset: 4, length: 6 }, Span { block: 1, offset: 0, length: 20 }]
        );
        assert_eq!(end, End { pack: 7, block: 1, offset: 20 });
        for hostile in [run(0, 4, 32), run(3, 0, 1), run(0, 10, 1), run(0, u32::MAX, 1)] {
            assert!(spans(&hostile, blocks).is_err(), "{hostile:?}");
        }
    }
}
