//! Where an archive ends, and what of its end has to be read back to go on.

use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use jiff::Timestamp;

use super::LogArchive;
use super::ancestry::Ancestry;
use super::cutter::Cutter;
use super::part::{ArchivedPart, WalPart};
use crate::lsn::Lsn;
use crate::wal::Lineage;

/// Bytes of a page of the log.
const PAGE_BYTES: u64 = 8192;
/// Parts that are read back to find the beginning of the range before the last one: pieces of half a
/// second for a day. Those of timelines that were left do not count.
const MAX_PARTS: usize = 200_000;

/// The end of an archive.
pub(super) struct Tail {
    pub(super) timeline: u32,
    /// What comes next.
    pub(super) start: Lsn,
    pub(super) cutter: Cutter,
    /// Numbers of the first and the last piece of the range that is being filled.
    pub(super) pieces: Option<(u32, u32)>,
    /// Numbers of the first and the last of the quiet parts that it ends with.
    pub(super) quiet: Option<(u32, u32)>,
    /// Up to this time of the server's clock all is there.
    pub(super) kept_time: Option<Timestamp>,
}

/// What was found on the way back.
struct Recalled {
    timeline: u32,
    start: Lsn,
    /// Newest first: the number, what it is, and its bytes up to where they count.
    parts: Vec<(u32, WalPart, Bytes)>,
    /// Of the quiet ones of its timeline, newest first: the first that it replaces, and its number.
    quiet: Vec<(u32, u32)>,
    /// The newest time up to which one of them says that all is there.
    kept_time: Option<Timestamp>,
}

impl Recalled {
    fn at(timeline: u32, start: Lsn) -> Self {
        Self { timeline, start, parts: Vec::new(), quiet: Vec::new(), kept_time: None }
    }

    /// Numbers of the first and the last piece of the range that is being filled. Quiet ones that
    /// came between them, or behind, go with them.
    fn pieces(&self, range: Lsn) -> Option<(u32, u32)> {
        let is_piece = |part: &WalPart| {
            part.timeline == self.timeline && part.start >= range && part.end <= self.start
        };
        let pieces = self.parts.iter().filter(|(_, part, _)| is_piece(part));
        let numbers: Vec<u32> = pieces.map(|(number, ..)| *number).collect();
        let first = numbers.iter().min().copied()?;
        let last = numbers.into_iter().chain(self.quiet.iter().map(|(_, last)| *last)).max()?;
        Some((first, last))
    }
}

impl Tail {
    /// Of a new archive, for a log that is kept from `start` on.
    pub(super) fn of_new(timeline: u32, start: Lsn, lineage: Lineage) -> Self {
        let start = start.floor(lineage.segment_bytes);
        let cutter = Cutter::new(timeline, start, start, lineage);
        Self { timeline, start, cutter, pieces: None, quiet: None, kept_time: None }
    }

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
        let pieces = found.pieces(range);
        let quiet = found.quiet.first().copied().filter(|(_, last)| archive.last() == Some(*last));

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
        cutter.nothing_until(found.kept_time);
        Ok(Some(Self { timeline, start, cutter, pieces, quiet, kept_time: found.kept_time }))
    }
}

