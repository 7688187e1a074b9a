//! What is known of an archive without its bytes: how far it reaches, where it is interrupted, and
//! what of it nobody needs any more.

use std::sync::Arc;

use dbbackup_contract::{Failure, LogGap, LogPosition, Reason};
use jiff::Timestamp;

use super::index::{LogIndex, end_within};
use crate::archiver::part::{ArchivedPart, RANGE_BYTES};
use crate::lsn::Lsn;

/// What a repository knows of a part without its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPartHead {
    /// Its number.
    pub number: u32,
    /// When it was written.
    pub time: Timestamp,
    /// What the archiver says of it.
    pub about: serde_json::Value,
}

/// An archived log, of which the bytes were not read.
#[derive(Clone, Debug)]
pub struct ArchivedLog {
    /// By their numbers.
    parts: Vec<Known>,
    index: Arc<LogIndex>,
}

/// A part that is known.
#[derive(Clone, Debug)]
struct Known {
    number: u32,
    /// When it was written.
    time: Timestamp,
    part: ArchivedPart,
}

impl ArchivedLog {
    /// Reads what the parts of a log say of themselves, without those that others replace.
    ///
    /// # Errors
    /// `RepositoryDamaged` where one of them cannot be.
    pub fn read(heads: Vec<LogPartHead>) -> Result<Self, Failure> {
        let parts: Result<Vec<_>, _> = heads.into_iter().map(Known::read).collect();
        let mut parts = parts?;
        parts.sort_by_key(|known| known.number);
        let all = parts.iter().map(|known| (known.number, known.part.clone()));
        let index = Arc::new(LogIndex::of(all));
        Ok(Self { parts, index })
    }

    /// Up to this time of the server's clock all is there, along the newest timeline. It can be
    /// recovered to from a base behind the last gap.
    #[must_use]
    pub fn kept_time(&self) -> Option<Timestamp> {
        let lineage = self.index.newest_lineage();
        lineage.iter().rev().find_map(|stretch| {
            let parts = self.index.parts_of(stretch.timeline).iter().rev();
            // What a part says of itself does not hold where the timeline was left within it.
            let mut whole = parts.filter(|(_, part)| end_within(&lineage, part) == part.end);
            whole.find_map(|(_, part)| part.kept_time())
        })
    }

    /// Where log is missing, the oldest first.
    #[must_use]
    pub fn gaps(&self) -> Vec<LogGap> {
        let mut gaps = Vec::new();
        let mut after = None;
        for known in &self.parts {
            match &known.part {
                ArchivedPart::Wal(part) => after = part.kept_time().or(after),
                ArchivedPart::Quiet { clock, .. } => after = Some(*clock),
                ArchivedPart::Gap { timeline, start, end } => gaps.push(LogGap {
                    start: start.to_string(),
                    end: end.to_string(),
                    timeline: *timeline,
                    after,
                    time: known.time,
                }),
                ArchivedPart::History { .. } => {}
            }
        }
        gaps
    }

    /// Since when no log is missing: when the first part behind the last gap was written, or the
    /// first part of all. `None` of a log that has nothing.
    #[must_use]
    pub fn unbroken_since(&self) -> Option<Timestamp> {
        let is_gap = |known: &Known| matches!(known.part, ArchivedPart::Gap { .. });
        let gap = self.parts.iter().rposition(is_gap);
        let first = self.parts.get(gap.map_or(0, |gap| gap + 1));
        // Behind a gap the log is received at once: what it found has been said, at least.
        first.or_else(|| self.parts.get(gap?)).map(|known| known.time)
    }

    /// Numbers of parts that none of these bases needs any more: `bases` is where the log begins of
    /// each base of the server that is kept, without exception. All numbers up to the highest of
    /// these may go, those of replaced parts that are still there among them; what has a higher
    /// one stays, since a number that is missing within a log is damage.
    ///
    /// - Bytes are needed by a base where the base comes before them on their timeline, or on one
    ///   that theirs comes from; whole files of the log are. So is what says that nothing happened.
    /// - The history of a timeline is needed as long as there is a base of a lower one: without it
    ///   that base could not be brought forward along it, and a server that is recovered from it
    ///   would take its number for itself. A base of that timeline or of a higher one has its
    ///   history within, and with it all of the timelines before.
    /// - A gap is worth knowing as long as a base is before its end.
    /// - What an archiver reads back to go on stays in any case, and the last part with it.
    ///
    /// Without a base nothing is unneeded, nor where the position of one cannot be read.
    #[must_use]
    pub fn unneeded(&self, bases: &[LogPosition]) -> Vec<u32> {
        let bases: Result<Vec<(u32, Lsn)>, _> =
            bases.iter().map(|base| Ok((base.timeline, base.lsn.parse()?))).collect();
        let Ok::<_, crate::lsn::LsnError>(bases) = bases else { return Vec::new() };
        if bases.is_empty() {
            return Vec::new();
        }
        let tail = self.tail();
        let is_needed = |known: &Known| {
            let is_tail = tail.is_none_or(|tail| known.number >= tail);
            is_tail || bases.iter().any(|base| self.is_needed(&known.part, *base))
        };
        self.parts.iter().take_while(|known| !is_needed(known)).map(|known| known.number).collect()
    }

    fn is_needed(&self, part: &ArchivedPart, (timeline, start): (u32, Lsn)) -> bool {
        let leads_to = |other: u32| self.index.lineage_behind(timeline, start, other).is_some();
        match part {
            ArchivedPart::Wal(part) => {
                leads_to(part.timeline) && part.end > start.floor(part.segment_bytes)
            }
            ArchivedPart::Quiet { timeline, at, .. } => leads_to(*timeline) && *at > start,
            ArchivedPart::Gap { timeline, end, .. } => leads_to(*timeline) && *end > start,
            ArchivedPart::History { timeline: own, .. } => timeline < *own,
        }
    }

    /// The number of the first part that an archiver reads back: those of the last range and of
    /// the one before it, or of as many bytes.
    fn tail(&self) -> Option<u32> {
        let mut bytes = 0;
        let mut first = None;
        for known in self.parts.iter().rev() {
            first = Some(known.number);
            if let ArchivedPart::Wal(part) = &known.part {
                bytes += part.end.0 - part.start.0;
            }
            if bytes >= 2 * RANGE_BYTES {
                break;
            }
        }
        first
    }

    pub(super) fn index(&self) -> &Arc<LogIndex> {
        &self.index
    }
}

impl Known {
    fn read(head: LogPartHead) -> Result<Self, Failure> {
        let LogPartHead { number, time, about } = head;
        let damaged = |why: &str| {
            let message = format!("part {number} of the log: {why}");
            Failure::new(Reason::RepositoryDamaged, message)
        };
        let part: ArchivedPart =
            serde_json::from_value(about).map_err(|error| damaged(&error.to_string()))?;
        if part.is_sound() {
            return Ok(Self { number, time, part });
        }
        Err(damaged("its positions are none"))
    }
}

#[cfg(test)]
#[path = "archived_log_tests.rs"]
mod tests;
