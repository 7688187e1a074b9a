//! Where the blocks of a pack are, and reading them: in the pack itself, or in
//! others that they were moved to.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::buffers::Buffers;
use crate::envelope::ObjectSeal;
use crate::moves::Home;
use crate::pack::{BlockInfo, PackEntry};
use crate::repository::Inner;
use crate::{Error, Result};

/// Plain bytes that are fetched and decoded together: large, since each hand-over
/// to another thread costs as much as decoding some kilobytes.
pub(crate) const GROUP_BYTES: usize = 1024 * 1024;
/// What is not longer is decoded at once, in less than a tenth of a millisecond. So is
/// what the simulation reads, in which nothing may depend on other threads.
const INLINE_BYTES: usize = 64 * 1024;

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    /// Index of the pack that it is in, among those of its [`PackBlocks`].
    home: u32,
    /// Its number there.
    number: u32,
    info: BlockInfo,
}

/// The blocks that a pack had when it was written, wherever they are now.
#[derive(Debug)]
pub(crate) struct PackBlocks {
    homes: Vec<Arc<PackEntry>>,
    /// Absent are those that nobody needs any more.
    places: Vec<Option<BlockPlace>>,
}

impl PackBlocks {
    /// All in the pack itself.
    pub(crate) fn own(entry: &PackEntry, blocks: &[BlockInfo]) -> Self {
        let place =
            |(number, info): (u32, &BlockInfo)| Some(BlockPlace { home: 0, number, info: *info });
        Self {
            homes: vec![Arc::new(entry.clone())],
            places: (0..).zip(blocks).map(place).collect(),
        }
    }

    /// Those of a pack of so many blocks that `homes` have, each with its own blocks.
    pub(crate) fn moved(blocks: u32, homes: &[(Home, Arc<PackBlocks>)]) -> Self {
        let place = |block: u32| {
            homes.iter().zip(0..).find_map(|((home, own), index)| {
                let number = home.place(block)?;
                let info = own.places.get(number as usize).copied().flatten()?.info;
                Some(BlockPlace { home: index, number, info })
            })
        };
        Self {
            homes: homes.iter().map(|(home, _)| Arc::clone(&home.entry)).collect(),
            places: (0..blocks).map(place).collect(),
        }
    }

    /// Plain length of a block; `None` for one that is not there any more.
    pub(crate) fn plain(&self, block: u32) -> Option<u32> {
        Some(self.place(block)?.info.plain)
    }

    /// The pack that a block is in, and its number there.
    pub(crate) fn home(&self, block: u32) -> Option<(&PackEntry, u32)> {
        let place = self.place(block)?;
        Some((self.homes.get(place.home as usize)?, place.number))
    }

    /// What it takes in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        size_of_val(&self.places[..]) + self.homes.len() * size_of::<PackEntry>()
    }

    fn place(&self, block: u32) -> Option<BlockPlace> {
        self.places.get(block as usize).copied().flatten()
    }

    /// Where these blocks are, as ranges that can be read at once.
    fn ranges(&self, blocks: &[u32]) -> Option<Vec<Stretch>> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for block in blocks {
            let BlockPlace { home, number, info } = self.place(*block)?;
            let at = u64::from(info.at)..u64::from(info.at) + u64::from(info.stored);
            match stretches.last_mut() {
                Some(last) if last.home == home && last.range.end == at.start => {
                    last.range.end = at.end;
                    last.blocks.push((number, info));
                }
                _ => stretches.push(Stretch { home, range: at, blocks: vec![(number, info)] }),
            }
        }
        Some(stretches)
    }
}

/// Blocks that stand behind each other.
struct Stretch {
    home: u32,
    range: Range<u64>,
    blocks: Vec<(u32, BlockInfo)>,
}

impl Stretch {
    fn plain(&self) -> usize {
        self.blocks.iter().map(|(_, info)| info.plain as usize).sum()
    }
}

/// Fetches and decodes blocks of a pack, by the numbers that recipes give them: their
/// plain bytes behind each other. What was moved since its place was read is found
/// again. `buffers` are for groups.
///
/// # Errors
/// `ObjectMissing`, `RepositoryDamaged`, or what the store says.
pub(crate) async fn read_blocks(
    inner: &Arc<Inner>,
    entry: &PackEntry,
    blocks: &[u32],
    buffers: &Buffers,
) -> Result<Bytes> {
    match read_located(inner, entry, blocks, buffers).await {
        Err(Error::Missing(_)) => {
            inner.footers.forget(entry);
            read_located(inner, entry, blocks, buffers).await
        }
        read => read,
    }
}

