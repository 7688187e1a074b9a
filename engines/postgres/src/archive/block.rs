//! One block of data: frames, followed as they stream past, never held.
//!
//! A table's block is frames (a length, then bytes) until a frame of length
//! zero; a block of large objects is (an object's OID, then such frames) until
//! an OID of zero. `pg_dump` without compression writes one frame for each row
//! of `COPY`: what is done for each must be little.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::ArchiveError;
use super::layout::BlockKind;
use super::wire::decode_int;

/// Longest frame that is believed: one row cannot be larger than 1 GiB in the server.
const MAX_FRAME_BYTES: i64 = 2 * 1024 * 1024 * 1024;

/// What `pg_dump` writes after the rows of a table.
const END_OF_COPY: &[u8] = b"\\.\n\n\n";

/// Follows one block.
#[derive(Debug)]
pub(super) struct BlockReader {
    kind: BlockKind,
    head: Head,
    state: State,
    bytes: u64,
    tally: Tally,
    objects: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// An object's OID comes next.
    Object,
    /// A frame's length comes next.
    Length,
    /// So many bytes of a frame are still to come.
    Frame(usize),
    /// The block has ended.
    Ended,
}

/// What is known of a block when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockFacts {
    pub(super) bytes: u64,
    pub(super) data_bytes: u64,
    pub(super) rows: u64,
    pub(super) sha256: String,
}

impl BlockReader {
    pub(super) fn new(kind: BlockKind, int_size: usize) -> Self {
        let state = match kind {
            BlockKind::Table => State::Length,
            BlockKind::LargeObjects => State::Object,
        };
        let tally = Tally::default();
        Self { kind, head: Head::new(int_size), state, bytes: 0, tally, objects: 0 }
    }

    /// Follows `bytes` up to the block's end; returns how many belong to it.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        let mut position = 0;
        while position < bytes.len() {
            match self.state {
                State::Ended => break,
                State::Frame(left) => {
                    let count = left.min(bytes.len() - position);
                    self.tally.update(&bytes[position..position + count]);
                    position += count;
                    self.state =
                        if count == left { State::Length } else { State::Frame(left - count) };
                }
                State::Length | State::Object => {
                    let (count, number) = self.head.feed(&bytes[position..])?;
                    position += count;
                    if let Some(number) = number {
                        self.state = self.after_number(number)?;
                    }
                }
            }
        }
        self.bytes += position as u64;
        Ok(position)
    }

    fn after_number(&mut self, number: i64) -> Result<State, ArchiveError> {
        let bad = |what: &str| Err(ArchiveError::Damaged(format!("{what} {number}")));
        match (self.state, number) {
            (State::Object, 0) => Ok(State::Ended),
            // `pg_dump` writes an OID as a signed number: the upper half is negative.
            (State::Object, -0x8000_0000..=-1 | 1..=0xFFFF_FFFF) => {
                self.objects += 1;
                self.tally.mark_object(number);
                Ok(State::Length)
            }
            (State::Object, _) => bad("a large object with the number"),
            (_, 0) if self.kind == BlockKind::Table => Ok(State::Ended),
            (_, 0) => Ok(State::Object),
            (_, 1..=MAX_FRAME_BYTES) => Ok(State::Frame(usize::try_from(number).unwrap_or(0))),
            _ => bad("a frame of length"),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// What the block was, once it has ended.
    pub(super) fn finish(self) -> Result<BlockFacts, ArchiveError> {
        if !self.has_ended() {
            return Err(ArchiveError::Cut("it ends within a block of data".to_owned()));
        }
        let (rows, tally) = match self.kind {
            BlockKind::LargeObjects => (self.objects, self.tally.finish(b"")?),
            BlockKind::Table => {
                let tally = self.tally.finish(END_OF_COPY)?;
                (tally.newlines, tally)
            }
        };
        Ok(BlockFacts { bytes: self.bytes, data_bytes: tally.bytes, rows, sha256: tally.sha256 })
    }
}

/// A number that may arrive in pieces.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; 9],
    have: usize,
    need: usize,
}

impl Head {
    pub(super) fn new(int_size: usize) -> Self {
        Self { bytes: [0; 9], have: 0, need: 1 + int_size }
    }

