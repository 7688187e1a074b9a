//! Packs: blocks of chunks behind each other, and a footer that says what is
//! where (`docs/format.md`, "Packs").

use crate::envelope::{HEADER_BYTES, ObjectSeal, Salt, TAG_BYTES, Tag};
use crate::hooks::{choose, prefix};
use crate::keyring::{ChunkId, Keyring};
use crate::names::PartName;
use crate::padme::padme;
use crate::wire::{Malformed, Reader, put_varint};
use crate::{Error, Result};

/// Plain bytes of new chunks that one block takes.
pub(crate) const BLOCK_BYTES: usize = 128 * 1024;
/// Largest plain block that is accepted: one chunk may be larger than a block.
pub(crate) const MAX_BLOCK_BYTES: usize = 1024 * 1024;
/// Smallest size that is aimed at.
const MIN_TARGET_BYTES: u64 = 12 * 1024 * 1024;
/// How far the size that is aimed at varies.
const TARGET_SPREAD_BYTES: u64 = 8 * 1024 * 1024;
/// The most that an open pack holds, in bytes: the largest target and a block,
/// before its footer.
pub(crate) const MAX_OPEN_PACK_BYTES: usize =
    (MIN_TARGET_BYTES + TARGET_SPREAD_BYTES) as usize + MAX_BLOCK_BYTES;

/// A pack that has grown so large gets all the room that it may need at once: growing
/// bit by bit would leave holes of many mebibytes in the process's memory.
const SMALL_PACK_BYTES: usize = 1024 * 1024;
/// Room for the footer of a pack whose chunks shrink to an eighth.
pub(crate) const FOOTER_ROOM_BYTES: usize = 1024 * 1024;

/// Most blocks of a pack.
pub(crate) const MAX_BLOCKS: usize = 65_536;
const MAX_CHUNKS: usize = 1_048_576;

const COUNTER_BLOCK_TABLE: u64 = 1 << 32;
const COUNTER_CHUNK_TABLE: u64 = COUNTER_BLOCK_TABLE + 1;
const COUNTER_TRAILER: u64 = COUNTER_BLOCK_TABLE + 2;
const TRAILER_BYTES: usize = 16;

/// One block of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockInfo {
    /// Where its frame begins in the object.
    pub(crate) at: u32,
    /// Length of its frame, tag included.
    pub(crate) stored: u32,
    /// Length of its chunks together.
    pub(crate) plain: u32,
    /// Whether it is compressed.
    pub(crate) zstd: bool,
    /// How many chunks it holds.
    pub(crate) chunks: u32,
    /// How many chunks stand before it in the pack.
    pub(crate) first_chunk: u32,
}

/// The chunks of a pack, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkTable {
    ids: Vec<u8>,
    id_bytes: usize,
    lengths: Vec<u32>,
}

impl ChunkTable {
    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// The first bytes of the id of chunk `n`.
    pub(crate) fn prefix(&self, n: usize) -> u64 {
        self.ids.chunks_exact(self.id_bytes.max(1)).nth(n).map_or(0, prefix)
    }

    /// Id and length of the chunk `n` of the pack.
    pub(crate) fn get(&self, n: usize) -> Option<(ChunkId, u32)> {
        let stored = self.ids.chunks_exact(self.id_bytes.max(1)).nth(n)?;
        let mut id = [0; 32];
        id[..stored.len()].copy_from_slice(stored);
        Some((id, *self.lengths.get(n)?))
    }
}

/// A pack's footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) blocks: Vec<BlockInfo>,
    pub(crate) chunks: ChunkTable,
}

impl Footer {
    /// Compares the plain bytes of a block with the ids of its chunks.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn verify_chunks(
        &self,
        keys: &Keyring,
        block: &BlockInfo,
        plain: &[u8],
    ) -> std::result::Result<(), String> {
        let mut rest = plain;
        for n in block.first_chunk..block.first_chunk + block.chunks {
            let chunk = self
                .chunks
                .get(n as usize)
                .and_then(|(id, length)| Some((id, rest.split_at_checked(length as usize)?)));
            let (id, (chunk, behind)) = chunk.ok_or("its chunks do not fit its blocks")?;
            rest = behind;
            if keys.chunk_id(chunk) != id {
                return Err(format!("chunk {n} is not the one that its id names"));
            }
        }
        if rest.is_empty() { Ok(()) } else { Err("its chunks do not fit its blocks".into()) }
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.blocks.len() * size_of::<BlockInfo>()
            + self.chunks.ids.len()
            + self.chunks.lengths.len() * size_of::<u32>()
    }
}

