//! How much memory a writer takes at most: the bounds of its channels and
//! buffers, summed up.

use super::candidates::CANDIDATE_BYTES;
use super::finder::{AHEAD_CHUNKS, BEHIND_CHUNKS, SAMPLED_CHUNKS};
use super::hook_search::HEADS_AT_ONCE;
use super::hook_table::HOOKS_BYTES;
use super::meta::META_BYTES;
use super::packer::packs_under_way;
use super::recent::RECENT_CHUNKS;
use super::segments::SEGMENTS_HELD;
use super::stream::{INLINE_BYTES, SEGMENT_BYTES};
use super::walker::{BATCH_CHUNKS, BATCHES_AHEAD, Expected};
use super::workers::{JOBS_PER_WORKER, SEAL_JOB_BYTES};
use crate::footers::{BLOCK_CACHE_BYTES, FOOTER_CACHE_BYTES};
use crate::head::MAX_HEAD_BYTES;
use crate::pack::{BLOCK_BYTES, FOOTER_ROOM_BYTES, MAX_OPEN_PACK_BYTES};

/// Largest chunk of the usual cutting.
const CHUNK_BYTES: u64 = 32 * 1024;
/// Footer of a pack: ids, lengths, and its sealed copy.
const PACK_FOOTER_BYTES: u64 = FOOTER_ROOM_BYTES as u64;
/// A zstd context of a low level, its output, and a thread's stack in use.
const WORKER_BYTES: u64 = 2 * 1024 * 1024;
/// An entry of a hash map besides what is counted: key, control byte, slack.
const MAP_ENTRY_BYTES: u64 = 32;

/// Segments of one stream that are being identified.
pub(super) fn segments_ahead(workers: usize) -> usize {
    workers + 1
}

/// Segments of all streams together, besides one for each.
pub(super) fn segments_of_all(workers: usize) -> usize {
    2 * workers + 4
}

/// The most that a writer with so many worker threads and open streams holds, in bytes;
/// more where a network lies before the store. Not in it are the tables that grow with the snapshot: about 250
/// bytes a stream, and 250 bytes and one for each block a pack (64 MB for a
/// tebibyte of packs); and where hooks are asked, 380 bytes for each pack that they
/// may lead to, of which there are 65,536 at most.
#[must_use]
pub fn writer_memory_bytes(workers: u32, streams: u32, network: bool) -> u64 {
    let (workers, streams) = (u64::from(workers), u64::from(streams));
    let segment = SEGMENT_BYTES as u64 + CHUNK_BYTES;
    let packs =
        (1 + packs_under_way(network) as u64) * (MAX_OPEN_PACK_BYTES as u64 + PACK_FOOTER_BYTES);
    let segments = segments_of_all(workers as usize) as u64 * segment;
    // Waiting and in work; a block in work exists plain and compressed.
    let jobs =
        workers * (JOBS_PER_WORKER as u64 + 2) * (SEAL_JOB_BYTES as u64 + BLOCK_BYTES as u64);
    let expected = size_of::<Expected>() as u64 + MAP_ENTRY_BYTES;
    let window = (AHEAD_CHUNKS + BEHIND_CHUNKS + BATCH_CHUNKS * BATCHES_AHEAD) as u64 * expected;
    let sample = 2 * SAMPLED_CHUNKS as u64 * MAP_ENTRY_BYTES;
    // Small segments that no worker is asked for.
    let small = 2 * segments_ahead(workers as usize) + SEGMENTS_HELD;
    let small = small as u64 * INLINE_BYTES as u64;
    // Buffer, a segment of its own, an open and some closed blocks, its search.
    let stream = 2 * segment + small + SEAL_JOB_BYTES as u64 + window + sample;
    let recent = 2 * RECENT_CHUNKS as u64 * (64 + MAP_ENTRY_BYTES);
    let caches = (FOOTER_CACHE_BYTES + BLOCK_CACHE_BYTES + META_BYTES) as u64;
    // Hooks, the packs that they lead to, and heads of other series while they are read.
    let hooks = (HOOKS_BYTES + CANDIDATE_BYTES + HEADS_AT_ONCE * MAX_HEAD_BYTES) as u64;
    packs + segments + jobs + workers * WORKER_BYTES + streams * stream + recent + caches + hooks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clients of the server take (pg_dump, psql), and the program itself.
    const CLIENTS_BYTES: u64 = 40 * 1024 * 1024;
    /// Streams that an engine has open at once.
    const OPEN_STREAMS: u32 = 2;

    #[test]
    fn the_runners_memory_covers_the_writer_and_the_clients() {
        for (workers, network) in (1..=16).flat_map(|n| [(n, false), (n, true)]) {
            let needed = writer_memory_bytes(workers, OPEN_STREAMS, network) + CLIENTS_BYTES;
            let given = dbbackup_contract::runner_memory_bytes(workers, network, 0);
            assert!(needed <= given, "{workers} workers, {network}: {needed} bytes of {given}");
        }
    }
}