    /// Takes what it needs from `bytes`: how many, and the number once it is whole.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<i64>), ArchiveError> {
        if self.have == 0 && bytes.len() >= self.need {
            return Ok((self.need, Some(decode_int(&bytes[..self.need])?)));
        }
        let count = bytes.len().min(self.need - self.have);
        self.bytes[self.have..self.have + count].copy_from_slice(&bytes[..count]);
        self.have += count;
        if self.have < self.need {
            return Ok((count, None));
        }
        self.have = 0;
        Ok((count, Some(decode_int(&self.bytes[..self.need])?)))
    }
}

/// How much data is gathered before it is counted and hashed: rows are short,
/// and both are much faster on long pieces.
const GATHERED_BYTES: usize = 16 * 1024;

/// Counts and hashes data, but for the mark at its end, which may arrive in pieces.
#[derive(Debug, Default)]
struct Tally {
    hash: Sha256,
    bytes: u64,
    newlines: u64,
    /// Data that is not counted yet, the last bytes that might be the mark included.
    gathered: Vec<u8>,
}

struct Counted {
    bytes: u64,
    newlines: u64,
    sha256: String,
}

impl Tally {
    fn update(&mut self, data: &[u8]) {
        if self.gathered.len() + data.len() <= GATHERED_BYTES {
            self.gathered.extend_from_slice(data);
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        if data.len() < END_OF_COPY.len() {
            let kept = gathered.len().saturating_sub(END_OF_COPY.len());
            self.count(&gathered[..kept]);
            gathered.drain(..kept);
            gathered.extend_from_slice(data);
        } else {
            self.count(&gathered);
            let (counted, kept) = data.split_at(data.len() - END_OF_COPY.len());
            self.count(counted);
            gathered.clear();
            gathered.extend_from_slice(kept);
        }
        self.gathered = gathered;
    }

    /// The digest tells objects apart, not only their bytes in a row.
    fn mark_object(&mut self, number: i64) {
        let gathered = std::mem::take(&mut self.gathered);
        self.count(&gathered);
        self.hash.update(number.to_le_bytes());
    }

    fn count(&mut self, data: &[u8]) {
        self.hash.update(data);
        self.bytes += data.len() as u64;
        self.newlines += memchr::memchr_iter(b'\n', data).count() as u64;
    }

    fn finish(mut self, mark: &[u8]) -> Result<Counted, ArchiveError> {
        let gathered = std::mem::take(&mut self.gathered);
        let Some(rest) = gathered.strip_suffix(mark) else {
            return Err(ArchiveError::Cut("a table's rows end without their mark".to_owned()));
        };
        self.count(rest);
        let sha256 = hex(&self.hash.finalize());
        Ok(Counted { bytes: self.bytes, newlines: self.newlines, sha256 })
    }
}

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_object_may_have_any_number_that_an_oid_has() {
        for number in [1, i64::from(i32::MAX), i64::from(i32::MIN), -1] {
            let mut block = Vec::new();
            for value in [number, 0, 0] {
                super::super::wire::encode_int(value, 4, &mut block);
            }
            let mut reader = BlockReader::new(BlockKind::LargeObjects, 4);
            assert_eq!(reader.feed(&block), Ok(block.len()), "{number}");
            assert_eq!(reader.finish().unwrap().rows, 1);
        }
    }

    #[test]
    fn the_mark_is_left_out_wherever_the_pieces_end() {
        let near = GATHERED_BYTES;
        for length in [0, 1, 6, near - 7, near - 6, near - 1, near, near + 1, near + 7, 3 * near] {
            let rows = vec![b'x'; length];
            let data = [&rows, END_OF_COPY].concat();
            for piece in [1, 2, 5, 7, near - 1, near + 1, 4 * near] {
                let mut tally = Tally::default();
                data.chunks(piece).for_each(|piece| tally.update(piece));
                let counted = tally.finish(END_OF_COPY).unwrap();
                assert_eq!(counted.bytes, length as u64, "{length} by {piece}");
                assert_eq!(counted.sha256, hex(&Sha256::digest(&rows)), "{length} by {piece}");
            }
        }
    }
}
