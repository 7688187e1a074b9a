//! The worker threads: hashing and compressing, on all cores.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::block::OpenBlock;
use super::packer::PackableBlock;
use super::shared::Shared;
use super::stream_digest::StreamDigest;
use crate::keyring::ChunkId;
use crate::{Error, Result};

/// Jobs that wait for a worker, for each worker.
pub(super) const JOBS_PER_WORKER: usize = 2;
/// Plain bytes of blocks in one job: three or four blocks.
pub(super) const SEAL_JOB_BYTES: usize = 448 * 1024;

/// Work for a thread.
#[derive(Debug)]
pub(super) enum Job {
    Hash(HashJob),
    /// Compress blocks and put them into a pack.
    Seal(Vec<OpenBlock>, TaskTrackerToken),
    /// Close the last pack.
    Finish(oneshot::Sender<()>),
}

/// Identify the chunks of a segment, and digest it.
#[derive(Debug)]
pub(super) struct HashJob {
    pub(super) segment: Bytes,
    pub(super) lengths: Vec<u32>,
    /// Which segment of its stream it is.
    pub(super) number: u64,
    pub(super) digesting: Arc<StreamDigest>,
    pub(super) reply: oneshot::Sender<Vec<ChunkId>>,
}

impl HashJob {
    pub(super) fn run(self, shared: &Shared) {
        let ids = identified(shared, &self.segment, &self.lengths);
        self.digesting.add(self.number, self.segment);
        // Last: whoever has all answers of a stream has its digest. A stream that was
        // dropped needs none.
        let _ = self.reply.send(ids);
    }
}

/// Starts `count` threads. They end when the writer is stopped, or when its
/// channel is closed.
pub(super) fn start(
    shared: &Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    count: usize,
    runtime: &Handle,
) -> Result<()> {
    let jobs = Arc::new(Mutex::new(jobs));
    for n in 0..count {
        let (shared, jobs, runtime) = (Arc::clone(shared), Arc::clone(&jobs), runtime.clone());
        std::thread::Builder::new()
            .name(format!("repository-{n}"))
            .spawn(move || work(&shared, &jobs, &runtime))
            .map_err(|error| Error::System(format!("a thread cannot be started: {error}")))?;
    }
    Ok(())
}

fn work(shared: &Arc<Shared>, jobs: &Mutex<mpsc::Receiver<Job>>, runtime: &Handle) {
    let mut compressor = match Compressor::new(shared.level) {
        Ok(compressor) => compressor,
        Err(error) => return shared.fail(error),
    };
    loop {
        let next =
            runtime.block_on(shared.unless_stopped(async { jobs.lock().await.recv().await }));
        let Ok(Some(job)) = next else { return };
        match job {
            Job::Hash(job) => job.run(shared),
            Job::Seal(blocks, _under_way) => {
                let packed = compressor
                    .compress_all(blocks)
                    .and_then(|blocks| shared.lock(&shared.packer).push(shared, &blocks));
                if let Err(error) = packed {
                    return shared.fail(error);
                }
            }
            Job::Finish(done) => {
                if let Err(error) = shared.lock(&shared.packer).finish_open(shared, true) {
                    return shared.fail(error);
                }
                let _ = done.send(());
            }
        }
    }
}

/// The ids of a segment's chunks.
fn identified(shared: &Shared, segment: &[u8], lengths: &[u32]) -> Vec<ChunkId> {
    let mut rest = segment;
    let identify = |length: &u32| {
        let (chunk, behind) = rest.split_at(*length as usize);
        rest = behind;
        shared.inner.keys.chunk_id(chunk)
    };
    lengths.iter().map(identify).collect()
}

struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl Compressor {
    fn new(level: i32) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(level)
            .map_err(|error| Error::System(format!("zstd: {error}")))?;
        Ok(Self { zstd, scratch: Vec::new() })
    }

    fn compress_all(&mut self, blocks: Vec<OpenBlock>) -> Result<Vec<PackableBlock>> {
        blocks.into_iter().map(|block| self.compress(block)).collect()
    }

    fn compress(&mut self, block: OpenBlock) -> Result<PackableBlock> {
        let OpenBlock { data, chunks, slot } = block;
        let plain = data.len() as u32;
        self.scratch.clear();
        self.scratch.reserve(zstd::zstd_safe::compress_bound(data.len()));
        let bytes = self
            .zstd
            .compress_to_buffer(&data, &mut self.scratch)
            .map_err(|error| Error::System(format!("zstd: {error}")))?;
        // Blocks that hardly shrink are quicker to read raw.
        let zstd = bytes + bytes / 32 < data.len();
        let content = if zstd { self.scratch[..bytes].to_vec() } else { data };
        Ok(PackableBlock { content, zstd, plain, chunks, slot })
    }
}
