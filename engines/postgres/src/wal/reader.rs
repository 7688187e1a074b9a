//! From bytes of the log to records: page headers are taken out, and everything that can be
//! compared is: addresses, timeline, lengths, back pointers and checksums.
//!
//! Memory: one record, of which [`most_kept`] bytes are kept, however long it is.

use bytes::{Buf, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use dbbackup_contract::{Failure, Reason};

use super::version::WalVersion;
use crate::lsn::Lsn;

/// Bytes of a page of the log. Other sizes need a server that was built for them.
const PAGE: u64 = 8192;
/// Bytes of a page's header, and of the one that begins a segment.
const SHORT_HEADER: usize = 24;
const LONG_HEADER: usize = 40;
/// Bytes of a record's header.
const RECORD_HEADER: usize = 24;
/// Longest record (`XLogRecordMaxSize` is a little less than a gigabyte).
const MAX_RECORD_BYTES: u32 = 1 << 30;
/// What a record is aligned to.
const ALIGNMENT: u64 = 8;

/// Flags of a page.
const IS_CONTINUED: u16 = 1;
const IS_LONG: u16 = 2;
/// The record that began before was given up: the server had crashed while it wrote it.
const IS_OVERWRITTEN: u16 = 8;

/// Resource managers of which whole records are read.
pub(super) const RMGR_XLOG: u8 = 0;
pub(super) const RMGR_XACT: u8 = 1;
pub(super) const RMGR_SMGR: u8 = 2;
/// `XLOG_SWITCH`: the rest of its segment is empty.
const SWITCH: u8 = 0x40;

/// A record, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where it begins.
    pub(crate) start: Lsn,
    /// Where it ends; what the server calls the position of the record.
    pub(crate) end: Lsn,
    /// Its transaction, 0 of none.
    pub(crate) xid: u32,
    /// Which part of the server wrote it.
    pub(crate) rmgr: u8,
    /// What it is, in that part's words.
    pub(crate) info: u8,
    /// How much follows its header.
    pub(crate) body_bytes: u32,
    /// The body, or its beginning.
    pub(crate) body: Bytes,
    /// Of which version the log is.
    pub(crate) version: WalVersion,
}

/// Why the log cannot be read further. As a failure: what the server sends is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WalError {
    /// Of an unknown version, or no log at all.
    #[error("the log at {0} is of an unknown version ({1:#06X})")]
    Version(Lsn, u16),
    /// Something is not as it must be.
    #[error("the log at {0} is damaged: {1}")]
    Damaged(Lsn, &'static str),
    /// It belongs to another timeline.
    #[error("the log at {0} is of timeline {1}")]
    Timeline(Lsn, u32),
    /// It belongs to another server.
    #[error("the log at {0} is of the server {1}")]
    Server(Lsn, u64),
}

impl From<WalError> for Failure {
    fn from(error: WalError) -> Self {
        Self::new(Reason::DataCorrupted, error.to_string()).with_hint(
            "The server's disk or memory may be failing: look at its log; do not delete older backups.",
        )
    }
}

/// Which log it has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lineage {
    pub(crate) system_identifier: u64,
    pub(crate) segment_bytes: u64,
}

/// Reads a log from the beginning of a page on.
#[derive(Debug)]
pub(crate) struct WalReader {
    lineage: Lineage,
    /// Where the next byte that was not looked at belongs.
    position: Lsn,
    waiting: BytesMut,
    version: Option<WalVersion>,
    /// The lowest timeline that the next page may be of; the first page says which.
    timeline: Option<u32>,
    /// The highest one.
    newest: u32,
    state: State,
    /// Where the record before began; unknown at first.
    previous: Option<Lsn>,
    /// End of the last whole record.
    end: Lsn,
}

#[derive(Debug)]
enum State {
    /// Between records, at their alignment.
    Between,
    /// In the rest of a record of which the beginning is not known, so many bytes of it.
    Skipping(u64),
    /// In a record.
    Within(Box<Partial>),
    /// Behind a switch, until the segment ends.
    Empty,
    /// Behind the last record: zeros.
    Over,
}

#[derive(Debug)]
struct Partial {
    start: Lsn,
    header: BytesMut,
    /// Known once the header is there.
    length: u32,
    kept: BytesMut,
    crc: Digest,
    /// Bytes of header and body so far.
    had: u32,
}

