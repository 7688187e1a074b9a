//! Finds known chunks of a stream: a window on the predecessor's chunks that
//! moves along with the stream, and a sparse sample of all that was passed.
//!
//! Data that was inserted is missed and the window waits; data that was deleted
//! or moved further than the window reaches is found again by the sample, as in
//! sparse indexing (Lillibridge and others, FAST 2009).

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::recent::{IdMap, short};
use super::shared::Shared;
use super::walker::{self, Expected, OldStream};
use crate::keyring::ChunkId;

/// Chunks that the window is ahead: 64 MiB of the stream.
pub(super) const AHEAD_CHUNKS: usize = 8 * 1024;
/// Chunks that stay in the window behind the cursor.
pub(super) const BEHIND_CHUNKS: usize = 2 * 1024;
/// After so many bytes without a hit the predecessor is searched further ahead.
const MISSES_BEFORE_SCOUTING: u64 = 4 * 1024 * 1024;
/// Batches that are searched for each segment that was missed: 16 MiB for half a
/// mebibyte, so that scouting costs little beside storing what is missed.
const SCOUTED_BATCHES: usize = 4;
/// Chunks that the sample holds: each takes about 24 bytes.
pub(super) const SAMPLED_CHUNKS: usize = 32 * 1024;

/// A chunk that the predecessor has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) pack: u32,
    pub(super) block: u32,
    pub(super) offset: u32,
    pub(super) plain: u32,
    pub(super) sparse: bool,
}

/// The search for one stream's chunks.
#[derive(Debug)]
pub(super) struct Finder {
    old: Arc<OldStream>,
    batches: mpsc::Receiver<Vec<Expected>>,
    ended: bool,
    window: VecDeque<Expected>,
    /// Number of the window's first chunk.
    first: u64,
    /// The chunk behind the last hit: most likely the next one.
    hint: u64,
    /// The window moves along with this.
    cursor: u64,
    by_id: IdMap<u64, u64>,
    missed: u64,
    scouting: bool,
    sample: Sample,
    /// Where the sample has found the stream again.
    resume_at: Option<u64>,
}

impl Finder {
    pub(super) fn new(old: Arc<OldStream>, shared: &Arc<Shared>) -> Self {
        let batches = walker::start(&old, shared, 0);
        Self {
            old,
            batches,
            ended: false,
            window: VecDeque::new(),
            first: 0,
            hint: 0,
            cursor: 0,
            by_id: IdMap::default(),
            missed: 0,
            scouting: false,
            sample: Sample::default(),
            resume_at: None,
        }
    }

    pub(super) fn old(&self) -> &OldStream {
        &self.old
    }

    /// Fills the window, before the chunks of a segment are looked up.
    pub(super) async fn refill(&mut self, shared: &Arc<Shared>) {
        if let Some(position) = self.resume_at.take() {
            self.clear_window();
            self.restart(shared, position);
        } else if self.scouting && self.missed == 0 {
            // The window has found the stream by itself: data was inserted.
            let end = self.window.back().map_or(0, |last| last.position + u64::from(last.length));
            self.restart(shared, end);
        }
        if self.missed >= MISSES_BEFORE_SCOUTING && !self.scouting {
            self.scouting = true;
        }
        if self.scouting {
            for _ in 0..SCOUTED_BATCHES {
                let Some(batch) = self.next_batch().await else { return };
                for chunk in &batch {
                    self.sample.remember(&chunk.id, chunk.position);
                }
            }
            return;
        }
        while self.first + (self.window.len() as u64) < self.cursor + AHEAD_CHUNKS as u64 {
            let Some(batch) = self.next_batch().await else { return };
            for chunk in batch {
                let number = self.first + self.window.len() as u64;
                self.by_id.entry(short(&chunk.id)).or_insert(number);
                self.window.push_back(chunk);
            }
        }
    }

    /// Looks a chunk up.
    pub(super) fn find(&mut self, id: &ChunkId, length: u32) -> Option<Found> {
        if let Some(found) = self.at(self.hint, id) {
            self.hint += 1;
            self.advance(self.hint);
            self.missed = 0;
            return Some(found);
        }
        if let Some(number) = self.by_id.get(&short(id)).copied()
            && let Some(found) = self.at(number, id)
        {
            // One hit may be chance (the same chunk twice); the window moves on
            // by a long way only when the next chunk fits as well.
            self.hint = number + 1;
            if number.saturating_sub(self.cursor) < BEHIND_CHUNKS as u64 {
                self.advance(self.hint);
            }
            self.missed = 0;
            return Some(found);
        }
        self.missed += u64::from(length);
        if self.missed > MISSES_BEFORE_SCOUTING && self.resume_at.is_none() {
            self.resume_at = self.sample.find(id);
        }
        None
    }

    fn at(&self, number: u64, id: &ChunkId) -> Option<Found> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let chunk = self.window.get(index).filter(|chunk| chunk.id == *id)?;
        Some(Found {
            pack: chunk.pack,
            block: chunk.block,
            offset: chunk.offset,
            plain: chunk.plain,
            sparse: chunk.sparse,
        })
    }

    fn advance(&mut self, to: u64) {
        self.cursor = self.cursor.max(to);
        while self.first + (BEHIND_CHUNKS as u64) < self.cursor {
            let Some(chunk) = self.window.pop_front() else { return };
            if self.by_id.get(&short(&chunk.id)) == Some(&self.first) {
                self.by_id.remove(&short(&chunk.id));
            }
            self.sample.remember(&chunk.id, chunk.position);
            self.first += 1;
        }
    }

    fn clear_window(&mut self) {
        for chunk in self.window.drain(..) {
            self.sample.remember(&chunk.id, chunk.position);
        }
        self.by_id.clear();
        (self.first, self.hint, self.cursor) = (0, 0, 0);
    }

    fn restart(&mut self, shared: &Arc<Shared>, position: u64) {
        self.batches = walker::start(&self.old, shared, position);
        (self.ended, self.scouting, self.missed) = (false, false, 0);
    }

    async fn next_batch(&mut self) -> Option<Vec<Expected>> {
        if self.ended {
            return None;
        }
        let batch = self.batches.recv().await;
        self.ended = batch.is_none();
        batch
    }
}

/// Every so many chunks one, by id: both sides choose the same ones.
#[derive(Debug)]
struct Sample {
    positions: IdMap<u64, u64>,
    mask: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { positions: IdMap::default(), mask: 0xF }
    }
}

impl Sample {
    fn remember(&mut self, id: &ChunkId, position: u64) {
        let key = short(id).rotate_right(32);
        if key & self.mask != 0 {
            return;
        }
        self.positions.insert(key, position);
        if self.positions.len() > SAMPLED_CHUNKS {
            self.mask = self.mask << 1 | 1;
            let mask = self.mask;
            self.positions.retain(|key, _| key & mask == 0);
        }
    }

    fn find(&self, id: &ChunkId) -> Option<u64> {
        self.positions.get(&short(id).rotate_right(32)).copied()
    }
}
