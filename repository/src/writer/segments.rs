//! Segments of a stream on their way to a place in a block: identified, looked up in
//! the predecessor, and held until some that follow have been looked up, too.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::block::BlockAddress;
use crate::keyring::ChunkId;

/// Segments behind one with unknown chunks whose hooks are followed before it is
/// stored: one chunk in 64 is a hook, which is one in each segment in the mean.
pub(super) const SEGMENTS_HELD: usize = 3;

/// A pack that has one chunk in so many of a segment surrounds those that are missing.
const SURROUNDING_PART: usize = 8;

/// A segment whose chunks are being identified.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) segment: Bytes,
    pub(super) lengths: Vec<u32>,
    pub(super) ids: oneshot::Receiver<Vec<ChunkId>>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What the predecessor says of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known {
    At(BlockAddress, u32),
    /// It is known, and stored again since little else of its block is used.
    Again,
    No,
}

/// A segment whose chunks were looked up in the predecessor.
#[derive(Debug)]
pub(super) struct LookedUp {
    pub(super) segment: Bytes,
    pub(super) chunks: Vec<Chunk>,
    /// Chunks that neither the predecessor has nor this run has stored lately.
    pub(super) missing: Vec<ChunkId>,
    /// Given back when it has its place.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// A chunk of a segment, identified.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) id: ChunkId,
    pub(super) length: u32,
    pub(super) known: Known,
}

impl LookedUp {
    /// The packs that much of what the predecessor has of it is in, by their place in
    /// the table of packs.
    pub(super) fn surroundings(&self) -> impl Iterator<Item = u32> {
        let mut chunks: HashMap<u32, usize> = HashMap::new();
        for chunk in &self.chunks {
            if let Known::At(address, _) = chunk.known {
                *chunks.entry(address.pack).or_default() += 1;
            }
        }
        let least = self.chunks.len().div_ceil(SURROUNDING_PART);
        chunks.into_iter().filter(move |(_, n)| *n >= least).map(|(pack, _)| pack)
    }
}
