//! A stream's recipe as it grows: chunks in the order of the stream, of which
//! the newest may not have an address yet.

use std::collections::VecDeque;
use std::sync::Arc;

use super::block::{BlockAddress, BlockSlot};
use crate::recipe::{End, Run, RunWriter};

/// Where a chunk is, or will be.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    At(BlockAddress),
    Slot(Arc<BlockSlot>),
}

impl Source {
    fn address(&self) -> Option<BlockAddress> {
        match self {
            Self::At(address) => Some(*address),
            Self::Slot(slot) => slot.get(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::At(one), Self::At(two)) => one == two,
            (Self::Slot(one), Self::Slot(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Item {
    source: Source,
    offset: u32,
    length: u32,
}

/// A run that may still grow.
#[derive(Debug)]
struct Growing {
    run: Run,
    end: End,
    /// Plain length of the block in which it ends.
    plain: u32,
}

/// A finished segment of a recipe.
#[derive(Debug)]
pub(crate) struct CodedSegment {
    pub(crate) covers: u64,
    pub(crate) runs: Vec<u8>,
}

/// Builds a recipe. In memory are the chunks of blocks on their way (an entry
/// for each stretch of a block), and one segment.
#[derive(Debug, Default)]
pub(crate) struct RecipeBuilder {
    waiting: VecDeque<Item>,
    growing: Option<Growing>,
    writer: RunWriter,
    covers: u64,
}

impl RecipeBuilder {
    /// Appends a chunk.
    pub(crate) fn push(&mut self, source: Source, offset: u32, length: u32) {
        if let Some(last) = self.waiting.back_mut()
            && last.offset + last.length == offset
            && last.source.is_same(&source)
        {
            last.length += length;
            return;
        }
        self.waiting.push_back(Item { source, offset, length });
    }

    /// Chunks of the block `from` went into another block, behind `shift` bytes.
    pub(super) fn redirect(&mut self, from: &Arc<BlockSlot>, to: &Arc<BlockSlot>, shift: u32) {
        for item in &mut self.waiting {
            if matches!(&item.source, Source::Slot(slot) if Arc::ptr_eq(slot, from)) {
                item.source = Source::Slot(Arc::clone(to));
                item.offset += shift;
            }
        }
    }

    /// Codes what has an address by now. Returns a segment if one is full;
    /// then there may be more to code.
    pub(crate) fn advance(&mut self) -> Option<CodedSegment> {
        while let Some(address) = self.waiting.front().and_then(|item| item.source.address()) {
            if self.writer.is_full() {
                return self.take_segment();
            }
            if let Some(item) = self.waiting.pop_front() {
                self.append(address, item.offset, item.length);
            }
        }
        None
    }

    /// Whether every chunk has an address and was coded.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The last segment, once all is settled.
    pub(crate) fn finish(&mut self) -> Option<CodedSegment> {
        self.take_segment()
    }

    fn append(&mut self, at: BlockAddress, offset: u32, length: u32) {
        let end = End { pack: at.pack, block: at.block, offset: offset + length };
        if let Some(growing) = &mut self.growing
            && growing.end.pack == at.pack
        {
            let goes_on = growing.end.block == at.block && growing.end.offset == offset;
            let next_block = growing.end.block + 1 == at.block
                && growing.end.offset == growing.plain
                && offset == 0;
            if goes_on || next_block {
                growing.run.length += u64::from(length);
                growing.end = end;
                growing.plain = at.plain;
                return;
            }
        }
        self.write_growing();
        let run = Run { pack: at.pack, block: at.block, offset, length: u64::from(length) };
        self.growing = Some(Growing { run, end, plain: at.plain });
    }

    fn write_growing(&mut self) {
        if let Some(growing) = self.growing.take() {
            self.writer.push(&growing.run, growing.end);
            self.covers += growing.run.length;
        }
    }

    fn take_segment(&mut self) -> Option<CodedSegment> {
        self.write_growing();
        let covers = std::mem::take(&mut self.covers);
        let runs = self.writer.take();
        (covers > 0).then_some(CodedSegment { covers, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::RunReader;

    #[test]
    fn chunks_behind_each_other_make_one_run_over_blocks_and_wait_for_their_address() {
        let mut builder = RecipeBuilder::default();
        let (one, two) = (Arc::new(BlockSlot::default()), Arc::new(BlockSlot::default()));
        builder.push(Source::Slot(one.clone()), 0, 10);
        builder.push(Source::Slot(one.clone()), 10, 20);
        builder.push(Source::Slot(two.clone()), 0, 5);
        two.settle(BlockAddress { pack: 0, block: 4, plain: 5 });
        assert!(builder.advance().is_none() && !builder.is_settled());
        one.settle(BlockAddress { pack: 0, block: 3, plain: 30 });
        assert!(builder.advance().is_none() && builder.is_settled());
        let segment = builder.finish().unwrap();
        assert_eq!(segment.covers, 35);
        let mut reader = RunReader::new(&segment.runs);
        let run = reader.next(End::default()).unwrap().unwrap();
        assert_eq!(run, Run { pack: 0, block: 3, offset: 0, length: 35 });
    }

    #[test]
    fn a_long_recipe_comes_in_segments() {
        let mut builder = RecipeBuilder::default();
        let mut covered = 0;
        for n in 0..50_000_u32 {
            let at = BlockAddress { pack: n % 7, block: n, plain: 100 };
            builder.push(Source::At(at), 3, 50);
            while let Some(segment) = builder.advance() {
                assert!(segment.runs.len() <= crate::recipe::SEGMENT_BYTES);
                covered += segment.covers;
            }
        }
        covered += builder.finish().unwrap().covers;
        assert_eq!(covered, 2_500_000);
    }
}
