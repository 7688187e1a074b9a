//! Reading a stream: its recipe is walked ahead, blocks are fetched together
//! where they stand together, decoded on other threads, and handed out in order.

mod cache;
mod lookahead;
mod planner;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use self::cache::Group;
use self::planner::Planner;
use crate::buffers::Buffers;
use crate::head::MetaEntry;
use crate::keyring::DigestKey;
use crate::repository::Inner;
use crate::tables::{StreamEntry, UsedPack};
use crate::{Error, Result};

/// Parts of groups that wait for the reader. Where a stream has changed here and
/// there for a hundred days they are a few kilobytes each, and groups are still to be
/// fetched ahead.
const PARTS_AHEAD: usize = 512;
/// Parts below this are joined: handing a piece on costs as much as copying some
/// ten kilobytes.
const SHORT_BYTES: usize = 64 * 1024;
/// Short parts are joined to pieces of about this.
const JOINED_BYTES: usize = 512 * 1024;
/// Joined pieces that wait to be used again.
const JOINED_BUFFERS: usize = 4;

/// The stream's next bytes, perhaps still on their way: a part of a group.
struct Part {
    group: Group,
    /// Tells groups apart.
    number: u64,
    start: usize,
    end: usize,
    /// Where the group was fetched for this part: how far ahead that is.
    _ahead: Option<OwnedSemaphorePermit>,
}

/// One open stream of a snapshot. Every byte that it gives was verified.
pub struct StreamReader {
    parts: mpsc::Receiver<Result<Part>>,
    /// Absent where parts of a stream are read, whose digest nobody knows.
    hasher: Option<Box<blake3::Hasher>>,
    entry: StreamEntry,
    given: u64,
    done: bool,
    /// What follows the bytes that were given.
    held: Option<Bytes>,
    buffers: Buffers,
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("name", &self.entry.name).finish_non_exhaustive()
    }
}

impl StreamReader {
    pub(crate) fn open(
        inner: Arc<Inner>,
        metas: Vec<MetaEntry>,
        packs: Arc<Vec<UsedPack>>,
        entry: StreamEntry,
        digest_key: Option<&DigestKey>,
    ) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_AHEAD);
        let hasher = digest_key.map(|key| Box::new(key.hasher()));
        let planner = Planner::new(inner, metas, packs, entry.clone(), sender);
        tokio::spawn(planner.run());
        let buffers = Buffers::new(JOINED_BUFFERS);
        Self { parts, hasher, entry, given: 0, done: false, held: None, buffers }
    }

    /// The stream's length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.entry.length
    }

    /// The next bytes, in order; `None` at the end. Short parts come together, since
    /// whoever takes bytes does something for each piece.
    ///
    /// # Errors
    /// `RepositoryDamaged`, `ObjectMissing`, or what the store says; nothing that
    /// follows can be used then.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let first = match self.held.take() {
            Some(held) => Some(held),
            None => self.part().await?,
        };
        match first {
            Some(part) if part.len() < SHORT_BYTES => self.joined(part).await.map(Some),
            part => Ok(part),
        }
    }

    /// A short part and those behind it. They are copied: a slice of each would hold on
    /// to all of its group.
    async fn joined(&mut self, first: Bytes) -> Result<Bytes> {
        let mut joined = self.buffers.take();
        joined.clear();
        joined.extend_from_slice(&first);
        while joined.len() < JOINED_BYTES {
            match self.part().await? {
                Some(part) if part.len() < SHORT_BYTES => joined.extend_from_slice(&part),
                part => {
                    self.held = part;
                    break;
                }
            }
        }
        Ok(self.buffers.lend(joined))
    }

    async fn part(&mut self) -> Result<Option<Bytes>> {
        if self.done {
            return Ok(None);
        }
        let Some(part) = self.parts.recv().await else {
            self.done = true;
            return self.verify_end().map(|()| None);
        };
        let part = part?;
        let bytes = part.group.await?.slice(part.start..part.end);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.given += bytes.len() as u64;
        Ok(Some(bytes))
    }

    fn verify_end(&self) -> Result<()> {
        let is_it = |hasher: &blake3::Hasher| *hasher.finalize().as_bytes() == self.entry.digest;
        let whole = self.given == self.entry.length && self.hasher.as_deref().is_none_or(is_it);
        if whole {
            return Ok(());
        }
        let name = format!("the stream {:?}", self.entry.name);
        Err(Error::damaged(name, "its bytes are not those that were backed up"))
    }
}
