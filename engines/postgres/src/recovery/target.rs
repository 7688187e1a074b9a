//! A point to recover to, as one record of the log.
//!
//! The server's own targets are not exact: a time behind the last commit fails though all is there,
//! an LSN may or may not take the record behind it along, and a log that ends too early reads as a
//! success without one. So each target is looked for in the archive, by the records themselves, and
//! the server is told to stop behind one record: the start of the last one that is wanted, inclusive.

use std::fmt;

use dbbackup_contract::{Failure, Reason};
use jiff::Timestamp;

use super::PlanError;
use super::index::{LogIndex, Stretch, end_within};
use crate::archiver::cutter::Cutter;
use crate::archiver::part::WalPart;
use crate::archiver::{LogParts, bytes_of};
use crate::lsn::Lsn;
use crate::wal::{Fact, Lineage, Record, WalReader, facts_of};

/// Bytes of a page of the log.
const PAGE_BYTES: u64 = 8192;

/// Where to recover to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// All that had ended at this time, or before it.
    Time { time: Timestamp, inclusive: bool },
    /// The records before this position, or the one that begins there as well.
    Position { lsn: Lsn, inclusive: bool },
    /// What was there when this transaction ended, or before it ended.
    Transaction { xid: u32, inclusive: bool },
    /// A restore point.
    Name(String),
    /// All that the archive has.
    Latest,
}

/// The last record that is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StopBehind {
    /// Where it begins: what the server is told, inclusive.
    pub(crate) record: Lsn,
    pub(crate) end: Lsn,
    pub(crate) timeline: u32,
    /// When the newest transaction ended that is replayed, by the server's clock.
    pub(crate) time: Option<Timestamp>,
}

/// Which archive is looked into, from where on.
pub(crate) struct Search<'a> {
    pub(crate) archive: &'a dyn LogParts,
    pub(crate) index: &'a LogIndex,
    /// From the base's timeline to the one that is wanted.
    pub(crate) stretches: &'a [Stretch],
    /// Where the base's log begins, and where it is consistent.
    pub(crate) base_start: Lsn,
    pub(crate) base_end: Lsn,
    /// The server's clock then, or a moment later.
    pub(crate) base_time: Option<Timestamp>,
    pub(crate) lineage: Lineage,
}

/// What a record is to a target.
enum Verdict {
    /// Recovery goes on behind it.
    Before,
    /// It is the last one that is wanted.
    Last,
    /// The one before it is.
    Beyond,
}

/// What was read of a part.
struct Looked {
    found: Option<StopBehind>,
    /// The last record that ends in it.
    last: Option<StopBehind>,
}

impl Search<'_> {
    /// Looks for a target.
    ///
    /// # Errors
    /// `TargetUnreachable`, with the window that can be reached; what the archive says.
    pub(crate) async fn find(&self, target: &Target) -> Result<StopBehind, PlanError> {
        // What ended before the base began is in it, and its time is not known.
        if let Target::Time { time, .. } = target
            && self.base_time.is_some_and(|base| *time < base)
        {
            return Err(too_early(target));
        }
        let parts = self.index.parts_from(self.stretches, self.base_start);
        let mut last: Option<StopBehind> = None;
        let mut clock = None;
        for (at, (_, part)) in parts.iter().enumerate() {
            // What a part says of itself does not hold where the timeline was left within it.
            let is_cut = end_within(self.stretches, part) < part.end;
            let time = last.and_then(|last| last.time);
            if is_cut || target.may_be_in(part) {
                let looked = self.look_into(&parts, at, target, time).await?;
                if let Some(found) = looked.found {
                    return self.consistent(found, target);
                }
                last = looked.last.or(last);
            } else if let Some(record) = part.facts.last_record {
                let time = part.facts.last_time.or(time);
                let (timeline, record, end) = (part.timeline, record.start, record.end);
                last = Some(StopBehind { record, end, timeline, time });
            }
            if !is_cut {
                clock = part.clock.max(clock);
            }
        }
        let end = self.index.end_of(self.stretches, self.base_start);
        match last {
            Some(last) if target.is_all_until(clock, end) => self.consistent(last, target),
            _ if self.is_before_base(target) => Err(too_early(target)),
            _ => Err(PlanError::Other(self.unreachable(target, &parts))),
        }
    }

    /// Reads the records that end in a part. The last record that is wanted, and its end. `time` is
    /// that of the newest transaction before it.
    async fn look_into(
        &self,
        parts: &[(u32, &WalPart)],
        at: usize,
        target: &Target,
        time: Option<Timestamp>,
    ) -> Result<Looked, PlanError> {
        let (_, part) = parts[at];
        // The record that ends first in it may begin far before.
        let range = Cutter::range_of(self.lineage, part.start);
        let from = Cutter::range_of(self.lineage, Lsn(range.0.saturating_sub(1)));
        let first = (0..=at).rev().find(|index| parts[*index].1.start <= from).unwrap_or(0);
        let start = Lsn(parts[first].1.start.0.div_ceil(PAGE_BYTES) * PAGE_BYTES);
        let newest = self.stretches.last().map_or(part.timeline, |stretch| stretch.timeline);
        let mut reader = WalReader::new(start, self.lineage, newest);
        let mut position = start;
        let mut last: Option<StopBehind> = None;
        let mut seen = None;
        for (number, part) in &parts[first..=at] {
            let bytes = bytes_of(self.archive, *number).await?;
            let skip =
                usize::try_from(position.0.saturating_sub(part.start.0)).unwrap_or(usize::MAX);
            let until = end_within(self.stretches, part);
            let end =
                usize::try_from(until.0 - part.start.0).unwrap_or(usize::MAX).min(bytes.len());
            reader.push(bytes.get(skip..end).unwrap_or_default());
            position = position.max(until);
            while let Some(record) = reader.next().map_err(Failure::from)? {
                let facts = facts_of(&record).map_err(Failure::from)?;
                let verdict = target.verdict(&record, &facts);
                if matches!(verdict, Verdict::Beyond) {
                    let found = Some(last.ok_or_else(|| too_early(target))?);
                    return Ok(Looked { found, last });
                }
                seen = end_of_transaction(&facts).map(|(_, time)| time).or(seen);
                let own = StopBehind {
                    record: record.start,
                    end: record.end,
                    timeline: self.timeline_at(record.start),
                    time: seen.or(time),
                };
                last = Some(own);
                if matches!(verdict, Verdict::Last) {
                    return Ok(Looked { found: Some(own), last });
                }
            }
        }
        Ok(Looked { found: None, last })
    }

    fn timeline_at(&self, at: Lsn) -> u32 {
        let own = self.stretches.iter().find(|stretch| stretch.end.is_none_or(|end| at < end));
        own.map_or(1, |stretch| stretch.timeline)
    }

    fn consistent(&self, found: StopBehind, target: &Target) -> Result<StopBehind, PlanError> {
        if found.end >= self.base_end { Ok(found) } else { Err(too_early(target)) }
    }

    /// Whether what is not behind the base's start may be before it, by what the parts say.
    fn is_before_base(&self, target: &Target) -> bool {
        let has_place = matches!(target, Target::Transaction { .. } | Target::Name(_));
        let parts = self.index.parts_before(self.base_start);
        has_place && parts.into_iter().any(|part| target.may_be_in(part))
    }

    fn unreachable(&self, target: &Target, parts: &[(u32, &WalPart)]) -> Failure {
        let end = self.index.end_of(self.stretches, self.base_start);
        let last = parts.iter().rev().find_map(|(_, part)| part.kept_time());
        let time = last.map(|time| format!(", {time}")).unwrap_or_default();
        let message = format!("{target} is not in the archive, which reaches until {end}{time}");
        Failure::new(Reason::TargetUnreachable, message)
    }
}