impl WalReader {
    /// Reads from `start` on, the beginning of a page: the log of `timeline`, and before that of
    /// those that it came from.
    pub(crate) fn new(start: Lsn, lineage: Lineage, timeline: u32) -> Self {
        Self {
            newest: timeline,
            lineage,
            position: start,
            waiting: BytesMut::new(),
            version: None,
            timeline: None,
            state: State::Between,
            previous: None,
            end: start,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// End of the last whole record so far.
    pub(crate) fn end(&self) -> Lsn {
        self.end
    }

    /// The next record; `None` until more is pushed, or where the log is over.
    ///
    /// # Errors
    /// What is not as it must be. Nothing behind it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, WalError> {
        loop {
            if self.position.0.is_multiple_of(PAGE) && !matches!(self.state, State::Over) {
                if !self.page()? {
                    return Ok(None);
                }
                continue;
            }
            let left = PAGE - self.position.0 % PAGE;
            let at_hand = (self.waiting.len() as u64).min(left) as usize;
            if at_hand == 0 {
                return Ok(None);
            }
            match &mut self.state {
                State::Over => {
                    if self.waiting.iter().any(|byte| *byte != 0) {
                        return Err(self.damaged("something follows its end"));
                    }
                    let all = self.waiting.len();
                    self.skip(all);
                    return Ok(None);
                }
                State::Empty => {
                    self.skip(at_hand);
                    if self.position.0.is_multiple_of(self.lineage.segment_bytes) {
                        self.state = State::Between;
                    }
                }
                State::Skipping(rest) => {
                    let now = at_hand.min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    *rest -= now as u64;
                    let is_end = *rest == 0;
                    self.skip(now);
                    if is_end {
                        self.state = State::Between;
                        if !self.align() {
                            return Ok(None);
                        }
                    }
                }
                State::Between => {
                    if !self.position.0.is_multiple_of(ALIGNMENT) {
                        if !self.align() {
                            return Ok(None);
                        }
                        continue;
                    }
                    // The length stands on the record's first page, since that is aligned.
                    let Some(length) = self.waiting.first_chunk::<4>() else { return Ok(None) };
                    let length = u32::from_le_bytes(*length);
                    if length == 0 {
                        self.state = State::Over;
                        continue;
                    }
                    if !(RECORD_HEADER as u32..=MAX_RECORD_BYTES).contains(&length) {
                        return Err(self.damaged("a record has an impossible length"));
                    }
                    self.state = State::Within(Box::new(Partial::new(self.position, length)));
                }
                State::Within(partial) => {
                    let piece = self.waiting.split_to(at_hand.min(partial.wanted()));
                    self.position = self.position.plus(piece.len() as u64);
                    partial.add(piece);
                    if partial.had == partial.length {
                        return self.finished().map(Some);
                    }
                }
            }
        }
    }

    fn finished(&mut self) -> Result<Record, WalError> {
        let State::Within(partial) = std::mem::replace(&mut self.state, State::Between) else {
            return Err(self.damaged("a record ends that had not begun"));
        };
        let (Some(version), start) = (self.version, partial.start) else {
            return Err(self.damaged("a record begins before a page"));
        };
        let damaged = |why| WalError::Damaged(start, why);
        // As the server counts: a record goes to where the next one may begin.
        let end = Lsn(self.position.0.next_multiple_of(ALIGNMENT));
        let (previous, record) = partial.read(end, version).map_err(damaged)?;
        if self.previous.is_some_and(|own| own != previous) {
            return Err(damaged("it does not follow the record before"));
        }
        self.previous = Some(start);
        self.end = record.end;
        if record.rmgr == RMGR_XLOG && record.info == SWITCH {
            let is_end = self.position.0.is_multiple_of(self.lineage.segment_bytes);
            self.state = if is_end { State::Between } else { State::Empty };
        }
        Ok(record)
    }

    /// Skips to the alignment. Whether it is reached.
    fn align(&mut self) -> bool {
        let over = (self.position.0 % ALIGNMENT) as usize;
        if over == 0 {
            return true;
        }
        let wanted = ALIGNMENT as usize - over;
        let now = wanted.min(self.waiting.len());
        self.skip(now);
        now == wanted
    }

    fn skip(&mut self, bytes: usize) {
        self.waiting.advance(bytes);
        self.position = self.position.plus(bytes as u64);
    }

    /// Reads a page's header. False until it is there.
    fn page(&mut self) -> Result<bool, WalError> {
        let is_first = self.position.0.is_multiple_of(self.lineage.segment_bytes);
        let length = if is_first { LONG_HEADER } else { SHORT_HEADER };
        if self.waiting.len() < length {
            return Ok(false);
        }
        let header = self.waiting.split_to(length);
        let at = self.position;
        self.position = at.plus(length as u64);
        let mut rest = &header[..];
        let (magic, flags) = (rest.get_u16_le(), rest.get_u16_le());
        let (timeline, address, continued) =
            (rest.get_u32_le(), rest.get_u64_le(), rest.get_u32_le());
        if magic == 0 && header.iter().all(|byte| *byte == 0) {
            // Behind the last record, or a switch.
            if !matches!(self.state, State::Between | State::Empty) {
                return Err(WalError::Damaged(at, "it ends within a record"));
            }
            if matches!(self.state, State::Between) {
                self.state = State::Over;
            }
            return Ok(true);
        }
        let version = WalVersion::of_magic(magic).ok_or(WalError::Version(at, magic))?;
        if self.version.is_some_and(|own| own != version) {
            return Err(WalError::Version(at, magic));
        }
        self.version = Some(version);
        if address != at.0 {
            return Err(WalError::Damaged(at, "a page belongs elsewhere"));
        }
        if timeline > self.newest || self.timeline.is_some_and(|own| timeline < own) {
            return Err(WalError::Timeline(at, timeline));
        }
        self.timeline = Some(timeline);
        if (flags & IS_LONG != 0) != is_first {
            return Err(WalError::Damaged(at, "a page has another header than its place wants"));
        }
        if is_first {
            rest.advance(4);
            let (system, segment) = (rest.get_u64_le(), u64::from(rest.get_u32_le()));
            if system != self.lineage.system_identifier {
                return Err(WalError::Server(at, system));
            }
            if segment != self.lineage.segment_bytes {
                return Err(WalError::Damaged(at, "it has segments of another size"));
            }
        }
        self.continue_record(at, flags, continued)?;
        Ok(true)
    }

    /// What a page's header says of a record that began before.
    fn continue_record(&mut self, at: Lsn, flags: u16, continued: u32) -> Result<(), WalError> {
        let is_continued = flags & IS_CONTINUED != 0;
        match &self.state {
            State::Within(_) if flags & IS_OVERWRITTEN != 0 => self.state = State::Between,
            State::Within(partial)
                if !is_continued || continued != partial.length - partial.had =>
            {
                return Err(WalError::Damaged(at, "a record is not continued"));
            }
            State::Skipping(rest) if !is_continued || u64::from(continued) != *rest => {
                return Err(WalError::Damaged(at, "a record is not continued"));
            }
            // The first page may begin within a record.
            State::Between if is_continued && self.previous.is_none() => {
                self.state = State::Skipping(u64::from(continued));
            }
            State::Between if is_continued => {
                return Err(WalError::Damaged(at, "a record is continued that did not begin"));
            }
            _ => {}
        }
        Ok(())
    }

    fn damaged(&self, why: &'static str) -> WalError {
        WalError::Damaged(self.position, why)
    }
}

/// How much of a record's body is kept. Of most only what they say of blocks is read, which
/// stands at their beginning: at most 33 blocks with less than 40 bytes each.
fn most_kept(rmgr: u8) -> usize {
    match rmgr {
        RMGR_XLOG | RMGR_XACT | RMGR_SMGR => 64 * 1024 * 1024,
        _ => 2048,
    }
}

impl Partial {
    fn new(start: Lsn, length: u32) -> Self {
        Self {
            start,
            header: BytesMut::with_capacity(RECORD_HEADER),
            length,
            kept: BytesMut::new(),
            crc: Digest::new(CrcAlgorithm::Crc32Iscsi),
            had: 0,
        }
    }

