//! One stream on its way into the repository: cut, identified, looked up, and
//! the new chunks collected into blocks.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::block::{BlockAddress, OpenBlock};
use super::finder::Finder;
use super::finished::{FinishedStream, settle, store};
use super::hook_search::Hooked;
use super::recipe_builder::{RecipeBuilder, Source};
use super::segments::{Chunk, Known, LookedUp, Pending, SEGMENTS_HELD};
use super::shared::Shared;
use super::stream_digest::StreamDigest;
use super::workers::{HashJob, Job, SEAL_JOB_BYTES};
use crate::Result;
use crate::chunker::Cutting;
use crate::keyring::ChunkId;
use crate::pack::BLOCK_BYTES;
use crate::tables::Segment;

/// Bytes that are cut and identified at once.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;
/// Pieces that are at least so large are cut where they lie, all but their ends.
const DIRECT_BYTES: usize = 128 * 1024;
/// Segments up to this size are identified at once: a worker would take as long to
/// hear of them.
pub(super) const INLINE_BYTES: usize = 96 * 1024;
/// Share of a stream that may be stored again to keep blocks well used.
const REWRITE_PERCENT: u64 = 5;

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes of it that were not known, or are stored again.
    pub new: u64,
    /// Bytes of it that were known, and are stored again to keep blocks well used.
    pub again: u64,
    /// Its keyed digest, as hexadecimal digits.
    pub digest: String,
}

/// Takes the bytes of one stream. Dropped without [`StreamWriter::finish`] it
/// leaves no stream behind.
#[derive(Debug)]
pub struct StreamWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) name: String,
    cutting: Cutting,
    buffer: BytesMut,
    pending: VecDeque<Pending>,
    held: VecDeque<LookedUp>,
    finder: Option<Finder>,
    block: OpenBlock,
    closed: Vec<OpenBlock>,
    pub(super) builder: RecipeBuilder,
    pub(super) segments: Vec<Segment>,
    pub(super) digesting: Arc<StreamDigest>,
    /// Segments that were cut.
    pub(super) cut_segments: u64,
    pub(super) length: u64,
    new: u64,
    rewritten: u64,
    /// Of a copy: what its digest has to be.
    pub(super) expected: Option<[u8; 32]>,
    /// Bytes of it that were taken over unread.
    pub(super) taken_over: u64,
}

impl StreamWriter {
    pub(super) async fn open(shared: Arc<Shared>, name: String, cutting: Cutting) -> Self {
        let old = shared.predecessors.stream(&shared, &name).await;
        let finder = old.map(|old| Finder::new(old, &shared));
        let digesting = Arc::new(StreamDigest::new(shared.stream_hasher()));
        Self {
            shared,
            name,
            cutting,
            buffer: BytesMut::new(),
            pending: VecDeque::new(),
            held: VecDeque::new(),
            finder,
            block: OpenBlock::default(),
            closed: Vec::new(),
            builder: RecipeBuilder::default(),
            segments: Vec::new(),
            digesting,
            cut_segments: 0,
            length: 0,
            new: 0,
            rewritten: 0,
            expected: None,
            taken_over: 0,
        }
    }

