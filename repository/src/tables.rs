//! Pages of a head's two tables: the packs, and the streams (`docs/format.md`,
//! "Snapshots").

use std::collections::HashSet;
use std::sync::Arc;

use crate::chunker::Cutting;
use crate::head::parse_part_name;
use crate::names::{MAX_STREAM_NAME_BYTES, PartName};
use crate::pack::{MAX_BLOCKS, PackEntry};
use crate::piece::Place;
use crate::wire::{Malformed, Reader, put_bytes, put_varint};

/// Plain bytes of a page; one that holds a single long entry may have more.
pub(crate) const PAGE_BYTES: usize = 64 * 1024;

/// Most plain bytes of a head's table of packs: of 1,048,576 packs with 128 blocks each,
/// and more. Whoever reads it keeps about as much.
pub(crate) const MAX_PACK_TABLE_BYTES: u64 = 256 * 1024 * 1024;
/// Most plain bytes of a head's table of streams, of which nobody keeps more than a page.
pub(crate) const MAX_STREAM_TABLE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Most bytes of the names of a page, which share their beginnings.
const MAX_NAMES_BYTES: usize = 4 * 1024 * 1024;

type Parsed<T> = Result<T, Malformed>;

/// How much of a block a snapshot uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Usage {
    Unused = 0,
    /// Less than a quarter: a chunk in it is better stored again.
    Sparse = 1,
    Used = 2,
    Whole = 3,
}

/// A pack, and how its blocks are used: two bits each. Clones share both: of a tebibyte of
/// packs, which a writer knows from up to three sides, either takes megabytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsedPack {
    pub(crate) entry: Arc<PackEntry>,
    pub(crate) usage: Arc<[u8]>,
}

impl UsedPack {
    /// A pack of which all is used.
    pub(crate) fn whole(entry: impl Into<Arc<PackEntry>>) -> Self {
        let entry = entry.into();
        Self { usage: pack_usage((0..entry.blocks as usize).map(|_| Usage::Whole)), entry }
    }

    /// How block `n` is used.
    pub(crate) fn usage(&self, n: u32) -> Usage {
        let byte = self.usage.get(n as usize / 4).copied().unwrap_or(0);
        match byte >> (n % 4 * 2) & 3 {
            0 => Usage::Unused,
            1 => Usage::Sparse,
            2 => Usage::Used,
            _ => Usage::Whole,
        }
    }

    /// Whether any block is used.
    pub(crate) fn is_used(&self) -> bool {
        self.usage.iter().any(|byte| *byte != 0)
    }
}

/// Two bits for each block.
pub(crate) fn pack_usage(blocks: impl ExactSizeIterator<Item = Usage>) -> Arc<[u8]> {
    let mut bytes = vec![0; blocks.len().div_ceil(4)];
    for (n, usage) in blocks.enumerate() {
        bytes[n / 4] |= (usage as u8) << (n % 4 * 2);
    }
    bytes.into()
}

/// Codes an entry of the pack table.
pub(crate) fn put_pack(out: &mut Vec<u8>, session: u32, pack: &UsedPack) {
    let entry = &pack.entry;
    for number in [
        session,
        entry.name.n,
        entry.size,
        entry.block_table_at,
        entry.block_table_bytes,
        entry.chunk_table_bytes,
        entry.blocks,
    ] {
        put_varint(out, u64::from(number));
    }
    out.extend_from_slice(&entry.salt);
    out.extend_from_slice(&entry.block_table_tag);
    out.extend_from_slice(&entry.chunk_table_tag);
    out.extend_from_slice(&pack.usage);
}

/// Reads a page of the pack table. `seen` holds the packs of the pages before: 40
/// bytes each, which share their sessions with the head.
pub(crate) fn parse_packs(
    page: &[u8],
    entries: u32,
    sessions: &[Arc<str>],
    seen: &mut HashSet<PartName>,
) -> Parsed<Vec<UsedPack>> {
    let mut reader = Reader::new(page);
    let mut packs = Vec::new();
    for _ in 0..entries {
        let name = parse_part_name(&mut reader, sessions)?;
        if !seen.insert(name.clone()) {
            return Err(Malformed("a pack is in the table twice"));
        }
        let entry = PackEntry {
            name,
            size: reader.small()?,
            block_table_at: reader.small()?,
            block_table_bytes: reader.small()?,
            chunk_table_bytes: reader.small()?,
            blocks: reader.bounded(MAX_BLOCKS as u64)? as u32,
            salt: reader.array()?,
            block_table_tag: reader.array()?,
            chunk_table_tag: reader.array()?,
        };
        let footer_end = u64::from(entry.block_table_at)
            + u64::from(entry.block_table_bytes)
            + u64::from(entry.chunk_table_bytes);
        if footer_end > u64::from(entry.size) {
            return Err(Malformed("a pack's footer lies outside of it"));
        }
        let usage = reader.take((entry.blocks as usize).div_ceil(4))?.into();
        packs.push(UsedPack { entry: Arc::new(entry), usage });
    }
    reader.end()?;
    Ok(packs)
}

/// A part of a stream's recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Bytes of the stream that it covers.
    pub(crate) covers: u64,
    pub(crate) place: Place,
}

/// A stream of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) digest: [u8; 32],
    pub(crate) cutting: Cutting,
    pub(crate) segments: Vec<Segment>,
}

