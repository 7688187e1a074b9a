//! What an archive has, by timelines: which bytes, where it is interrupted, and which timeline
//! came from which.

use std::collections::BTreeMap;

use jiff::Timestamp;

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
        let mut quiet = Vec::new();
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
                ArchivedPart::Quiet { timeline, at, clock, .. } => {
                    quiet.push((timeline, at, clock));
                }
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
        for (timeline, at, clock) in quiet {
            index.nothing_behind(timeline, at, clock);
        }
        index
    }

    /// A part that ends where nothing happened until `clock`. Where the log has gone on, and its pieces
    /// were put together, there is none: what came behind says it, too.
    fn nothing_behind(&mut self, timeline: u32, at: Lsn, clock: Timestamp) {
        let Some(parts) = self.timelines.get_mut(&timeline) else { return };
        if let Ok(found) = parts.binary_search_by_key(&at, |(_, part)| part.end) {
            let part = &mut parts[found].1;
            part.clock = part.clock.max(Some(clock));
        }
    }

    /// Timelines with the numbers of the parts that have their histories.
    pub(crate) fn histories(&self) -> impl Iterator<Item = (u32, u32)> {
        self.histories.iter().map(|(timeline, number)| (*timeline, *number))
    }

    /// The newest timeline of all: what the server has gone on with.
    pub(crate) fn newest(&self) -> Option<u32> {
        self.timelines.keys().next_back().copied()
    }

    /// Whether anything of a timeline is there.
    pub(crate) fn knows(&self, timeline: u32) -> bool {
        self.timelines.contains_key(&timeline)
    }

    /// The newest timeline of all, with those that it comes from, as far as they are known.
    pub(crate) fn newest_lineage(&self) -> Vec<Stretch> {
        self.newest().map(|newest| self.ancestry(newest)).unwrap_or_default()
    }

    /// How one gets from a timeline to another: the stretches of both and of those between.
    /// `None` where `to` does not come from `from`.
    pub(crate) fn lineage(&self, from: u32, to: u32) -> Option<Vec<Stretch>> {
        let mut stretches = self.ancestry(to);
        let first = stretches.iter().position(|stretch| stretch.timeline == from)?;
        stretches.drain(..first);
        stretches[0].start = Lsn::default();
        Some(stretches)
    }

    /// The same for what stands at `at` on `from`: `None` also where `from` was left before that.
    pub(crate) fn lineage_behind(&self, from: u32, at: Lsn, to: u32) -> Option<Vec<Stretch>> {
        let lineage = self.lineage(from, to)?;
        lineage[0].end.is_none_or(|end| at <= end).then_some(lineage)
    }

    /// All timelines that one comes from, the oldest that is known first, and itself.
    fn ancestry(&self, of: u32) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let (mut timeline, mut end) = (of, None);
        // A timeline has a higher number than the one it came from: this ends.
        while let Some((before, at)) =
            self.parents.get(&timeline).filter(|(before, _)| *before < timeline)
        {
            stretches.push(Stretch { timeline, start: *at, end });
            (timeline, end) = (*before, Some(*at));
        }
        stretches.push(Stretch { timeline, start: Lsn::default(), end });
        stretches.reverse();
        stretches
    }

    /// Parts of a timeline, in the order of the log.
    pub(crate) fn parts_of(&self, timeline: u32) -> &[(u32, WalPart)] {
        self.timelines.get(&timeline).map_or(&[], Vec::as_slice)
    }

    /// Parts along a lineage from a position on, without interruption: the log that can be
    /// replayed from there.
    pub(crate) fn parts_from(&self, lineage: &[Stretch], start: Lsn) -> Vec<(u32, &WalPart)> {
        self.parts_between(lineage, start, Lsn(u64::MAX))
    }

    /// The same, until all before `limit` is there.
    pub(crate) fn parts_between(
        &self,
        lineage: &[Stretch],
        start: Lsn,
        limit: Lsn,
    ) -> Vec<(u32, &WalPart)> {
        let mut position = start;
        let mut found = Vec::new();
        for stretch in lineage {
            let end = stretch.end.unwrap_or(Lsn(u64::MAX));
            let parts = self.parts_of(stretch.timeline);
            // Each ends behind the one before it.
            let first = parts.partition_point(|(_, part)| part.end <= position);
            for (number, part) in &parts[first..] {
                let is_next = part.start <= position && position < part.end;
                if !is_next || position >= end.min(limit) {
                    break;
                }
                found.push((*number, part));
                position = part.end.min(end);
            }
            if position < end {
                break;
            }
        }
        found
    }

    /// Parts of all timelines that end before a position.
    pub(crate) fn parts_before(&self, at: Lsn) -> impl Iterator<Item = &WalPart> {
        let parts = self.timelines.values().flatten().map(|(_, part)| part);
        parts.filter(move |part| part.end <= at)
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
            replaces: None,
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
        assert_eq!(index.lineage(2, 3), None);
        let leads = |from, at, to| index.lineage_behind(from, Lsn(at), to).is_some();
        assert_eq!((index.newest(), index.knows(2), index.knows(4)), (Some(3), true, false));
        assert_eq!([leads(1, 10, 3), leads(1, 60, 3), leads(1, 60, 2)], [true, false, true]);
        let end = |to| index.end_of(&index.lineage(1, to).unwrap(), Lsn(10));
        assert_eq!([end(1), end(2), end(3)], [Lsn(150), Lsn(200), Lsn(100)]);
    }
}