/// Looks at the last parts, until the range before the last one begins: a record that ends in the
/// last range may begin there.
async fn walk_back(
    archive: &dyn LogArchive,
    lineage: Lineage,
) -> Result<Option<Recalled>, Failure> {
    let mut found: Option<Recalled> = None;
    // Whose bytes count, up to where.
    let (mut timeline, mut limit) = (0, Lsn::default());
    let mut next = archive.last();
    while let Some(number) = next {
        // What was before it nobody needs any more.
        let Some((about, bytes)) = archive.part(number).await? else { break };
        let part = read(number, about)?;
        next = part.number_before(number);
        let recalled = match (&mut found, &part) {
            (Some(recalled), _) => recalled,
            (none, ArchivedPart::Wal(wal)) => {
                (timeline, limit) = (wal.timeline, wal.end);
                none.insert(Recalled::at(timeline, limit))
            }
            (none, ArchivedPart::Quiet { timeline: own, at, .. }) => {
                (timeline, limit) = (*own, *at);
                none.insert(Recalled::at(timeline, limit))
            }
            (none, ArchivedPart::History { timeline: next, before, at }) => {
                (timeline, limit) = (*before, *at);
                *none = Some(Recalled::at(*next, *at));
                continue;
            }
            (_, ArchivedPart::Gap { timeline, end, .. }) => {
                return Ok(Some(Recalled::at(*timeline, *end)));
            }
        };
        let range = Cutter::range_of(lineage, recalled.start);
        let from = Cutter::range_of(lineage, Lsn(range.0.saturating_sub(1)));
        match part {
            // Else it is of a timeline that was left, or behind the point at which this one was.
            ArchivedPart::Gap { timeline: own, start, .. } if own == timeline && start < limit => {
                break;
            }
            ArchivedPart::History { timeline: next, before, at } if next == timeline => {
                (timeline, limit) = (before, limit.min(at));
            }
            ArchivedPart::Wal(wal) if wal.timeline == timeline && wal.start < limit => {
                let own = usize::try_from(limit.0 - wal.start.0).unwrap_or(usize::MAX);
                let start = wal.start;
                if wal.end <= limit {
                    recalled.kept_time = recalled.kept_time.max(wal.kept_time());
                }
                recalled.parts.push((number, wal, bytes.slice(..own.min(bytes.len()))));
                if start <= from || recalled.parts.len() >= MAX_PARTS {
                    break;
                }
            }
            ArchivedPart::Quiet { timeline: own, at, clock, replaces }
                if own == recalled.timeline && range <= at && at <= recalled.start =>
            {
                recalled.quiet.push((replaces.unwrap_or(number), number));
                recalled.kept_time = recalled.kept_time.max(Some(clock));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The newest of the timelines that a server comes from of which the archive has the log where it was
/// left. Not only those count that the archive's last one comes from: of several recoveries each may
/// begin on the timeline of any before it.
///
/// # Errors
/// As of [`Tail::read`].
pub(super) async fn common_timeline(
    archive: &dyn LogArchive,
    ancestry: &Ancestry,
) -> Result<Option<u32>, Failure> {
    let mut next = archive.last();
    while let Some(number) = next {
        let Some((about, _)) = archive.part(number).await? else { break };
        let part = read(number, about)?;
        next = part.number_before(number);
        let ArchivedPart::Wal(WalPart { timeline, start, end, .. }) = part else { continue };
        let Some(left) = ancestry.end_of(timeline) else { continue };
        // Newer timelines were archived later: the first that fits is the newest.
        if start < left && left <= end {
            return Ok(Some(timeline));
        }
        if end < left && ancestry.oldest() == Some(timeline) {
            break;
        }
    }
    Ok(None)
}

fn read(number: u32, about: serde_json::Value) -> Result<ArchivedPart, Failure> {
    let damaged = |why: String| {
        Failure::new(Reason::RepositoryDamaged, format!("part {number} of the log: {why}"))
    };
    let part: ArchivedPart =
        serde_json::from_value(about).map_err(|error| damaged(error.to_string()))?;
    if part.is_sound() {
        return Ok(part);
    }
    Err(damaged("its positions are none".to_owned()))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::archiver::LogParts;
    use crate::archiver::part::PartFacts;

    const LINEAGE: Lineage = Lineage { system_identifier: 1, segment_bytes: 1 << 20 };

    /// Parts, of which the bytes do not matter.
    struct Parts(Vec<ArchivedPart>);

    #[async_trait]
    impl LogParts for Parts {
        async fn part(&self, number: u32) -> Result<Option<(serde_json::Value, Bytes)>, Failure> {
            let part = &self.0[number as usize];
            let bytes = match part {
                ArchivedPart::Wal(wal) => vec![0; (wal.end.0 - wal.start.0) as usize],
                _ => Vec::new(),
            };
            Ok(Some((serde_json::to_value(part).unwrap(), bytes.into())))
        }
    }

    #[async_trait]
    impl LogArchive for Parts {
        fn last(&self) -> Option<u32> {
            u32::try_from(self.0.len()).unwrap().checked_sub(1)
        }

        async fn append(
            &mut self,
            _: serde_json::Value,
            _: Bytes,
            _: Option<(u32, u32)>,
        ) -> Result<u32, Failure> {
            unreachable!("nothing is kept here")
        }
    }

    fn wal(timeline: u32, start: u64, end: u64) -> ArchivedPart {
        ArchivedPart::Wal(WalPart {
            timeline,
            start: Lsn(start),
            end: Lsn(end),
            segment_bytes: LINEAGE.segment_bytes,
            clock: None,
            replaces: None,
            facts: PartFacts::default(),
        })
    }

    fn history(timeline: u32, before: u32, at: u64) -> ArchivedPart {
        ArchivedPart::History { timeline, before, at: Lsn(at) }
    }

    /// Timeline 2 left 1 at 150, and has a gap.
    fn two_timelines() -> Vec<ArchivedPart> {
        let gap = ArchivedPart::Gap { timeline: 2, start: Lsn(300), end: Lsn(400) };
        vec![
            wal(1, 0, 100),
            wal(1, 100, 200),
            history(2, 1, 150),
            wal(2, 150, 300),
            gap,
            wal(2, 400, 500),
        ]
    }

    #[tokio::test]
    async fn the_timeline_in_common_is_the_newest_that_has_the_log_where_it_was_left() {
        let archive = Parts(two_timelines());
        let common = async |history: &str| {
            common_timeline(&archive, &Ancestry::read(history)).await.unwrap()
        };
        assert_eq!(common("1 0/78").await, Some(1));
        assert_eq!(common("1 0/96\n2 0/1C2").await, Some(2));
        // Where it was left the archive has a gap.
        assert_eq!(common("1 0/96\n2 0/15E").await, Some(1));
        // Behind what the archive has of it.
        assert_eq!(common("1 0/FA").await, None);
        assert_eq!(common("5 0/78").await, None);
        assert_eq!(common("").await, None);
    }

    #[tokio::test]
    async fn what_was_archived_of_a_timeline_that_was_left_is_passed_over_with_its_gaps() {
        let mut parts = two_timelines();
        parts.push(history(3, 1, 120));
        let found = walk_back(&Parts(parts), LINEAGE).await.unwrap().unwrap();
        assert_eq!((found.timeline, found.start), (3, Lsn(120)));
        let own = found.parts.iter().map(|(number, _, bytes)| (*number, bytes.len()));
        assert_eq!(own.collect::<Vec<_>>(), [(1, 20), (0, 100)]);

        let mut parts = two_timelines();
        parts.push(history(4, 2, 450));
        let found = walk_back(&Parts(parts), LINEAGE).await.unwrap().unwrap();
        let own = found.parts.iter().map(|(number, _, bytes)| (*number, bytes.len()));
        assert_eq!(own.collect::<Vec<_>>(), [(5, 50)], "its own gap ends it");
    }
}
