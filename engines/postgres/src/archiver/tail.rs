//! Where an archive ends, and what of its end has to be read back to go on.

use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};

use super::LogArchive;
use super::cutter::Cutter;
use super::part::{ArchivedPart, WalPart};
use crate::lsn::Lsn;
use crate::wal::Lineage;

/// Bytes of a page of the log.
const PAGE_BYTES: u64 = 8192;
/// Parts that are looked at to find the beginning of the range before the last one: pieces of half a
/// second for a day.
const MAX_PARTS: usize = 200_000;

/// The end of an archive.
pub(super) struct Tail {
    pub(super) timeline: u32,
    /// What comes next.
    pub(super) start: Lsn,
    pub(super) cutter: Cutter,
    /// Numbers of the first and the last piece of the range that is being filled.
    pub(super) pieces: Option<(u32, u32)>,
}

/// What was found on the way back.
struct Recalled {
    timeline: u32,
    start: Lsn,
    /// Newest first: the number, what it is, and its bytes up to where they count.
    parts: Vec<(u32, WalPart, Bytes)>,
}

impl Tail {
    /// Reads it; `None` of an archive that has nothing yet.
    ///
    /// # Errors
    /// What the archive says; that what it holds does not fit together.
    pub(super) async fn read(
        archive: &dyn LogArchive,
        lineage: Lineage,
    ) -> Result<Option<Self>, Failure> {
        let Some(mut found) = walk_back(archive, lineage).await? else { return Ok(None) };
        let (timeline, start) = (found.timeline, found.start);
        let range = Cutter::range_of(lineage, start);
        let is_piece =
            |part: &WalPart| part.timeline == timeline && part.start >= range && part.end <= start;
        let pieces = found.parts.iter().filter(|(_, part, _)| is_piece(part));
        let numbers: Vec<u32> = pieces.map(|(number, ..)| *number).collect();
        let pieces = numbers.iter().min().copied().zip(numbers.iter().max().copied());

        found.parts.sort_by_key(|(number, part, _)| (part.start, std::cmp::Reverse(*number)));
        let first = found.parts.first().map_or(start, |(_, part, _)| part.start);
        let from = Lsn(first.0.div_ceil(PAGE_BYTES) * PAGE_BYTES);
        // Behind a gap, or at a timeline's beginning, the range is not there from its border on.
        let mut cutter =
            Cutter::new(timeline, range.max(from).min(start), from.min(start), lineage);
        let mut position = from;
        for (_, part, bytes) in &found.parts {
            let end = part.start.plus(bytes.len() as u64);
            if end <= position || part.start > position {
                continue;
            }
            let skip = usize::try_from(position.0 - part.start.0).unwrap_or(usize::MAX);
            cutter.recall(position, bytes.get(skip..).unwrap_or_default())?;
            position = end;
        }
        if position < start && !found.parts.is_empty() {
            let message =
                format!("the archive ends at {start}, and has its bytes until {position}");
            return Err(Failure::new(Reason::RepositoryDamaged, message));
        }
        Ok(Some(Self { timeline, start, cutter, pieces }))
    }
}

/// Looks at the last parts, until the range before the last one begins: a record that ends in the
/// last range may begin there.
async fn walk_back(
    archive: &dyn LogArchive,
    lineage: Lineage,
) -> Result<Option<Recalled>, Failure> {
    let Some(last) = archive.last() else { return Ok(None) };
    let mut found: Option<Recalled> = None;
    // Whose bytes count, up to where.
    let (mut timeline, mut limit) = (0, Lsn::default());
    for number in (0..=last).rev().take(MAX_PARTS) {
        let Some((about, bytes)) = archive.part(number).await? else { continue };
        let part: ArchivedPart = serde_json::from_value(about).map_err(|error| {
            Failure::new(Reason::RepositoryDamaged, format!("part {number} of the log: {error}"))
        })?;
        let recalled = match (&mut found, &part) {
            (Some(recalled), _) => recalled,
            (none, ArchivedPart::Wal(wal)) => {
                (timeline, limit) = (wal.timeline, wal.end);
                none.insert(Recalled { timeline, start: limit, parts: Vec::new() })
            }
            (none, ArchivedPart::History { timeline: next, before, at }) => {
                (timeline, limit) = (*before, *at);
                *none = Some(Recalled { timeline: *next, start: *at, parts: Vec::new() });
                continue;
            }
            (_, ArchivedPart::Gap { timeline, end, .. }) => {
                return Ok(Some(Recalled { timeline: *timeline, start: *end, parts: Vec::new() }));
            }
        };
        let range = Cutter::range_of(lineage, recalled.start);
        let from = Cutter::range_of(lineage, Lsn(range.0.saturating_sub(1)));
        match part {
            ArchivedPart::Gap { .. } => break,
            ArchivedPart::History { timeline: next, before, at } if next == timeline => {
                (timeline, limit) = (before, limit.min(at));
            }
            ArchivedPart::Wal(wal) if wal.timeline == timeline && wal.start < limit => {
                let own = usize::try_from(limit.0 - wal.start.0).unwrap_or(usize::MAX);
                let start = wal.start;
                recalled.parts.push((number, wal, bytes.slice(..own.min(bytes.len()))));
                if start <= from {
                    break;
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
