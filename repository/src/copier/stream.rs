//! One stream after the other, from the source into the destination.

use bytes::Bytes;

use super::old_copy::OldCopy;
use super::placed_runs::PlacedRuns;
use super::unchanged::{Part, Unchanged};
use super::{CopyError, CopyOptions, CopyResult};
use crate::piece::{Place, encode_piece};
use crate::reader::StreamReader;
use crate::recipe::Run;
use crate::snapshot::Snapshot;
use crate::spans::spans;
use crate::tables::{Segment, StreamEntry};
use crate::writer::{BlockAddress, CodedSegment, RecipeBuilder, Source};
use crate::{Error, Result, SnapshotWriter, StreamWriter};

/// A copy that is being made.
pub(super) struct Copier<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) writer: &'a SnapshotWriter,
    pub(super) old: Option<&'a OldCopy>,
    pub(super) options: &'a CopyOptions<'a>,
}

impl Copier<'_> {
    /// Copies all streams. Returns the bytes that were taken over unread.
    pub(super) async fn all(&self) -> CopyResult<u64> {
        let streams = self.snapshot.streams("").await.map_err(CopyError::Source)?;
        let total = streams.iter().map(|stream| stream.length).sum();
        let mut unchanged = 0;
        for stream in streams {
            let entry = self.snapshot.entry(&stream.name).await.map_err(CopyError::Source)?;
            let to = self.writer.stream(&entry.name, entry.cutting).await;
            let mut to = to.map_err(CopyError::Destination)?;
            to.expect_digest(entry.digest);
            let known = match self.old {
                Some(old) => old.stream(&entry.name).await,
                None => None,
            };
            match known {
                Some(known) => self.changes(&entry, known, &mut to, total).await?,
                None => self.whole(&entry, &mut to, total).await?,
            }
            unchanged += to.taken_over();
            let done = to.finish().await.map_err(CopyError::Destination)?;
            if done.bytes != entry.length {
                let name = format!("the stream {:?}", entry.name);
                let error = Error::damaged(name, "it has another length than it says");
                return Err(CopyError::Source(error));
            }
        }
        Ok(unchanged)
    }

    /// Reads all of a stream.
    async fn whole(
        &self,
        entry: &StreamEntry,
        to: &mut StreamWriter,
        total: u64,
    ) -> CopyResult<()> {
        let mut from = self.snapshot.stream(&entry.name).await.map_err(CopyError::Source)?;
        // The reader verifies each byte, and at the end the digest.
        while let Some(bytes) = from.next().await.map_err(CopyError::Source)? {
            to.write(bytes).await.map_err(CopyError::Destination)?;
            self.progress(entry, total);
        }
        Ok(())
    }

    /// Takes over what is known, and reads the rest: segment by segment of the recipe.
    async fn changes(
        &self,
        entry: &StreamEntry,
        known: Unchanged,
        to: &mut StreamWriter,
        total: u64,
    ) -> CopyResult<()> {
        let mut known = Some(known);
        let of = PlacedRuns::of(self.snapshot, entry.clone()).await;
        let mut new = of.map_err(CopyError::Source)?;
        for n in 0..entry.segments.len() {
            let segment = new.segment(n).await.map_err(CopyError::Source)?;
            let mut parts = Vec::new();
            if let Some(unchanged) = &mut known {
                for placed in &segment.runs {
                    let found = unchanged.parts(&new, &placed.run, self.writer, &mut parts).await;
                    if let Err(error) = found {
                        tracing::warn!(%error, name = entry.name, "the older copy is of no use");
                        parts = segment.runs.iter().map(|placed| Part::Read(placed.run)).collect();
                        known = None;
                        break;
                    }
                }
            } else {
                parts = segment.runs.iter().map(|placed| Part::Read(placed.run)).collect();
            }
            let recipe = to_read(&new, &parts).await.map_err(CopyError::Source)?;
            let from = self.snapshot.parts(recipe).await.map_err(CopyError::Source)?;
            self.take(entry, (from, parts), known.as_ref(), to, total).await?;
        }
        Ok(())
    }

    /// Puts the parts behind each other.
    async fn take(
        &self,
        entry: &StreamEntry,
        (mut from, parts): (StreamReader, Vec<Part>),
        known: Option<&Unchanged>,
        to: &mut StreamWriter,
        total: u64,
    ) -> CopyResult<()> {
        // What was read for the next part already.
        let mut ahead = Bytes::new();
        for part in parts {
            match (part, known) {
                (Part::Known(run), Some(known)) => {
                    known.hand_over(&run, to).await.map_err(CopyError::Destination)?;
                }
                (Part::Known(_), None) => {
                    let error = Error::System("a part of no copy".into());
                    return Err(CopyError::Destination(error));
                }
                (Part::Read(run), _) => {
                    let mut left = run.length;
                    while left > 0 {
                        if ahead.is_empty() {
                            let next = from.next().await.map_err(CopyError::Source)?;
                            ahead = next.ok_or_else(|| cut(entry)).map_err(CopyError::Source)?;
                        }
                        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(ahead.len());
                        let bytes = ahead.split_to(taken);
                        to.write(bytes).await.map_err(CopyError::Destination)?;
                        left -= taken as u64;
                        self.progress(entry, total);
                    }
                }
            }
            self.progress(entry, total);
        }
        // The end verifies that all was read.
        match from.next().await.map_err(CopyError::Source)? {
            None if ahead.is_empty() => Ok(()),
            _ => Err(CopyError::Source(cut(entry))),
        }
    }

    fn progress(&self, entry: &StreamEntry, total: u64) {
        (self.options.progress)(&entry.name, self.writer.totals().read, total);
    }
}

fn cut(entry: &StreamEntry) -> Error {
    Error::damaged(format!("the stream {:?}", entry.name), "a part of it has another length")
}

/// A recipe of all that is read, in order.
async fn to_read(new: &PlacedRuns, parts: &[Part]) -> Result<StreamEntry> {
    let mut builder = RecipeBuilder::default();
    let mut segments = Vec::new();
    let mut length = 0;
    let segment = |coded: CodedSegment| Segment {
        covers: coded.covers,
        place: Place::Inline(encode_piece(&coded.runs)),
    };
    for part in parts {
        let Part::Read(run) = part else { continue };
        length += run.length;
        push(new, run, &mut builder).await?;
        while let Some(coded) = builder.advance() {
            segments.push(segment(coded));
        }
    }
    segments.extend(builder.finish().map(segment));
    Ok(StreamEntry { length, segments, ..new.entry.clone() })
}

async fn push(new: &PlacedRuns, run: &Run, builder: &mut RecipeBuilder) -> Result<()> {
    let blocks = new.blocks(run.pack).await?;
    let (spans, _) = spans(run, |block| blocks.plain(block))
        .map_err(|error| Error::damaged("a recipe", error.to_string()))?;
    for span in spans {
        let plain = blocks.plain(span.block).unwrap_or_default();
        let address = BlockAddress { pack: run.pack, block: span.block, plain };
        builder.push(Source::At(address), span.offset, span.length);
    }
    Ok(())
}
