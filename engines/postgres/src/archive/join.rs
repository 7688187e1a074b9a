//! From streams back to the archive, compared with its layout as they pass.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::ArchiveError;
use super::block::{BlockReader, hex};
use super::layout::{BlockKind, BlockLayout, LAYOUT_VERSION, Layout};
use super::wire::encode_int;

/// Checks a layout that was read from a backup before anything follows it.
pub(crate) fn check_layout(layout: &Layout) -> Result<(), ArchiveError> {
    if layout.version != LAYOUT_VERSION {
        let version = layout.version;
        return Err(ArchiveError::Unsupported(format!(
            "described by a layout of version {version}"
        )));
    }
    let date = unhex(&layout.prelude.date);
    let sane = (layout.int_size == 4 || layout.int_size == 8)
        && date.is_some()
        && layout.prelude.date_at <= layout.prelude.bytes;
    if sane { Ok(()) } else { Err(ArchiveError::Damaged("its layout makes no sense".to_owned())) }
}

/// Puts the date back into the prelude as it streams.
pub(crate) struct PreludeJoiner<'a> {
    layout: &'a Layout,
    hash: Sha256,
    position: u64,
}

impl<'a> PreludeJoiner<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Self {
        Self { layout, hash: Sha256::new(), position: 0 }
    }

    /// The next bytes of the stream, as the archive had them.
    pub(crate) fn push(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        self.hash.update(&bytes);
        let (start, end) = (self.position, self.position + bytes.len() as u64);
        self.position = end;
        let at = self.layout.prelude.date_at;
        if (start..end).contains(&at) {
            let cut = usize::try_from(at - start).unwrap_or(0);
            out.push(bytes.slice(..cut));
            out.push(unhex(&self.layout.prelude.date).unwrap_or_default().into());
            out.push(bytes.slice(cut..));
        } else {
            out.push(bytes);
        }
    }

    /// The stream has ended: is it what was written?
    pub(crate) fn finish(self) -> Result<(), ArchiveError> {
        let expected = &self.layout.prelude;
        if self.position == expected.bytes && hex(&self.hash.finalize()) == expected.sha256 {
            return Ok(());
        }
        Err(ArchiveError::Damaged("its table of contents differs from what was written".to_owned()))
    }
}

/// What stands before a block's own bytes.
pub(crate) fn block_header(block: &BlockLayout, int_size: usize) -> Bytes {
    let mut bytes = vec![match block.kind {
        BlockKind::Table => 1,
        BlockKind::LargeObjects => 3,
    }];
    encode_int(block.dump_id, int_size, &mut bytes);
    bytes.into()
}

/// Follows one block's stream and compares it with its layout.
pub(crate) struct BlockJoiner<'a> {
    block: &'a BlockLayout,
    reader: BlockReader,
}

impl<'a> BlockJoiner<'a> {
    pub(crate) fn new(block: &'a BlockLayout, int_size: usize) -> Self {
        Self { block, reader: BlockReader::new(block.kind, int_size) }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        if self.reader.feed(bytes)? == bytes.len() {
            return Ok(());
        }
        Err(ArchiveError::Damaged(format!("more bytes than {} has", self.block.shown())))
    }

    /// The stream has ended: is it what was written?
    pub(crate) fn finish(self) -> Result<(), ArchiveError> {
        let facts = self.reader.finish()?;
        let block = self.block;
        let same = facts.bytes == block.bytes
            && facts.data_bytes == block.data_bytes
            && facts.rows == block.rows
            && facts.sha256 == block.sha256;
        if same {
            return Ok(());
        }
        Err(ArchiveError::Damaged(format!("{} differs from what was written", block.shown())))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