/// Where a pack's footer is, and the tags that vouch for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) name: PartName,
    pub(crate) size: u32,
    pub(crate) block_table_at: u32,
    pub(crate) block_table_bytes: u32,
    pub(crate) chunk_table_bytes: u32,
    pub(crate) blocks: u32,
    pub(crate) salt: Salt,
    pub(crate) block_table_tag: Tag,
    pub(crate) chunk_table_tag: Tag,
}

#[cfg(test)]
impl PackEntry {
    /// Of a pack that no store has.
    pub(crate) fn for_tests(name: PartName, blocks: u32) -> Self {
        Self {
            name,
            size: 100,
            block_table_at: 0,
            block_table_bytes: 0,
            chunk_table_bytes: 0,
            blocks,
            salt: [0; 32],
            block_table_tag: [0; 16],
            chunk_table_tag: [0; 16],
        }
    }
}

/// A pack that is being filled.
#[derive(Debug)]
pub(crate) struct OpenPack {
    name: PartName,
    seal: ObjectSeal,
    object: Vec<u8>,
    blocks: Vec<BlockInfo>,
    ids: Vec<u8>,
    id_bytes: usize,
    lengths: Vec<u32>,
    target: usize,
}

/// A pack that is complete.
#[derive(Debug)]
pub(crate) struct FinishedPack {
    pub(crate) entry: PackEntry,
    pub(crate) object: Vec<u8>,
    pub(crate) hooks: Vec<u64>,
}

impl OpenPack {
    /// An empty pack. `seal` is of its object's name.
    pub(crate) fn new(
        keys: &Keyring,
        name: PartName,
        seal: ObjectSeal,
        mut buffer: Vec<u8>,
    ) -> Self {
        let mac = keys.name_mac("size", name.last_part().as_bytes());
        let x = u32::from_le_bytes([mac[0], mac[1], mac[2], mac[3]]);
        let target = MIN_TARGET_BYTES + ((TARGET_SPREAD_BYTES * u64::from(x)) >> 32);
        buffer.clear();
        buffer.extend_from_slice(&seal.header());
        Self {
            name,
            seal,
            object: buffer,
            blocks: Vec::new(),
            ids: Vec::new(),
            id_bytes: keys.id_bytes(),
            lengths: Vec::new(),
            target: target as usize,
        }
    }

    /// Adds a block, compressed or not, and returns its number.
    pub(crate) fn push(
        &mut self,
        content: &[u8],
        zstd: bool,
        chunks: &[(ChunkId, u32)],
    ) -> Result<u32> {
        let number = self.blocks.len() as u32;
        let at = self.object.len();
        let needed = at + content.len() + TAG_BYTES;
        if needed > SMALL_PACK_BYTES.max(self.object.capacity()) {
            let room = (MAX_OPEN_PACK_BYTES + FOOTER_ROOM_BYTES).max(needed);
            self.object.reserve_exact(room - at);
        }
        self.object.extend_from_slice(content);
        self.seal.seal(u64::from(number), false, &mut self.object, at)?;
        self.blocks.push(BlockInfo {
            at: at as u32,
            stored: (content.len() + TAG_BYTES) as u32,
            plain: chunks.iter().map(|(_, length)| length).sum(),
            zstd,
            chunks: chunks.len() as u32,
            first_chunk: self.lengths.len() as u32,
        });
        for (id, length) in chunks {
            self.ids.extend_from_slice(&id[..self.id_bytes]);
            self.lengths.push(*length);
        }
        Ok(number)
    }

    /// Whether it has the size that it aims at, or as much as a footer may describe.
    pub(crate) fn is_full(&self) -> bool {
        self.object.len() >= self.target
            || self.blocks.len() >= MAX_BLOCKS - 1
            || self.lengths.len() >= MAX_CHUNKS / 2
    }