impl Target {
    /// Whether a part has to be read.
    fn may_be_in(&self, part: &WalPart) -> bool {
        let facts = &part.facts;
        match self {
            Self::Time { time, inclusive: true } => facts.highest_time > Some(*time),
            Self::Time { time, inclusive: false } => facts.highest_time >= Some(*time),
            // The record that begins there may end in a later part.
            Self::Position { lsn, .. } => part.end > *lsn,
            Self::Transaction { xid, .. } => {
                let low = facts.lowest_xid.is_some_and(|low| low <= *xid);
                low && facts.highest_xid.is_some_and(|high| *xid <= high)
            }
            Self::Name(name) => {
                let named = facts.restore_points.iter().any(|point| point.name == *name);
                named || facts.has_more_restore_points
            }
            Self::Latest => false,
        }
    }

    fn verdict(&self, record: &Record, facts: &[Fact]) -> Verdict {
        let last = |is_last: bool| if is_last { Verdict::Last } else { Verdict::Before };
        let ends = end_of_transaction(facts);
        match self {
            Self::Time { time, inclusive } => match ends {
                Some((_, end)) if end > *time || end == *time && !inclusive => Verdict::Beyond,
                _ => Verdict::Before,
            },
            Self::Position { lsn, inclusive: true } => last(record.start >= *lsn),
            Self::Position { lsn, inclusive: false } if record.start >= *lsn => Verdict::Beyond,
            Self::Position { .. } | Self::Latest => Verdict::Before,
            Self::Transaction { xid, inclusive } => match ends {
                Some((own, _)) if own == *xid && *inclusive => Verdict::Last,
                Some((own, _)) if own == *xid => Verdict::Beyond,
                _ => Verdict::Before,
            },
            Self::Name(name) => {
                last(facts.iter().any(
                    |fact| matches!(fact, Fact::RestorePoint { name: own, .. } if own == name),
                ))
            }
        }
    }

    /// Whether all of an archive is meant, which has nothing behind the target: it ends at `end`,
    /// and the server has said at `clock` that it had nothing else.
    fn is_all_until(&self, clock: Option<Timestamp>, end: Lsn) -> bool {
        match self {
            Self::Latest => true,
            Self::Time { time, .. } => clock >= Some(*time),
            Self::Position { lsn, inclusive: false } => *lsn == end,
            Self::Position { .. } | Self::Transaction { .. } | Self::Name(_) => false,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { time, .. } => write!(f, "the time {time}"),
            Self::Position { lsn, .. } => write!(f, "the position {lsn}"),
            Self::Transaction { xid, .. } => write!(f, "the end of transaction {xid}"),
            Self::Name(name) => write!(f, "the restore point {name:?}"),
            Self::Latest => f.write_str("the end"),
        }
    }
}

/// The transaction that a record ends, and when.
fn end_of_transaction(facts: &[Fact]) -> Option<(u32, Timestamp)> {
    facts.iter().find_map(|fact| match fact {
        Fact::End { xid, time, .. } => Some((*xid, *time)),
        _ => None,
    })
}

fn too_early(target: &Target) -> PlanError {
    let message = format!("{target} is before the moment at which the base is consistent");
    let failure = Failure::new(Reason::TargetUnreachable, message);
    PlanError::TooEarly(
        failure.with_hint("Take a later point, or an older base where there is one."),
    )
}
