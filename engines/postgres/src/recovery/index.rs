//! What an archive has, by timelines: which bytes, where it is interrupted, and which timeline
//! came from which.

use std::collections::BTreeMap;

use crate::archiver::part::{ArchivedPart, WalPart};
use crate::lsn::Lsn;

/// Parts of an archive, in the order of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogIndex {
    /// Of each timeline its parts, by their beginnings; of what is there twice the longer one.
    timelines: BTreeMap<u32, Vec<(u32, WalPart)>>,
    /// Which timeline each came from, and where.
    parents: BTreeMap<u32, (u32, Lsn)>,
    /// Numbers of the parts that have their histories.
    histories: BTreeMap<u32, u32>,
}

/// A stretch of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) timeline: u32,
    pub(crate) start: Lsn,
    /// Where the next timeline of the lineage begins; `None` of the last one.
    pub(crate) end: Option<Lsn>,
}

impl LogIndex {
    /// Of parts with their numbers.
    pub(crate) fn of(parts: impl IntoIterator<Item = (u32, ArchivedPart)>) -> Self {
        let mut index = Self::default();
        for (number, part) in parts {
            match part {
                ArchivedPart::Wal(part) => {
                    index.timelines.entry(part.timeline).or_default().push((number, part));
                }
                ArchivedPart::History { timeline, before, at } => {
                    index.parents.insert(timeline, (before, at));
                    index.histories.insert(timeline, number);
                    index.timelines.entry(timeline).or_default();
                }
                // It is seen by the bytes that are not there.
                ArchivedPart::Gap { .. } => {}
            }
        }
        for parts in index.timelines.values_mut() {
            parts.sort_by_key(|(_, part)| (part.start, std::cmp::Reverse(part.end)));
            let mut until = Lsn::default();
            // A piece within what a longer part has, too.
            parts.retain(|(_, part)| {
                let is_new = part.end > until;
                until = until.max(part.end);
                is_new
            });
        }
        index
    }

    /// Timelines with the numbers of the parts that have their histories.
    pub(crate) fn histories(&self) -> impl Iterator<Item = (u32, u32)> {
        self.histories.iter().map(|(timeline, number)| (*timeline, *number))
    }

    /// The newest timeline that comes from `timeline`, which may be itself.
    pub(crate) fn newest_from(&self, timeline: u32) -> u32 {
        let comes = |newer: &u32| self.lineage(timeline, *newer).is_some();
        self.timelines.keys().rev().copied().find(comes).unwrap_or(timeline)
    }

    /// How one gets from a timeline to another: the stretches of both and of those between.
    /// `None` where `to` does not come from `from`.
    pub(crate) fn lineage(&self, from: u32, to: u32) -> Option<Vec<Stretch>> {
        let mut stretches = Vec::new();
        let (mut timeline, mut end) = (to, None);
        while timeline != from {
            let (before, at) = *self.parents.get(&timeline)?;
            // A timeline has a higher number than the one it came from: this ends.
            if before >= timeline {
                return None;
            }
            stretches.push(Stretch { timeline, start: at, end });
            (timeline, end) = (before, Some(at));
        }
        stretches.push(Stretch { timeline, start: Lsn::default(), end });
        stretches.reverse();
        Some(stretches)
    }

    /// Parts along a lineage from a position on, without interruption: the log that can be
    /// replayed from there.
    pub(crate) fn parts_from(&self, lineage: &[Stretch], start: Lsn) -> Vec<(u32, &WalPart)> {
        let mut position = start;
        let mut found = Vec::new();
        for stretch in lineage {
            let end = stretch.end.unwrap_or(Lsn(u64::MAX));
            for (number, part) in self.timelines.get(&stretch.timeline).into_iter().flatten() {
                let is_next = part.start <= position && position < part.end && part.start < end;
                if is_next && position < end {
                    found.push((*number, part));
                    position = part.end.min(end);
                }
            }
            if position < end && stretch.end.is_some() {
                break;
            }
        }
        found
    }

    /// Up to where the log can be replayed from a position on.
    pub(crate) fn end_of(&self, lineage: &[Stretch], start: Lsn) -> Lsn {
        let parts = self.parts_from(lineage, start);
        parts.last().map_or(start, |(_, part)| end_within(lineage, part))
    }
}

/// Where a part ends within a lineage: at the latest where the next timeline begins.
pub(crate) fn end_within(lineage: &[Stretch], part: &WalPart) -> Lsn {
    let own = lineage.iter().find(|stretch| stretch.timeline == part.timeline);
    own.and_then(|stretch| stretch.end).map_or(part.end, |end| part.end.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archiver::part::PartFacts;

    fn wal(timeline: u32, start: u64, end: u64) -> ArchivedPart {
        ArchivedPart::Wal(WalPart {
            timeline,
            start: Lsn(start),
            end: Lsn(end),
            segment_bytes: 100,
            clock: None,
            facts: PartFacts::default(),
        })
    }

    fn index(parts: Vec<ArchivedPart>) -> LogIndex {
        LogIndex::of((0..).zip(parts))
    }

    fn numbers(index: &LogIndex, lineage: (u32, u32), start: u64) -> Vec<u32> {
        let lineage = index.lineage(lineage.0, lineage.1).unwrap();
        index.parts_from(&lineage, Lsn(start)).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn a_piece_that_a_longer_part_has_too_is_passed_over_and_a_gap_ends_it() {
        let index = index(vec![
            wal(1, 0, 10),
            wal(1, 10, 30),
            wal(1, 0, 100),
            wal(1, 100, 120),
            ArchivedPart::Gap { timeline: 1, start: Lsn(120), end: Lsn(200) },
            wal(1, 200, 300),
        ]);
        assert_eq!(numbers(&index, (1, 1), 5), [2, 3]);
        assert_eq!(numbers(&index, (1, 1), 250), [5]);
        assert_eq!(numbers(&index, (1, 1), 150), [0; 0]);
        let lineage = index.lineage(1, 1).unwrap();
        assert_eq!(index.end_of(&lineage, Lsn(5)), Lsn(120));
        assert_eq!(index.end_of(&lineage, Lsn(150)), Lsn(150));
    }

    #[test]
    fn a_lineage_leaves_a_timeline_where_the_next_one_begins() {
        let history =
            |timeline, before, at| ArchivedPart::History { timeline, before, at: Lsn(at) };
        let index = index(vec![
            wal(1, 0, 100),
            wal(1, 100, 150),
            history(2, 1, 120),
            wal(2, 120, 200),
            history(3, 1, 50),
            wal(3, 50, 100),
        ]);
        assert_eq!(numbers(&index, (1, 2), 10), [0, 1, 3]);
        assert_eq!(numbers(&index, (1, 1), 10), [0, 1]);
        assert_eq!(numbers(&index, (1, 3), 10), [0, 5]);
        assert_eq!(numbers(&index, (2, 2), 130), [3]);
        assert_eq!((index.lineage(2, 3), index.newest_from(2), index.newest_from(1)), (None, 2, 3));
        let end = |to| index.end_of(&index.lineage(1, to).unwrap(), Lsn(10));
        assert_eq!([end(1), end(2), end(3)], [Lsn(150), Lsn(200), Lsn(100)]);
    }
}