    /// Closes it; the last one of a session hides its size.
    pub(crate) fn finish(mut self, pad: bool) -> Result<FinishedPack> {
        let hooks = choose(self.ids.chunks_exact(self.id_bytes).map(prefix).collect());
        let block_table = encode_block_table(&self.blocks);
        let mut chunk_table = Vec::with_capacity(self.ids.len() + self.lengths.len() * 2 + 5);
        put_varint(&mut chunk_table, self.lengths.len() as u64);
        chunk_table.extend_from_slice(&self.ids);
        for length in &self.lengths {
            put_varint(&mut chunk_table, u64::from(*length));
        }
        let footer_bytes =
            block_table.len() + chunk_table.len() + 3 * TAG_BYTES + 32 + TRAILER_BYTES;
        if pad {
            let size = self.object.len() + footer_bytes;
            let padding = padme(size as u64) as usize - size;
            if let Some(zeros) = padding.checked_sub(TAG_BYTES) {
                let at = self.object.len();
                self.object.resize(at + zeros, 0);
                self.seal.seal(self.blocks.len() as u64, false, &mut self.object, at)?;
            }
        }
        let block_table_at = self.object.len();
        self.object.extend_from_slice(&block_table);
        let block_table_tag =
            self.seal.seal(COUNTER_BLOCK_TABLE, false, &mut self.object, block_table_at)?;
        let chunk_table_at = self.object.len();
        self.object.extend_from_slice(&chunk_table);
        let chunk_table_tag =
            self.seal.seal(COUNTER_CHUNK_TABLE, false, &mut self.object, chunk_table_at)?;
        let end = self.object.len();
        self.object.extend_from_slice(&self.seal.salt);
        let trailer_at = self.object.len();
        for number in [
            block_table_at,
            chunk_table_at - block_table_at,
            end - chunk_table_at,
            self.blocks.len(),
        ] {
            self.object.extend_from_slice(&(number as u32).to_le_bytes());
        }
        self.seal.seal(COUNTER_TRAILER, true, &mut self.object, trailer_at)?;
        let entry = PackEntry {
            name: self.name,
            size: self.object.len() as u32,
            block_table_at: block_table_at as u32,
            block_table_bytes: (chunk_table_at - block_table_at) as u32,
            chunk_table_bytes: (end - chunk_table_at) as u32,
            blocks: self.blocks.len() as u32,
            salt: self.seal.salt,
            block_table_tag,
            chunk_table_tag,
        };
        Ok(FinishedPack { entry, object: self.object, hooks })
    }
}

impl PackEntry {
    /// The entry of a pack as it is, whatever a head says of it.
    #[cfg(test)]
    pub(crate) fn of_object(keys: &Keyring, name: PartName, object: &[u8]) -> Result<Self> {
        let mut salt = [0; 32];
        salt.copy_from_slice(&object[8..HEADER_BYTES]);
        let kind = crate::envelope::Kind::Pack;
        let seal = ObjectSeal::with_salt(keys, salt, kind, name.pack_object())?;
        let mut trailer = object[object.len() - TRAILER_BYTES - TAG_BYTES..].to_vec();
        seal.open(COUNTER_TRAILER, true, &mut trailer)?;
        let number = |n: usize| trailer[n * 4..][..4].try_into().map(u32::from_le_bytes).unwrap();
        let [at, block_table, chunk_table, blocks] = [number(0), number(1), number(2), number(3)];
        let tag = |end: u32| object[end as usize - TAG_BYTES..end as usize].try_into().unwrap();
        Ok(Self {
            name,
            size: object.len() as u32,
            block_table_at: at,
            block_table_bytes: block_table,
            chunk_table_bytes: chunk_table,
            blocks,
            salt,
            block_table_tag: tag(at + block_table),
            chunk_table_tag: tag(at + block_table + chunk_table),
        })
    }

    /// The pack's seal.
    pub(crate) fn seal(&self, keys: &Keyring) -> Result<ObjectSeal> {
        let kind = crate::envelope::Kind::Pack;
        ObjectSeal::with_salt(keys, self.salt, kind, self.name.pack_object())
    }