    /// How many bytes it takes next.
    fn wanted(&self) -> usize {
        match RECORD_HEADER - self.header.len() {
            0 => (self.length - self.had) as usize,
            header => header,
        }
    }

    fn add(&mut self, piece: BytesMut) {
        // A record has less than a gigabyte.
        self.had += piece.len() as u32;
        if self.header.len() < RECORD_HEADER {
            self.header.extend_from_slice(&piece);
            return;
        }
        self.crc.update(&piece);
        let room = most_kept(self.header[17]).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// The record before, and this one.
    fn read(mut self, end: Lsn, version: WalVersion) -> Result<(Lsn, Record), &'static str> {
        self.crc.update(&self.header[..20]);
        let mut rest = &self.header[..];
        let (_, xid, previous) = (rest.get_u32_le(), rest.get_u32_le(), rest.get_u64_le());
        let (info, rmgr) = (rest.get_u8(), rest.get_u8());
        rest.advance(2);
        if self.crc.finalize() != u64::from(rest.get_u32_le()) {
            return Err("a record's checksum is wrong");
        }
        let record = Record {
            start: self.start,
            end,
            xid,
            rmgr,
            // The lower half is the server's own, of how it was written.
            info: info & 0xF0,
            body_bytes: self.length - RECORD_HEADER as u32,
            body: self.kept.freeze(),
            version,
        };
        Ok((Lsn(previous), record))
    }
}
