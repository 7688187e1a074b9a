//! Parts of streams that a copy takes over from older copies: they are neither read nor
//! hashed.

use std::sync::Arc;

use super::block::BlockAddress;
use super::finished::store;
use super::predecessors::MAX_PREDECESSORS;
use super::recipe_builder::Source;
use super::{SnapshotWriter, StreamWriter};
use crate::pack::PackEntry;
use crate::snapshot::Snapshot;
use crate::spans::Span;
use crate::{Error, Result};

impl SnapshotWriter {
    /// The `n`-th newest older snapshot of the series, from 0.
    pub(crate) async fn older(&self, n: usize) -> Option<Snapshot> {
        if n >= MAX_PREDECESSORS {
            return None;
        }
        self.shared.predecessors.nth(n, &self.shared).await
    }

    /// Whether new recipes may refer to a block of an older snapshot's pack.
    pub(crate) fn may_refer_to(&self, pack: &Arc<PackEntry>, block: u32) -> bool {
        self.shared.standing(pack, block).is_some()
    }
}

impl StreamWriter {
    /// Says what the stream's digest is: what is written is compared with it, and where
    /// a part was taken over, it counts untested.
    pub(crate) fn expect_digest(&mut self, digest: [u8; 32]) {
        self.expected = Some(digest);
    }

    /// Bytes that were taken over so far.
    pub(crate) fn taken_over(&self) -> u64 {
        self.taken_over
    }

    /// Appends a part of a block of `plain` bytes that the repository has, in a pack of
    /// an older snapshot.
    ///
    /// # Errors
    /// When [`SnapshotWriter::may_refer_to`] says no; else as [`StreamWriter::write`].
    pub(crate) async fn take_over(
        &mut self,
        pack: &Arc<PackEntry>,
        span: Span,
        plain: u32,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.check()?;
        self.place_all().await?;
        let (entry, block) = shared.standing(pack, span.block).ok_or_else(|| {
            Error::System(format!("a block of {} is not there", pack.name.pack_object()))
        })?;
        let index = {
            let mut packs = shared.lock(&shared.packs);
            let index = packs.inherited(entry);
            packs.mark(index, block, span.length, plain);
            index
        };
        let address = BlockAddress { pack: index, block, plain };
        self.builder.push(Source::At(address), span.offset, span.length);
        self.length += u64::from(span.length);
        self.taken_over += u64::from(span.length);
        shared.totals.add_read(u64::from(span.length));
        while let Some(coded) = self.builder.advance() {
            self.segments.push(store(&shared, coded).await?);
        }
        Ok(())
    }

    /// The digest of the finished stream.
    pub(super) fn digest(&self) -> Result<[u8; 32]> {
        let own = self.digesting.of(self.cut_segments, self.length - self.taken_over);
        let own = own.ok_or_else(|| Error::System("a stream was not digested".to_owned()))?;
        match self.expected {
            Some(expected) if self.taken_over > 0 => Ok(expected),
            Some(expected) if own != expected => {
                let name = format!("the stream {:?}", self.name);
                Err(Error::damaged(name, "its bytes are not those that were backed up"))
            }
            _ => Ok(own),
        }
    }
}