    /// Opens the block table from its frame.
    pub(crate) fn open_block_table(&self, keys: &Keyring, frame: &[u8]) -> Result<Vec<BlockInfo>> {
        let table = self.open_table(keys, frame, COUNTER_BLOCK_TABLE, &self.block_table_tag)?;
        let blocks = parse_block_table(&table, self.block_table_at)
            .map_err(|error| Error::damaged(self.name.pack_object(), error.to_string()))?;
        if blocks.len() != self.blocks as usize {
            return Err(Error::damaged(self.name.pack_object(), "its blocks are not as many"));
        }
        Ok(blocks)
    }

    /// Opens both tables from the bytes between the blocks and the trailer.
    pub(crate) fn open_footer(&self, keys: &Keyring, bytes: &[u8]) -> Result<Footer> {
        let damaged = |detail: &str| Error::damaged(self.name.pack_object(), detail);
        let (block_frame, chunk_frame) = bytes
            .split_at_checked(self.block_table_bytes as usize)
            .ok_or_else(|| damaged("its footer is cut"))?;
        let blocks = self.open_block_table(keys, block_frame)?;
        let table =
            self.open_table(keys, chunk_frame, COUNTER_CHUNK_TABLE, &self.chunk_table_tag)?;
        let chunks = parse_chunk_table(&table, keys.id_bytes(), &blocks)
            .map_err(|error| damaged(&error.to_string()))?;
        Ok(Footer { blocks, chunks })
    }

    fn open_table(&self, keys: &Keyring, frame: &[u8], counter: u64, tag: &Tag) -> Result<Vec<u8>> {
        if frame.last_chunk::<TAG_BYTES>() != Some(tag) {
            let detail = "its footer is not the one that the snapshot was made with";
            return Err(Error::damaged(self.name.pack_object(), detail));
        }
        let mut table = frame.to_vec();
        self.seal(keys)?.open(counter, false, &mut table)?;
        Ok(table)
    }

    /// Checks header and trailer against this entry: what no reader needs, and
    /// a check of everything looks at.
    pub(crate) fn check_ends(&self, keys: &Keyring, object: &[u8]) -> Result<()> {
        let name = self.name.pack_object();
        let kind = crate::envelope::Kind::Pack;
        let seal = ObjectSeal::of_header(keys, object, kind, name.clone())?;
        let differs = || Error::damaged(&name, "header, footer and trailer do not belong together");
        let (rest, trailer) =
            object.split_last_chunk::<{ TRAILER_BYTES + TAG_BYTES }>().ok_or_else(differs)?;
        let salt = rest.last_chunk::<32>().ok_or_else(differs)?;
        let mut trailer = trailer.to_vec();
        seal.open(COUNTER_TRAILER, true, &mut trailer)?;
        let numbers: Vec<u32> =
            trailer.chunks_exact(4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]])).collect();
        let expected =
            [self.block_table_at, self.block_table_bytes, self.chunk_table_bytes, self.blocks];
        if numbers != expected || *salt != self.salt || seal.salt != self.salt {
            return Err(differs());
        }
        Ok(())
    }
}

fn encode_block_table(blocks: &[BlockInfo]) -> Vec<u8> {
    let mut table = Vec::with_capacity(blocks.len() * 9 + 5);
    put_varint(&mut table, blocks.len() as u64);
    for block in blocks {
        put_varint(&mut table, u64::from(block.stored));
        put_varint(&mut table, u64::from(block.plain));
        table.push(u8::from(block.zstd));
        put_varint(&mut table, u64::from(block.chunks));
    }
    table
}

