//! A prelude as it streams, the date in its place: its header, then entry by entry.

use bytes::{Bytes, BytesMut};

use super::ArchiveError;
use super::prelude::{Entry, Header, read_entry, read_header};
use super::wire::arrived;

/// A part of a prelude that has arrived as a whole.
pub(super) enum Part<'a> {
    /// The header.
    Header(&'a [u8]),
    /// One entry: its bytes, and what they say.
    Entry(&'a [u8], &'a Entry<'a>),
}

/// Takes a prelude in pieces of any length; keeps what is not understood yet.
#[derive(Debug, Default)]
pub(super) struct EntryReader {
    pending: BytesMut,
    header: Option<Header>,
    entries_left: u64,
}

impl EntryReader {
    /// Takes the next bytes; gives the parts that are whole now to `take`.
    pub(super) fn push(
        &mut self,
        bytes: &Bytes,
        mut take: impl FnMut(Part<'_>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        self.pending.extend_from_slice(bytes);
        if self.header.is_none() {
            let Some(header) = arrived(read_header(&self.pending))? else { return Ok(()) };
            take(Part::Header(&self.pending.split_to(header.length)))?;
            self.entries_left = header.entries;
            self.header = Some(header);
        }
        let Some(header) = &self.header else { return Ok(()) };
        let mut understood = 0;
        while self.entries_left > 0 {
            let rest = &self.pending[understood..];
            let Some(entry) = arrived(read_entry(rest, header))? else { break };
            let length = entry.length;
            take(Part::Entry(&rest[..length], &entry))?;
            understood += length;
            self.entries_left -= 1;
        }
        let _ = self.pending.split_to(understood);
        Ok(())
    }

    /// The prelude has ended: is it whole?
    pub(super) fn finish(self) -> Result<(), ArchiveError> {
        if self.header.is_none() || self.entries_left > 0 {
            return Err(ArchiveError::Cut("it ends within the table of contents".to_owned()));
        }
        Ok(())
    }
}
