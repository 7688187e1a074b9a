//! What a stream consists of next, further than it is fetched: so that blocks which
//! stand together are fetched together although the stream takes parts of others
//! between them.

use std::collections::{HashMap, VecDeque};

use super::cache::{BlockCache, BlockId, CACHE_BYTES};
use crate::blocks::GROUP_BYTES;
use crate::spans::Span;

/// Bytes of the stream that are looked ahead.
const STREAM_BYTES: usize = 4 * 1024 * 1024;
/// Plain bytes of the blocks that are looked ahead: with those that are fetched while
/// they wait for their turn they are no more than the cache keeps.
const BLOCK_BYTES: usize = CACHE_BYTES / 2;

/// A part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Index of the pack in the snapshot's table.
    pub(super) pack: u32,
    pub(super) span: Span,
    /// Plain length of the block.
    pub(super) plain: u32,
}

impl Step {
    pub(super) fn block(&self) -> BlockId {
        (self.pack, self.span.block)
    }
}

/// The next parts, in the order of the stream.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    steps: VecDeque<Step>,
    stream_bytes: usize,
    /// How often each block is in `steps`.
    blocks: HashMap<BlockId, u32>,
    block_bytes: usize,
}

impl Lookahead {
    /// Whether it looks as far ahead as it may.
    pub(super) fn is_full(&self) -> bool {
        self.stream_bytes >= STREAM_BYTES || self.block_bytes >= BLOCK_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn push(&mut self, step: Step) {
        self.stream_bytes += step.span.length as usize;
        let times = self.blocks.entry(step.block()).or_default();
        if *times == 0 {
            self.block_bytes += step.plain as usize;
        }
        *times += 1;
        self.steps.push_back(step);
    }

    pub(super) fn pop(&mut self) -> Option<Step> {
        let step = self.steps.pop_front()?;
        self.stream_bytes -= step.span.length as usize;
        if let Some(times) = self.blocks.get_mut(&step.block()) {
            *times -= 1;
            if *times == 0 {
                self.blocks.remove(&step.block());
                self.block_bytes -= step.plain as usize;
            }
        }
        Some(step)
    }

    /// The block of a step and those behind it in its pack that are needed soon and
    /// are not in the cache, as many as are fetched together, with their plain lengths.
    pub(super) fn group(&self, first: &Step, cache: &BlockCache) -> Vec<(BlockId, usize)> {
        let mut group = vec![(first.block(), first.plain as usize)];
        let (mut next, mut bytes) = (first.span.block.checked_add(1), first.plain as usize);
        for step in &self.steps {
            let plain = step.plain as usize;
            if (step.pack, Some(step.span.block)) != (first.pack, next) {
                continue;
            }
            if bytes + plain > GROUP_BYTES || cache.has(step.block()) {
                break;
            }
            group.push((step.block(), plain));
            (next, bytes) = (step.span.block.checked_add(1), bytes + plain);
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(pack: u32, block: u32, plain: u32) -> Step {
        Step { pack, span: Span { block, offset: 0, length: plain.min(100) }, plain }
    }

    fn blocks(lookahead: &Lookahead, first: &Step, cache: &BlockCache) -> Vec<u32> {
        lookahead.group(first, cache).iter().map(|((_, block), _)| *block).collect()
    }

    #[test]
    fn blocks_that_stand_together_are_fetched_together_though_others_are_between() {
        let mut ahead = Lookahead::default();
        for (pack, block) in [(9, 5), (1, 7), (1, 7), (9, 6), (1, 8), (2, 9), (1, 10)] {
            ahead.push(step(pack, block, 1000));
        }
        let mut cache = BlockCache::default();
        // Block 9 is of another pack, so that the pack's own 10 does not stand behind 8.
        assert_eq!(blocks(&ahead, &step(1, 6, 1000), &cache), [6, 7, 8]);
        let first = ahead.pop().unwrap();
        assert_eq!(blocks(&ahead, &first, &cache), [5, 6]);
        let group = futures::FutureExt::shared(futures::FutureExt::boxed(futures::future::ready(
            Ok(bytes::Bytes::new()),
        )));
        cache.add(&[((1, 8), 1000)], 1, &group);
        assert_eq!(blocks(&ahead, &step(1, 6, 1000), &cache), [6, 7]);
    }

    #[test]
    fn a_group_has_its_bound_and_may_be_one_block_that_exceeds_it() {
        let mut ahead = Lookahead::default();
        for block in 1..5 {
            ahead.push(step(1, block, GROUP_BYTES as u32 / 2));
        }
        let cache = BlockCache::default();
        assert_eq!(blocks(&ahead, &step(1, 0, GROUP_BYTES as u32 / 2), &cache), [0, 1]);
        assert_eq!(blocks(&ahead, &step(1, 0, 2 * GROUP_BYTES as u32), &cache), [0]);
        assert_eq!(blocks(&ahead, &step(1, u32::MAX, 1), &cache), [u32::MAX]);
    }

    #[test]
    fn it_is_full_by_the_blocks_that_it_needs_each_counted_once() {
        let mut ahead = Lookahead::default();
        for _ in 0..100 {
            ahead.push(step(1, 1, BLOCK_BYTES as u32 / 2));
        }
        assert!(!ahead.is_full());
        ahead.push(step(1, 2, BLOCK_BYTES as u32 / 2));
        assert!(ahead.is_full());
        for _ in 0..100 {
            ahead.pop();
        }
        assert!(!ahead.is_full());
        ahead.push(Step {
            pack: 1,
            span: Span { block: 3, offset: 0, length: STREAM_BYTES as u32 },
            plain: 1,
        });
        assert!(ahead.is_full());
        while ahead.pop().is_some() {}
        assert_eq!((ahead.stream_bytes, ahead.block_bytes, ahead.blocks.len()), (0, 0, 0));
    }
}
