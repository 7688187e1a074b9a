//! Streams that were finished, up to the commit.

use super::recipe_builder::{CodedSegment, RecipeBuilder};
use super::shared::Shared;
use crate::chunker::Cutting;
use crate::piece::{Place, encode_piece};
use crate::tables::{Segment, StreamEntry};
use crate::{Error, Result};

/// What is known of a stream at its end. Its last chunks may still be on their
/// way into a pack.
#[derive(Debug)]
pub(super) struct FinishedStream {
    pub(super) length: u64,
    pub(super) digest: [u8; 32],
    pub(super) cutting: Cutting,
    pub(super) segments: Vec<Segment>,
    /// Absent once the recipe is complete.
    pub(super) builder: Option<Box<RecipeBuilder>>,
}

impl FinishedStream {
    /// Completes the recipe, now that every chunk has an address.
    pub(super) async fn into_entry(mut self, shared: &Shared, name: String) -> Result<StreamEntry> {
        if let Some(mut builder) = self.builder.take() {
            settle(shared, &mut builder, &mut self.segments).await?;
            if !builder.is_settled() {
                return Err(Error::System(format!("chunks of {name} never came into a pack")));
            }
        }
        Ok(StreamEntry {
            name,
            length: self.length,
            digest: self.digest,
            cutting: self.cutting,
            segments: self.segments,
        })
    }
}

/// Codes what has an address, the last segment included if all has.
pub(super) async fn settle(
    shared: &Shared,
    builder: &mut RecipeBuilder,
    segments: &mut Vec<Segment>,
) -> Result<()> {
    while let Some(segment) = builder.advance() {
        segments.push(store(shared, segment).await?);
    }
    if builder.is_settled()
        && let Some(segment) = builder.finish()
    {
        segments.push(store(shared, segment).await?);
    }
    Ok(())
}

/// Puts a segment into the head while there is room, else into a meta object.
pub(super) async fn store(shared: &Shared, segment: CodedSegment) -> Result<Segment> {
    let piece = encode_piece(&segment.runs);
    let place = if shared.take_inline(piece.len() as u64) {
        Place::Inline(piece)
    } else {
        let mut meta = shared.unless_stopped(shared.meta.lock()).await?;
        shared.unless_stopped(meta.put(&shared.inner, &piece)).await??
    };
    Ok(Segment { covers: segment.covers, place })
}