async fn read_located(
    inner: &Arc<Inner>,
    entry: &PackEntry,
    blocks: &[u32],
    buffers: &Buffers,
) -> Result<Bytes> {
    let located = inner.footers.blocks(inner, entry).await?;
    read_from(inner, entry, &located, blocks, buffers).await
}

/// The same, of a pack whose blocks are `located`.
pub(crate) async fn read_from(
    inner: &Inner,
    entry: &PackEntry,
    located: &PackBlocks,
    blocks: &[u32],
    buffers: &Buffers,
) -> Result<Bytes> {
    let gone = || Error::damaged(entry.name.pack_object(), "a block that is used is gone");
    let stretches = located.ranges(blocks).ok_or_else(gone)?;
    let length = stretches.iter().map(Stretch::plain).sum::<usize>();
    // What is much smaller than a buffer must not hold on to all of one.
    let is_small = length < GROUP_BYTES / 2;
    let mut plain = if is_small { Vec::new() } else { buffers.take() };
    plain.resize(length, 0);
    let mut done = 0;
    for stretch in stretches {
        let home = Arc::clone(located.homes.get(stretch.home as usize).ok_or_else(gone)?);
        let name = home.name.pack_object();
        let (range, end) = (stretch.range.clone(), done + stretch.plain());
        let bytes = inner.store.get_range(&name, range).await.map_err(Error::needed)?;
        let seal = home.seal(&inner.keys)?;
        let is_short = stretch.plain() <= INLINE_BYTES;
        let work = move || {
            decode(&seal, &stretch.blocks, &bytes, &mut plain[done..end])?;
            Ok::<_, Error>(plain)
        };
        plain = if is_short {
            work()?
        } else {
            let decoding = spawn_blocking(work).await;
            decoding.map_err(|error| Error::System(error.to_string()))??
        };
        done = end;
    }
    Ok(if is_small { Bytes::from(plain) } else { buffers.lend(plain) })
}

fn decode(
    seal: &ObjectSeal,
    blocks: &[(u32, BlockInfo)],
    frames: &[u8],
    mut plain: &mut [u8],
) -> Result<()> {
    let mut rest = frames;
    for (number, info) in blocks {
        let (frame, behind) = rest
            .split_at_checked(info.stored as usize)
            .ok_or_else(|| Error::damaged(seal.name(), "it is cut"))?;
        rest = behind;
        let (block, room) = plain.split_at_mut(info.plain as usize);
        decode_block(seal, *number, info, frame, block)?;
        plain = room;
    }
    Ok(())
}

/// Opens one block: its content as it is stored, perhaps compressed.
pub(crate) fn open_block(seal: &ObjectSeal, number: u32, frame: &[u8]) -> Result<Vec<u8>> {
    let mut content = frame.to_vec();
    seal.open(u64::from(number), false, &mut content)?;
    Ok(content)
}

/// What a thread needs to decode blocks.
#[derive(Default)]
struct Decoder {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    content: Vec<u8>,
}

/// Opens and decompresses one block into `plain`, which has the block's plain length.
pub(crate) fn decode_block(
    seal: &ObjectSeal,
    number: u32,
    info: &BlockInfo,
    frame: &[u8],
    plain: &mut [u8],
) -> Result<()> {
    thread_local! {
        static DECODER: std::cell::RefCell<Decoder> = std::cell::RefCell::default();
    }
    DECODER.with_borrow_mut(|Decoder { zstd, content }| {
        content.clear();
        content.extend_from_slice(frame);
        seal.open(u64::from(number), false, content)?;
        let length = if info.zstd {
            let refused = || Error::damaged(seal.name(), format!("block {number} does not unpack"));
            let zstd = match zstd {
                Some(zstd) => zstd,
                None => zstd.insert(zstd::bulk::Decompressor::new().map_err(|_| refused())?),
            };
            zstd.decompress_to_buffer(content, plain).map_err(|_| refused())?
        } else {
            if content.len() == plain.len() {
                plain.copy_from_slice(content);
            }
            content.len()
        };
        if length != plain.len() {
            return Err(Error::damaged(seal.name(), format!("block {number} has another length")));
        }
        Ok(())
    })
}
