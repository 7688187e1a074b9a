//! Recipes: where the bytes of a stream are, as runs (`docs/format.md`, "Recipes").

use std::collections::BTreeSet;

use crate::wire::{Malformed, Reader, put_varint, put_zigzag};

/// Coded runs of a segment, in bytes, at most.
pub(crate) const SEGMENT_BYTES: usize = 64 * 1024;
/// No single run takes more when coded.
const LONGEST_RUN_BYTES: usize = 40;
const MAX_RUN_LENGTH: u64 = 1 << 40;

/// Bytes in a pack, from `offset` in block `block` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Index in the head's table of packs.
    pub(crate) pack: u32,
    pub(crate) block: u32,
    pub(crate) offset: u32,
    pub(crate) length: u64,
}

/// Where a run ended: what the next one is coded relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) pack: u32,
    pub(crate) block: u32,
    pub(crate) offset: u32,
}

/// Codes runs one after the other.
#[derive(Debug, Default)]
pub(crate) struct RunWriter {
    bytes: Vec<u8>,
    end: End,
}

impl RunWriter {
    /// Adds a run which ends at `end`.
    pub(crate) fn push(&mut self, run: &Run, end: End) {
        let from = self.end;
        let put = |bytes: &mut Vec<u8>, code: u64| put_varint(bytes, run.length << 2 | code);
        if run.pack != from.pack {
            put(&mut self.bytes, 3);
            put_zigzag(&mut self.bytes, i64::from(run.pack) - i64::from(from.pack));
            put_varint(&mut self.bytes, u64::from(run.block));
            put_varint(&mut self.bytes, u64::from(run.offset));
        } else if run.block == from.block && run.offset >= from.offset {
            put(&mut self.bytes, 1);
            put_varint(&mut self.bytes, u64::from(run.offset - from.offset));
        } else if Some(run.block) == from.block.checked_add(1) && run.offset == 0 {
            put(&mut self.bytes, 0);
        } else {
            put(&mut self.bytes, 2);
            put_zigzag(&mut self.bytes, i64::from(run.block) - i64::from(from.block));
            put_varint(&mut self.bytes, u64::from(run.offset));
        }
        self.end = end;
    }

    /// Whether another run might not fit the segment.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() + LONGEST_RUN_BYTES > SEGMENT_BYTES
    }

    /// The segment so far; the next one begins without knowledge of it.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.end = End::default();
        std::mem::take(&mut self.bytes)
    }
}

/// Reads the runs of one segment.
#[derive(Debug)]
pub(crate) struct RunReader<'a> {
    reader: Reader<'a>,
    is_too_long: bool,
}

impl<'a> RunReader<'a> {
    pub(crate) fn new(segment: &'a [u8]) -> Self {
        let is_too_long = segment.len() > SEGMENT_BYTES;
        Self { reader: Reader::new(segment), is_too_long }
    }

    /// The next run, given where the one before ended.
    pub(crate) fn next(&mut self, from: End) -> Result<Option<Run>, Malformed> {
        if self.is_too_long {
            return Err(Malformed("a segment is too long"));
        }
        if self.reader.is_empty() {
            return Ok(None);
        }
        let reader = &mut self.reader;
        let first = reader.varint()?;
        let length = first >> 2;
        if length == 0 || length > MAX_RUN_LENGTH {
            return Err(Malformed("a run's length is out of bounds"));
        }
        let (pack, block, offset) = match first & 3 {
            0 => (from.pack, shifted(from.block, 1)?, 0),
            1 => (from.pack, from.block, shifted(from.offset, i64::from(reader.small()?))?),
            2 => (from.pack, shifted(from.block, reader.zigzag()?)?, reader.small()?),
            _ => (shifted(from.pack, reader.zigzag()?)?, reader.small()?, reader.small()?),
        };
        Ok(Some(Run { pack, block, offset, length }))
    }
}

/// The packs that a segment names, without knowing their blocks.
pub(crate) fn packs_of(segment: &[u8]) -> Result<BTreeSet<u32>, Malformed> {
    let mut reader = Reader::new(segment);
    let (mut packs, mut pack) = (BTreeSet::new(), 0);
    while !reader.is_empty() {
        let code = reader.varint()? & 3;
        match code {
            0 => {}
            1 => drop(reader.small()?),
            2 => drop((reader.zigzag()?, reader.small()?)),
            _ => {
                pack = shifted(pack, reader.zigzag()?)?;
                reader.small()?;
                reader.small()?;
            }
        }
        packs.insert(pack);
    }
    Ok(packs)
}

fn shifted(from: u32, by: i64) -> Result<u32, Malformed> {
    i64::from(from)
        .checked_add(by)
        .and_then(|sum| u32::try_from(sum).ok())
        .ok_or(Malformed("a run begins out of bounds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn run()(pack in 0..3_u32, block in 0..4_u32, offset: u32, length in 1..1_u64 << 40)
            -> Run { Run { pack, block, offset, length } }
    }

    proptest! {
        #[test]
        fn runs_survive_their_coding(runs in prop::collection::vec((run(), 0..4_u32, any::<u32>()), 0..50)) {
            let mut writer = RunWriter::default();
            let end = |run: &Run, block, offset| End { pack: run.pack, block, offset };
            for (run, block, offset) in &runs {
                writer.push(run, end(run, *block, *offset));
            }
            let segment = writer.take();
            let mut reader = RunReader::new(&segment);
            let mut from = End::default();
            for (run, block, offset) in &runs {
                prop_assert_eq!(reader.next(from), Ok(Some(*run)));
                from = end(run, *block, *offset);
            }
            prop_assert_eq!(reader.next(from), Ok(None));
            let packs = runs.iter().map(|(run, _, _)| run.pack).collect();
            prop_assert_eq!(packs_of(&segment), Ok(packs));
        }

        #[test]
        fn hostile_segments_end(bytes: Vec<u8>) {
            let _ = packs_of(&bytes);
            let mut reader = RunReader::new(&bytes);
            for _ in 0..=bytes.len() {
                match reader.next(End::default()) {
                    Ok(Some(run)) => prop_assert!(run.length <= MAX_RUN_LENGTH),
                    Ok(None) | Err(_) => return Ok(()),
                }
            }
            prop_assert!(false, "more runs than bytes");
        }
    }

    #[test]
    fn consecutive_blocks_take_few_bytes() {
        let mut writer = RunWriter::default();
        for block in 0..10 {
            let run = Run { pack: 0, block, offset: 0, length: 65_000 };
            writer.push(&run, End { pack: 0, block, offset: 65_000 });
        }
        assert!(writer.take().len() <= 31);
    }
}