    /// Appends bytes. Waits while the workers and the store are busy.
    ///
    /// # Errors
    /// When they cannot be kept; the whole backup has failed then.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.shared.check()?;
        self.length += bytes.len() as u64;
        self.shared.totals.add_read(bytes.len() as u64);
        let largest = self.cutting.largest();
        let (full, direct) = (SEGMENT_BYTES + largest, DIRECT_BYTES.max(4 * largest));
        let mut rest = bytes;
        while !rest.is_empty() {
            if rest.len() >= direct {
                self.cut_border(&mut rest).await?;
                self.cut_piece(&mut rest).await?;
                continue;
            }
            let taken = rest.split_to(rest.len().min(full - self.buffer.len()));
            self.buffer.extend_from_slice(&taken);
            if self.buffer.len() == full {
                self.cut(false).await?;
            }
        }
        Ok(())
    }

    /// Cuts what is buffered with the first bytes of a large piece. No byte stays in
    /// the buffer.
    async fn cut_border(&mut self, piece: &mut Bytes) -> Result<()> {
        let carried = self.buffer.len();
        if carried == 0 {
            return Ok(());
        }
        self.buffer.extend_from_slice(&piece[..self.cutting.largest()]);
        let mut lengths = Vec::new();
        // More than was carried: fewer bytes than the largest chunk stay uncut.
        let cut = self.cutting.cut(&self.buffer, false, &mut lengths);
        let segment = std::mem::take(&mut self.buffer).freeze().slice(..cut);
        piece.advance(cut - carried);
        self.identify(segment, lengths).await
    }

    /// Cuts a piece without copying it. Its end stays, which more bytes may make longer.
    async fn cut_piece(&mut self, piece: &mut Bytes) -> Result<()> {
        let window = piece.len().min(SEGMENT_BYTES + self.cutting.largest());
        let mut lengths = Vec::new();
        let cut = self.cutting.cut(&piece[..window], false, &mut lengths);
        self.identify(piece.split_to(cut), lengths).await
    }

    /// Ends the stream: from now on it is part of the backup.
    ///
    /// # Errors
    /// When its last bytes cannot be kept; the whole backup has failed then.
    pub async fn finish(mut self) -> Result<StreamSummary> {
        self.shared.check()?;
        self.place_all().await?;
        self.close_last_block();
        self.seal_closed().await?;
        let mut builder = std::mem::take(&mut self.builder);
        let mut segments = std::mem::take(&mut self.segments);
        settle(&self.shared, &mut builder, &mut segments).await?;
        let builder = (!builder.is_settled()).then(|| Box::new(builder));
        let digest = self.digest()?;
        let finished = FinishedStream {
            length: self.length,
            digest,
            cutting: self.cutting,
            segments,
            builder,
        };
        let shared = Arc::clone(&self.shared);
        let mut streams = shared.lock(&shared.streams);
        streams.finished.insert(self.name.clone(), finished);
        drop(streams);
        Ok(StreamSummary {
            bytes: self.length,
            new: self.new,
            again: self.rewritten,
            digest: data_encoding::HEXLOWER.encode(&digest),
        })
    }

    /// Gives all that was written its place, as if the stream ended here.
    pub(super) async fn place_all(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.cut(true).await?;
        }
        while !self.pending.is_empty() {
            self.look_up_next().await?;
        }
        while !self.held.is_empty() {
            self.place_next().await?;
        }
        Ok(())
    }

    /// Cuts what is buffered.
    async fn cut(&mut self, is_end: bool) -> Result<()> {
        let mut lengths = Vec::new();
        let cut = self.cutting.cut(&self.buffer, is_end, &mut lengths);
        let segment = self.buffer.split_to(cut).freeze();
        if !is_end {
            // One buffer of the right size, instead of one that grows.
            let mut next = BytesMut::with_capacity(SEGMENT_BYTES + self.cutting.largest());
            next.extend_from_slice(&self.buffer);
            self.buffer = next;
        }
        self.identify(segment, lengths).await
    }

    /// Lets the chunks of a segment be identified, and the segment be digested.
    async fn identify(&mut self, segment: Bytes, lengths: Vec<u32>) -> Result<()> {
        let (reply, ids) = oneshot::channel();
        let number = self.cut_segments;
        self.cut_segments += 1;
        let digesting = Arc::clone(&self.digesting);
        let job = HashJob {
            segment: segment.clone(),
            lengths: lengths.clone(),
            number,
            digesting,
            reply,
        };
        if segment.len() <= INLINE_BYTES {
            job.run(&self.shared);
            self.pending.push_back(Pending { segment, lengths, ids, permit: None });
            return self.place_beyond_depth().await;
        }
        let permit = loop {
            match Arc::clone(&self.shared.segments).try_acquire_owned() {
                Ok(permit) => break Some(permit),
                // Each stream may have one of its own, else streams that wait for
                // each other's would wait for ever.
                Err(_) if !self.held.is_empty() => self.place_next().await?,
                Err(_) if !self.pending.is_empty() => self.look_up_next().await?,
                Err(_) => break None,
            }
        };
        self.shared.submit(Job::Hash(job)).await?;
        self.pending.push_back(Pending { segment, lengths, ids, permit });
        self.place_beyond_depth().await
    }

    /// Large segments and the small ones between them: as many of each may be ahead.
    async fn place_beyond_depth(&mut self) -> Result<()> {
        while self.pending.len() > 2 * self.shared.depth {
            self.look_up_next().await?;
        }
        Ok(())
    }

    /// Looks up the chunks of the oldest segment in the predecessor, and follows the
    /// hooks among those that it does not have.
    async fn look_up_next(&mut self) -> Result<()> {
        let Some(Pending { segment, lengths, ids, permit }) = self.pending.pop_front() else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let ids = shared.unless_stopped(ids).await?.map_err(|_| shared.stopped())?;
        if let Some(finder) = &mut self.finder {
            shared.unless_stopped(finder.refill(&shared)).await?;
        }
        let chunks: Vec<Chunk> = ids
            .into_iter()
            .zip(lengths)
            .map(|(id, length)| Chunk { id, length, known: self.find_in_predecessor(&id, length) })
            .collect();
        let (missing, missed) = self.missing(&chunks);
        let looked_up = LookedUp { segment, chunks, missing, _permit: permit };
        if looked_up.missing.is_empty() {
            self.held.push_back(looked_up);
        } else {
            let around: Vec<u32> = looked_up.surroundings().collect();
            self.held.push_back(looked_up);
            let missing = self.held.iter().flat_map(|held| &held.missing);
            let missing: Vec<ChunkId> = missing.copied().collect();
            shared.hooks.follow(&shared, missed, &missing, &around).await?;
        }
        // Nothing is waited for where nothing is missing.
        while self.held.len() > SEGMENTS_HELD
            || self.held.front().is_some_and(|held| held.missing.is_empty())
        {
            self.place_next().await?;
        }
        Ok(())
    }

    /// The chunks that nothing knows so far, and their bytes.
    fn missing(&self, chunks: &[Chunk]) -> (Vec<ChunkId>, u64) {
        let recent = self.shared.lock(&self.shared.recent);
        let unknown =
            |chunk: &&Chunk| matches!(chunk.known, Known::No) && recent.find(&chunk.id).is_none();
        let unknown = chunks.iter().filter(unknown);
        let bytes = unknown.clone().map(|chunk| u64::from(chunk.length)).sum();
        (unknown.map(|chunk| chunk.id).collect(), bytes)
    }

    /// Gives each chunk of the oldest segment that was looked up its place.
    async fn place_next(&mut self) -> Result<()> {
        let Some(LookedUp { segment, chunks, missing, _permit }) = self.held.pop_front() else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let mut hooked = shared.hooks.hooked(&shared, &missing);
        let mut rest = &segment[..];
        for Chunk { id, length, known } in chunks {
            let (chunk, behind) = rest.split_at(length as usize);
            rest = behind;
            self.place(&id, chunk, known, &mut hooked);
        }
        shared.unless_stopped(shared.hooks.fetch_next(&shared, &hooked)).await?;
        self.seal_closed_when_many().await?;
        while let Some(coded) = self.builder.advance() {
            self.segments.push(store(&shared, coded).await?);
        }
        Ok(())
    }

    fn place(&mut self, id: &ChunkId, chunk: &[u8], known: Known, hooked: &mut Hooked) {
        let length = chunk.len() as u32;
        if let Known::At(address, offset) = known {
            self.builder.push(Source::At(address), offset, length);
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut recent = shared.lock(&shared.recent);
        if let Some(known) = recent.find(id) {
            self.builder.push(Source::Slot(Arc::clone(&known.slot)), known.offset, length);
            return;
        }
        if matches!(known, Known::No)
            && let Some((address, offset)) = hooked.find(&shared, id, length)
        {
            self.builder.push(Source::At(address), offset, length);
            return;
        }
        if self.block.overflows_with(chunk.len()) {
            let block = std::mem::take(&mut self.block);
            recent.remember(&block);
            self.closed.push(block);
        }
        drop(recent);
        let offset = self.block.push(*id, chunk);
        self.builder.push(Source::Slot(Arc::clone(&self.block.slot)), offset, length);
        self.new += u64::from(length);
        shared.totals.add_new(u64::from(length));
    }

    fn find_in_predecessor(&mut self, id: &ChunkId, length: u32) -> Known {
        let Some(finder) = &mut self.finder else { return Known::No };
        let Some(found) = finder.find(id, length) else { return Known::No };
        let rewritable = self.length * REWRITE_PERCENT / 100;
        if found.sparse && self.rewritten + u64::from(length) <= rewritable {
            self.rewritten += u64::from(length);
            return Known::Again;
        }
        let Some(entry) = finder.old().pack(found.pack) else { return Known::No };
        let mut packs = self.shared.lock(&self.shared.packs);
        let pack = packs.inherited(entry);
        packs.mark(pack, found.block, length, found.plain);
        let address = BlockAddress { pack, block: found.block, plain: found.plain };
        Known::At(address, found.offset)
    }

    /// The last block goes its own way if it is half full; else its chunks go
    /// into the block that the tails of all streams share.
    fn close_last_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        if block.data.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        if block.data.len() * 2 >= BLOCK_BYTES {
            shared.lock(&shared.recent).remember(&block);
            self.closed.push(block);
            return;
        }
        let mut tail = shared.lock(&shared.tail);
        if tail.overflows_with(block.data.len()) {
            self.closed.push(std::mem::take(&mut *tail));
        }
        let shift = tail.data.len() as u32;
        let mut rest = &block.data[..];
        let mut recent = shared.lock(&shared.recent);
        for (id, length) in &block.chunks {
            let (chunk, behind) = rest.split_at(*length as usize);
            rest = behind;
            let offset = tail.push(*id, chunk);
            recent.remember_chunk(*id, &tail.slot, offset);
        }
        self.builder.redirect(&block.slot, &tail.slot, shift);
    }

    async fn seal_closed_when_many(&mut self) -> Result<()> {
        let bytes: usize = self.closed.iter().map(|block| block.data.len()).sum();
        if bytes >= SEAL_JOB_BYTES / 2 { self.seal_closed().await } else { Ok(()) }
    }

    async fn seal_closed(&mut self) -> Result<()> {
        let blocks = std::mem::take(&mut self.closed);
        if blocks.is_empty() { Ok(()) } else { self.shared.submit_blocks(blocks).await }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.shared.lock(&self.shared.streams).open.remove(&self.name);
        // Other streams may refer to blocks that were closed but not yet sent:
        // without them the backup cannot be committed.
        let blocks = std::mem::take(&mut self.closed);
        if !blocks.is_empty() {
            self.shared.lock(&self.shared.abandoned).extend(blocks);
        }
    }
}
