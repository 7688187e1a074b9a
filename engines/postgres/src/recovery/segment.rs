//! Files of the log, put together from what an archive has, for one lineage.
//!
//! Whoever replays a timeline that was left finds nothing behind the point at which it was left:
//! the server would replay it there without a word.

use bytes::{Bytes, BytesMut};
use dbbackup_contract::{Failure, Reason};

use super::index::{LogIndex, Stretch, end_within};
use crate::archiver::{LogParts, bytes_of};
use crate::lsn::Lsn;

/// Files of the log that an archive has for a lineage, from `start` to `end`: their timelines and
/// numbers. A file in which a timeline was left is there of both.
pub(crate) fn segments(
    index: &LogIndex,
    stretches: &[Stretch],
    start: Lsn,
    end: Lsn,
    segment_bytes: u64,
) -> Vec<(u32, u64)> {
    let end = end.min(index.end_of(stretches, start));
    let mut found = Vec::new();
    for stretch in stretches {
        let first = stretch.start.max(start).0 / segment_bytes;
        let own_end = stretch.end.map_or(end, |own| own.min(end));
        let numbers = first..own_end.0.div_ceil(segment_bytes);
        found.extend(numbers.map(|number| (stretch.timeline, number)));
    }
    found
}

/// The log of a lineage, in files.
pub(crate) struct LogFiles<'a> {
    pub(crate) archive: &'a dyn LogParts,
    pub(crate) index: &'a LogIndex,
    pub(crate) stretches: &'a [Stretch],
    /// Where what is replayed begins.
    pub(crate) start: Lsn,
    pub(crate) segment_bytes: u64,
}

impl LogFiles<'_> {
    /// The file with this number of a timeline, filled up with zeros behind the archive's end: one of
    /// those that [`segments`] names.
    ///
    /// # Errors
    /// `LogMissing` where it should be there and is not; what the archive says.
    pub(crate) async fn segment(&self, timeline: u32, number: u64) -> Result<Bytes, Failure> {
        let start = Lsn(number.saturating_mul(self.segment_bytes));
        let missing = |from: Lsn| {
            let message =
                format!("the archive lacks the log of timeline {timeline} from {from} on");
            Failure::new(Reason::LogMissing, message).with_hint(
                "Run check on the repository: parts of the log are gone or damaged. A point before that \
                 position may still be reached.",
            )
        };
        let own = self.stretches.iter().position(|stretch| stretch.timeline == timeline);
        let own = own.ok_or_else(|| missing(start))?;
        let stretches = &self.stretches[..=own];
        let limit = stretches[own].end.unwrap_or(Lsn(u64::MAX));
        let limit = limit.min(start.plus(self.segment_bytes));
        // Before it there may be no log any more: what lies there is not replayed.
        let from = start.max(self.start.floor(self.segment_bytes));
        let parts = self.index.parts_between(stretches, from, limit);
        if parts.is_empty() {
            return Err(missing(from));
        }
        let mut file = BytesMut::zeroed(usize::try_from(self.segment_bytes).unwrap_or(0));
        for (part_number, part) in parts {
            if part.start >= limit {
                break;
            }
            let part_end = end_within(stretches, part);
            let (first, last) = (part.start.max(start), part_end.min(limit));
            if first >= last {
                continue;
            }
            let bytes = bytes_of(self.archive, part_number).await?;
            // Within a file: less than a gigabyte.
            let within = |at: Lsn, of: Lsn| usize::try_from(at.0 - of.0).unwrap_or(usize::MAX);
            let source = bytes.get(within(first, part.start)..within(last, part.start));
            let place = file.get_mut(within(first, start)..within(last, start));
            match (source, place) {
                (Some(source), Some(place)) => place.copy_from_slice(source),
                _ => {
                    let message = format!("part {part_number} of the log has too few bytes");
                    return Err(Failure::new(Reason::RepositoryDamaged, message));
                }
            }
        }
        Ok(file.freeze())
    }
}
