//! From one archive, as it arrives, to its streams.

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::ArchiveError;
use super::block::{BlockReader, Head, hex};
use super::layout::{BlockKind, BlockLayout, LAYOUT_VERSION, Layout, PreludeLayout};
use super::prelude::{Header, NeedsCollector, read_entry, read_header};
use super::stream_names::{encoded, shown};
use super::wire::arrived;

/// `BLK_DATA`.
const BLOCK_OF_TABLE: u8 = 1;
/// `BLK_BLOBS`.
const BLOCK_OF_LARGE_OBJECTS: u8 = 3;
/// Longest name of a stream.
const MAX_NAME_BYTES: usize = 1024;

/// What bounds the memory of a [`Splitter`].
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Longest entry of the table of contents.
    entry_bytes: usize,
    /// Most bytes that are kept of the table of contents.
    kept_bytes: usize,
}

/// The longest real entries are functions, views and comments, of some kilobytes;
/// and half a million tables fit.
const LIMITS: Limits = Limits { entry_bytes: 64 << 20, kept_bytes: 256 << 20 };

/// A part of the archive, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// What follows belongs to this stream.
    Begin(Target),
    /// Bytes of the stream that was begun last.
    Bytes(Bytes),
    /// That stream has ended.
    End,
}

/// Which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Header and table of contents, without the date.
    Prelude {
        /// Its stream's name.
        stream: String,
    },
    /// A block of data.
    Block {
        /// Its stream's name.
        stream: String,
        /// What messages call it.
        shown: String,
    },
}

/// Takes an archive apart.
///
/// Memory: one entry of the table of contents, in a buffer that grows by doubling
/// (128 MiB at most, and what was pushed last), and for each table some 400 bytes
/// (256 MiB at most). An archive that needs more is refused.
#[derive(Debug)]
pub(crate) struct Splitter {
    prefix: String,
    limits: Limits,
    state: State,
    /// Bytes of the prelude that are not understood yet.
    pending: BytesMut,
    header: Option<Header>,
    date: Vec<u8>,
    entries_left: u64,
    /// Bytes that `expected`, `order` and `needs` take.
    kept: usize,
    needs: NeedsCollector,
    prelude_hash: Sha256,
    prelude_bytes: u64,
    /// Blocks of the table of contents in its order; those read so far have facts.
    expected: Vec<Expected>,
    /// Positions in `expected` in the order of the archive.
    order: Vec<usize>,
    begun: bool,
}

fn too_large(what: &str, limit: usize) -> ArchiveError {
    ArchiveError::TooLarge(format!("{what} of more than {} KiB", limit >> 10))
}

/// What a block takes in memory, the digest that it will have included.
fn kept_bytes(layout: &BlockLayout) -> usize {
    const DIGEST_DIGITS: usize = 64;
    let names =
        layout.stream.len() + layout.name.len() + layout.schema.as_ref().map_or(0, String::len);
    size_of::<Expected>() + size_of::<usize>() + DIGEST_DIGITS + names
}

#[derive(Debug)]
struct Expected {
    layout: BlockLayout,
    done: bool,
}

#[derive(Debug)]
enum State {
    Prelude,
    /// The next block's kind comes next.
    Kind,
    /// The next block's number comes next.
    Number(BlockKind, Head),
    Block(usize, BlockReader),
}