/// Codes an entry of the stream table; `before` is the name before it in the page.
pub(crate) fn put_stream(out: &mut Vec<u8>, before: &str, stream: &StreamEntry) {
    let shared =
        before.bytes().zip(stream.name.bytes()).take_while(|(left, right)| left == right).count();
    put_varint(out, shared as u64);
    put_bytes(out, &stream.name.as_bytes()[shared..]);
    put_varint(out, stream.length);
    out.extend_from_slice(&stream.digest);
    out.extend_from_slice(&stream.cutting.to_bytes());
    put_varint(out, stream.segments.len() as u64);
    for segment in &stream.segments {
        put_varint(out, segment.covers);
        segment.place.put(out);
    }
}

/// Reads a page of the stream table.
pub(crate) fn parse_streams(page: &[u8], entries: u32) -> Parsed<Vec<StreamEntry>> {
    let mut reader = Reader::new(page);
    let mut streams: Vec<StreamEntry> = Vec::new();
    let mut left = MAX_NAMES_BYTES;
    for _ in 0..entries {
        let before = streams.last().map_or(&[][..], |stream| stream.name.as_bytes());
        let shared = reader.count(before.len())?;
        let rest = reader.bytes(MAX_STREAM_NAME_BYTES - shared.min(MAX_STREAM_NAME_BYTES))?;
        left = left
            .checked_sub(shared + rest.len())
            .ok_or(Malformed("the names of a page are too long in all"))?;
        let name = String::from_utf8([&before[..shared], rest].concat())
            .map_err(|_| Malformed("a stream's name is not UTF-8"))?;
        if !streams.is_empty() && name.as_bytes() <= before {
            return Err(Malformed("streams are not in order"));
        }
        let length = reader.varint()?;
        let digest = reader.array()?;
        let cutting = Cutting::from_bytes(reader.array()?)?;
        let count = reader.count(page.len())?;
        let mut segments = Vec::new();
        let mut covered = 0_u64;
        for _ in 0..count {
            let covers = reader.varint()?;
            covered =
                covered.checked_add(covers).ok_or(Malformed("a stream is longer than possible"))?;
            segments.push(Segment { covers, place: Place::parse(&mut reader)? });
        }
        if covered != length {
            return Err(Malformed("a stream's segments do not add up"));
        }
        streams.push(StreamEntry { name, length, digest, cutting, segments });
    }
    reader.end()?;
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: &str = "aaaaaaaa-20260101t000000z-aaaaaaaaaaaaaaaa-0";

    #[test]
    fn names_that_share_their_beginnings_take_a_bounded_memory() {
        let page = |streams: u32| {
            let (mut page, mut before) = (Vec::new(), String::new());
            for n in 0..streams {
                let name = format!("{}{n:06}", "x".repeat(MAX_STREAM_NAME_BYTES - 6));
                let (length, digest, segments) = (0, [0; 32], Vec::new());
                let cutting = Cutting::default();
                let entry = StreamEntry { name, length, digest, cutting, segments };
                put_stream(&mut page, &before, &entry);
                before = entry.name;
            }
            assert!(page.len() < 1024 * 1024);
            parse_streams(&page, streams)
        };
        assert_eq!(page(4096).unwrap().len(), 4096);
        assert_eq!(page(4097).unwrap_err().0, "the names of a page are too long in all");
    }

    proptest! {
        #[test]
        fn streams_survive(
            names in prop::collection::btree_set("[a-cé/]{0,12}", 0..20), length: u32,
        ) {
            let streams: Vec<_> = names
                .into_iter()
                .map(|name| StreamEntry {
                    name,
                    length: u64::from(length),
                    digest: [7; 32],
                    cutting: Cutting::default(),
                    segments: vec![Segment {
                        covers: u64::from(length),
                        place: Place::Meta { object: 1, counter: 2, at: 3, stored: 4 },
                    }],
                })
                .collect();
            let mut page = Vec::new();
            let mut before = "";
            for stream in &streams {
                put_stream(&mut page, before, stream);
                before = &stream.name;
            }
            prop_assert_eq!(parse_streams(&page, streams.len() as u32).unwrap(), streams);
        }

        #[test]
        fn packs_survive(n: u32, usages in prop::collection::vec(0..4_u8, 0..40)) {
            let kinds = [Usage::Unused, Usage::Sparse, Usage::Used, Usage::Whole];
            let session: Arc<str> = Arc::from(SESSION);
            let pack = UsedPack {
                entry: Arc::new(PackEntry {
                    name: PartName::new(session.clone(), n),
                    size: 300,
                    block_table_at: 100,
                    block_table_bytes: 50,
                    chunk_table_bytes: 60,
                    blocks: usages.len() as u32,
                    salt: [1; 32],
                    block_table_tag: [2; 16],
                    chunk_table_tag: [3; 16],
                }),
                usage: pack_usage(usages.iter().map(|u| kinds[*u as usize])),
            };
            let mut page = Vec::new();
            put_pack(&mut page, 0, &pack);
            let read = parse_packs(&page, 1, &[session], &mut HashSet::new()).unwrap();
            for (n, usage) in usages.iter().enumerate() {
                prop_assert_eq!(read[0].usage(n as u32), kinds[*usage as usize]);
            }
            prop_assert_eq!(&read[0], &pack);
        }

        #[test]
        fn hostile_pages_are_refused(page: Vec<u8>, entries: u32) {
            let _ = parse_streams(&page, entries);
            let _ = parse_packs(&page, entries, &[Arc::from(SESSION)], &mut HashSet::new());
        }
    }
}