fn parse_block_table(table: &[u8], end: u32) -> std::result::Result<Vec<BlockInfo>, Malformed> {
    let mut reader = Reader::new(table);
    let count = reader.count(MAX_BLOCKS)?;
    let mut blocks = Vec::with_capacity(count.min(table.len()));
    let mut at = HEADER_BYTES as u32;
    let mut first_chunk = 0;
    for _ in 0..count {
        let stored = reader.bounded((MAX_BLOCK_BYTES + TAG_BYTES) as u64)? as u32;
        let plain = reader.bounded(MAX_BLOCK_BYTES as u64)? as u32;
        let zstd = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("a block is coded in an unknown way")),
        };
        let chunks = reader.bounded(MAX_CHUNKS as u64)? as u32;
        if first_chunk > MAX_CHUNKS as u32 {
            return Err(Malformed("a pack has too many chunks"));
        }
        let raw_fits = zstd || stored as usize == plain as usize + TAG_BYTES;
        if !raw_fits
            || (stored as usize) < TAG_BYTES
            || plain == 0
            || stored > end.saturating_sub(at)
        {
            return Err(Malformed("a block's length does not fit"));
        }
        blocks.push(BlockInfo { at, stored, plain, zstd, chunks, first_chunk });
        at += stored;
        first_chunk += chunks;
    }
    reader.end()?;
    Ok(blocks)
}

fn parse_chunk_table(
    table: &[u8],
    id_bytes: usize,
    blocks: &[BlockInfo],
) -> std::result::Result<ChunkTable, Malformed> {
    let mut reader = Reader::new(table);
    let count = reader.count(MAX_CHUNKS)?;
    let ids = reader.take(count * id_bytes)?.to_vec();
    let mut lengths = Vec::with_capacity(count.min(table.len()));
    for block in blocks {
        let mut plain = 0;
        for _ in 0..block.chunks {
            let length = reader.bounded(MAX_BLOCK_BYTES as u64)? as u32;
            plain += u64::from(length);
            lengths.push(length);
        }
        if plain != u64::from(block.plain) {
            return Err(Malformed("a block's chunks do not add up"));
        }
    }
    reader.end()?;
    if lengths.len() != count {
        return Err(Malformed("chunks without a block"));
    }
    Ok(ChunkTable { ids, id_bytes, lengths })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::SystemEnvironment;
    use crate::envelope::Kind;
    use crate::keyring::RepositoryId;
    use proptest::prelude::*;

    fn filled(keys: &Keyring, contents: &[Vec<u8>], pad: bool) -> FinishedPack {
        let name = PartName::new(Arc::from("s-1"), 0);
        let seal =
            ObjectSeal::fresh(keys, &SystemEnvironment, Kind::Pack, name.pack_object()).unwrap();
        let mut pack = OpenPack::new(keys, name, seal, Vec::new());
        for content in contents {
            pack.push(content, false, &[(keys.chunk_id(content), content.len() as u32)]).unwrap();
        }
        pack.finish(pad).unwrap()
    }

    fn footer_of(pack: &FinishedPack) -> &[u8] {
        let at = pack.entry.block_table_at as usize;
        let bytes = pack.entry.block_table_bytes + pack.entry.chunk_table_bytes;
        &pack.object[at..at + bytes as usize]
    }

    proptest! {
        #[test]
        fn a_footer_says_what_was_put_in(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..20),
            pad: bool,
        ) {
            for keys in [
                Keyring::for_tests(),
                Keyring::unencrypted(RepositoryId([1; 16])).unwrap(),
            ] {
                let pack = filled(&keys, &contents, pad);
                pack.entry.check_ends(&keys, &pack.object).unwrap();
                let footer = pack.entry.open_footer(&keys, footer_of(&pack)).unwrap();
                for (n, content) in contents.iter().enumerate() {
                    let id = (keys.chunk_id(content), content.len() as u32);
                    prop_assert_eq!(footer.chunks.get(n), Some(id));
                }
                if pad {
                    let size = pack.object.len() as u64;
                    prop_assert!(padme(size) - size < TAG_BYTES as u64);
                }
            }
        }

        #[test]
        fn hostile_tables_are_refused_or_read_within_bounds(bytes: Vec<u8>) {
            if let Ok(blocks) = parse_block_table(&bytes, 1 << 24) {
                let _ = parse_chunk_table(&bytes, 16, &blocks);
            }
        }
    }

    #[test]
    fn another_packs_footer_is_refused() {
        let keys = Keyring::for_tests();
        let (one, two) = (filled(&keys, &[vec![1]], false), filled(&keys, &[vec![1]], false));
        assert!(one.entry.open_footer(&keys, footer_of(&two)).is_err());
    }
}