impl Splitter {
    /// `prefix` begins the names of all its streams.
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            limits: LIMITS,
            state: State::Prelude,
            pending: BytesMut::new(),
            header: None,
            date: Vec::new(),
            entries_left: 0,
            kept: 0,
            needs: NeedsCollector::default(),
            prelude_hash: Sha256::new(),
            prelude_bytes: 0,
            expected: Vec::new(),
            order: Vec::new(),
            begun: false,
        }
    }

    /// Takes the next bytes of the archive, of any length, and appends what they are to `pieces`.
    pub(crate) fn push(
        &mut self,
        mut bytes: Bytes,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), ArchiveError> {
        if matches!(self.state, State::Prelude) {
            self.pending.extend_from_slice(&bytes);
            bytes = match self.read_prelude(pieces)? {
                Some(rest) => rest,
                None => return Ok(()),
            };
        }
        while !bytes.is_empty() {
            self.read_data(&mut bytes, pieces)?;
        }
        Ok(())
    }

    /// The archive has ended: how it is put together.
    pub(crate) fn finish(self) -> Result<Layout, ArchiveError> {
        match (&self.state, self.header) {
            (State::Kind, Some(header)) => {
                let missing = self.expected.iter().find(|block| !block.done);
                if let Some(missing) = missing {
                    let shown = missing.layout.shown();
                    return Err(ArchiveError::Cut(format!("the rows of {shown} are missing")));
                }
                let (major, minor, revision) = header.version;
                let mut blocks: Vec<_> =
                    self.expected.into_iter().map(|block| Some(block.layout)).collect();
                Ok(Layout {
                    version: LAYOUT_VERSION,
                    archive_format: format!("{major}.{minor}.{revision}"),
                    int_size: header.int_size,
                    server_version: header.server_version,
                    client_version: header.client_version,
                    prelude: PreludeLayout {
                        stream: format!("{}prelude", self.prefix),
                        bytes: self.prelude_bytes,
                        sha256: hex(&self.prelude_hash.finalize()),
                        date_at: header.date.start as u64,
                        date: hex(&self.date),
                    },
                    blocks: self.order.iter().filter_map(|index| blocks[*index].take()).collect(),
                    needs: self.needs.finish(),
                })
            }
            (State::Prelude, _) => {
                Err(ArchiveError::Cut("it ends within the table of contents".to_owned()))
            }
            _ => Err(ArchiveError::Cut("it ends within a block of data".to_owned())),
        }
    }

    /// Reads what has arrived of the prelude; gives the rest once it has ended.
    fn read_prelude(&mut self, pieces: &mut Vec<Piece>) -> Result<Option<Bytes>, ArchiveError> {
        if !self.begun {
            self.begun = true;
            let stream = format!("{}prelude", self.prefix);
            pieces.push(Piece::Begin(Target::Prelude { stream }));
        }
        if self.header.is_none() {
            let Some(header) = arrived(read_header(&self.pending))? else { return Ok(None) };
            let bytes = self.pending.split_to(header.length).freeze();
            self.date = bytes[header.date.clone()].to_vec();
            self.give_prelude(bytes.slice(..header.date.start), pieces);
            self.give_prelude(bytes.slice(header.date.end..), pieces);
            self.entries_left = header.entries;
            self.header = Some(header);
        }
        let understood = self.read_entries()?;
        if understood > 0 {
            let bytes = self.pending.split_to(understood).freeze();
            self.give_prelude(bytes, pieces);
        }
        if self.entries_left > 0 {
            return Ok(None);
        }
        pieces.push(Piece::End);
        self.state = State::Kind;
        Ok(Some(std::mem::take(&mut self.pending).freeze()))
    }

    /// Reads entries as far as they have arrived; returns their length.
    fn read_entries(&mut self) -> Result<usize, ArchiveError> {
        let mut understood = 0;
        while self.entries_left > 0 {
            let Some(header) = &self.header else { break };
            let rest = &self.pending[understood..];
            let entry = arrived(read_entry(rest, header))?;
            let length = entry.as_ref().map_or(rest.len(), |entry| entry.length);
            if length > self.limits.entry_bytes {
                return Err(too_large("an entry", self.limits.entry_bytes));
            }
            let Some(entry) = entry else { break };
            understood += length;
            self.entries_left -= 1;
            self.kept += self.needs.add(&entry, &header.server_version);
            if self.kept > self.limits.kept_bytes {
                return Err(too_large("a table of contents", self.limits.kept_bytes));
            }
            if !entry.has_data {
                continue;
            }
            let kind = entry.block_kind();
            let (schema, name) = (entry.namespace.unwrap_or_default(), encoded(entry.tag));
            let stream = match kind {
                BlockKind::LargeObjects => format!("{}large-objects/{name}", self.prefix),
                BlockKind::Table => format!("{}tables/{}/{name}", self.prefix, encoded(schema)),
            };
            if stream.len() > MAX_NAME_BYTES {
                return Err(ArchiveError::Damaged("a table's name is too long".to_owned()));
            }
            let layout = BlockLayout {
                stream,
                kind,
                schema: entry.namespace.map(shown),
                name: shown(entry.tag),
                dump_id: entry.dump_id,
                bytes: 0,
                data_bytes: 0,
                rows: 0,
                sha256: String::new(),
            };
            self.kept += kept_bytes(&layout);
            self.expected.push(Expected { layout, done: false });
        }
        Ok(understood)
    }

    fn give_prelude(&mut self, bytes: Bytes, pieces: &mut Vec<Piece>) {
        self.prelude_hash.update(&bytes);
        self.prelude_bytes += bytes.len() as u64;
        pieces.push(Piece::Bytes(bytes));
    }

    fn read_data(
        &mut self,
        bytes: &mut Bytes,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), ArchiveError> {
        let int_size = self.header.as_ref().map_or(4, |header| header.int_size);
        match &mut self.state {
            State::Prelude => {}
            State::Kind => {
                let kind = match bytes.get_u8() {
                    BLOCK_OF_TABLE => BlockKind::Table,
                    BLOCK_OF_LARGE_OBJECTS => BlockKind::LargeObjects,
                    other => {
                        return Err(ArchiveError::Damaged(format!("a block of kind {other}")));
                    }
                };
                self.state = State::Number(kind, Head::new(int_size));
            }
            State::Number(kind, head) => {
                let (count, number) = head.feed(bytes)?;
                bytes.advance(count);
                if let Some(number) = number {
                    let kind = *kind;
                    self.begin_block(kind, number, int_size, pieces)?;
                }
            }
            State::Block(index, reader) => {
                let count = reader.feed(bytes)?;
                pieces.push(Piece::Bytes(bytes.split_to(count)));
                if reader.has_ended() {
                    let index = *index;
                    self.end_block(index, pieces)?;
                }
            }
        }
        Ok(())
    }

    fn begin_block(
        &mut self,
        kind: BlockKind,
        dump_id: i64,
        int_size: usize,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), ArchiveError> {
        // The archive keeps the order of its table of contents, so the next one
        // is nearly always the right one; a search from there is short.
        let after = self.order.last().map_or(0, |last| last + 1);
        let (before, rest) = self.expected.split_at(after.min(self.expected.len()));
        let fits = |block: &Expected| block.layout.dump_id == dump_id && !block.done;
        let index = rest
            .iter()
            .position(fits)
            .map(|position| position + before.len())
            .or_else(|| before.iter().position(fits))
            .filter(|index| self.expected[*index].layout.kind == kind);
        let Some(index) = index else {
            return Err(ArchiveError::Damaged(format!("an unexpected block {dump_id}")));
        };
        let layout = &self.expected[index].layout;
        let (stream, shown) = (layout.stream.clone(), layout.shown());
        pieces.push(Piece::Begin(Target::Block { stream, shown }));
        self.state = State::Block(index, BlockReader::new(kind, int_size));
        Ok(())
    }

    fn end_block(&mut self, index: usize, pieces: &mut Vec<Piece>) -> Result<(), ArchiveError> {
        if let State::Block(_, reader) = std::mem::replace(&mut self.state, State::Kind) {
            let facts = reader.finish()?;
            let block = &mut self.expected[index];
            block.done = true;
            block.layout.bytes = facts.bytes;
            block.layout.data_bytes = facts.data_bytes;
            block.layout.rows = facts.rows;
            block.layout.sha256 = facts.sha256;
            self.order.push(index);
        }
        pieces.push(Piece::End);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
