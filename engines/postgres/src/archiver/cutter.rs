//! Cuts a log, as it comes, into the parts that are kept.
//!
//! A part never crosses the border of a *range*: 16 MiB, or a file of the log where that is smaller.
//! What comes slowly is cut into pieces; when a range is full, and there were pieces of it, the
//! whole range is one more part that replaces them. So a log that has been written is kept in parts of
//! 16 MiB, whatever the pace at which it came.
//!
//! Memory: the bytes of one range.

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::part::{PartFacts, RANGE_BYTES, WalPart};
use crate::lsn::Lsn;
use crate::wal::{Lineage, WalError, WalReader, facts_of};

/// A part to be kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) part: WalPart,
    pub(crate) bytes: Bytes,
    /// Whether it is a full range: what was kept of it before is replaced.
    pub(crate) is_full: bool,
}

/// Cuts the log of one timeline.
#[derive(Debug)]
pub(crate) struct Cutter {
    timeline: u32,
    lineage: Lineage,
    reader: WalReader,
    /// The range, from its first byte that is known on.
    range: BytesMut,
    /// Where that is.
    range_start: Lsn,
    /// Up to here it was kept.
    kept: Lsn,
    clock: Option<Timestamp>,
    /// Of the records behind `kept`, and of those of the whole range.
    since: PartFacts,
    whole: PartFacts,
}

impl Cutter {
    /// Begins at `start`. The log before it, from the beginning of a page on, is given to
    /// [`Cutter::recall`] first, so that a record that crosses the border is read.
    pub(crate) fn new(timeline: u32, start: Lsn, from: Lsn, lineage: Lineage) -> Self {
        Self {
            timeline,
            lineage,
            reader: WalReader::new(from, lineage, timeline),
            range: BytesMut::new(),
            range_start: start,
            kept: start,
            clock: None,
            since: PartFacts::default(),
            whole: PartFacts::default(),
        }
    }

    /// The beginning of the range that a position is in.
    pub(crate) fn range_of(lineage: Lineage, at: Lsn) -> Lsn {
        at.floor(range_bytes(lineage))
    }

    /// Where the next bytes belong.
    pub(crate) fn position(&self) -> Lsn {
        self.range_start.plus(self.range.len() as u64)
    }

    /// Takes bytes that were kept before.
    pub(crate) fn recall(&mut self, start: Lsn, bytes: &[u8]) -> Result<(), WalError> {
        let end = start.plus(bytes.len() as u64);
        let own = usize::try_from(self.range_start.0.saturating_sub(start.0)).unwrap_or(usize::MAX);
        self.reader.push(bytes);
        self.range.extend_from_slice(bytes.get(own..).unwrap_or_default());
        self.kept = self.kept.max(end);
        self.read()
    }

    /// Takes the next bytes; gives the ranges that are full now.
    ///
    /// # Errors
    /// When the log is not whole.
    pub(crate) fn push(
        &mut self,
        mut bytes: Bytes,
        clock: Option<Timestamp>,
    ) -> Result<Vec<Cut>, WalError> {
        let mut full = Vec::new();
        while !bytes.is_empty() {
            let room = range_bytes(self.lineage) - self.position().0 % range_bytes(self.lineage);
            let piece =
                bytes.split_to(usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len()));
            self.reader.push(&piece);
            self.range.extend_from_slice(&piece);
            self.read()?;
            if self.position().0.is_multiple_of(range_bytes(self.lineage)) {
                full.push(self.full());
            }
        }
        // Not of the ranges before: the server's log went on while their bytes were on their way.
        self.clock = self.clock.max(clock);
        Ok(full)
    }

    /// The server says that its log ends where we are, at this time.
    pub(crate) fn nothing_until(&mut self, clock: Option<Timestamp>) {
        self.clock = self.clock.max(clock);
    }

    /// What has come since the last part; `None` where nothing has.
    pub(crate) fn cut(&mut self) -> Option<Cut> {
        let (start, end) = (self.kept, self.position());
        if start >= end {
            return None;
        }
        let from = usize::try_from(start.0 - self.range_start.0).unwrap_or(usize::MAX);
        let bytes = Bytes::copy_from_slice(self.range.get(from..).unwrap_or_default());
        let facts = std::mem::take(&mut self.since);
        self.kept = end;
        Some(Cut { part: self.part(start, end, facts), bytes, is_full: false })
    }

    fn full(&mut self) -> Cut {
        let (start, end) = (self.range_start, self.position());
        let bytes = self.range.split().freeze();
        let facts = std::mem::take(&mut self.whole);
        self.since = PartFacts::default();
        (self.range_start, self.kept) = (end, end);
        Cut { part: self.part(start, end, facts), bytes, is_full: true }
    }

    fn part(&self, start: Lsn, end: Lsn, facts: PartFacts) -> WalPart {
        let segment_bytes = self.lineage.segment_bytes;
        let (timeline, clock) = (self.timeline, self.clock);
        WalPart { timeline, start, end, segment_bytes, clock, replaces: None, facts }
    }

    fn read(&mut self) -> Result<(), WalError> {
        while let Some(record) = self.reader.next()? {
            let facts = facts_of(&record)?;
            if record.end > self.range_start {
                self.whole.add(&record, &facts);
            }
            if record.end > self.kept {
                self.since.add(&record, &facts);
            }
        }
        Ok(())
    }
}

fn range_bytes(lineage: Lineage) -> u64 {
    lineage.segment_bytes.min(RANGE_BYTES)
}
