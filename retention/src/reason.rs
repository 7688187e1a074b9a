//! Why a snapshot is kept or dropped, and how a plan says so.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::Period;

/// What becomes of a snapshot. Prints as `kept: …` or `dropped: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for all of these reasons; there is at least one.
    Keep(Vec<KeepReason>),
    /// It may go.
    Drop(DropReason),
}

/// A reason to keep a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// There is no policy, or one without rules.
    NoRules,
    /// It is pinned.
    Pinned,
    /// Somebody works with it now.
    InUse,
    /// Its run has not ended.
    BeingMade,
    /// It cannot be read: what it is, a repair finds out, not retention.
    Unreadable,
    /// Its time has not come: a clock was wrong.
    InTheFuture,
    /// A person made it and did not say for how long.
    MadeByHand,
    /// A person made it, and wants it until then.
    RetainedUntil(Timestamp),
    /// It is the newest complete snapshot of its series.
    NewestComplete,
    /// It is incomplete, but nothing complete is newer.
    NothingCompleteSince,
    /// It is one of the newest so many.
    Last(u32),
    /// It is at most so much older than the newest complete one.
    Within(Duration),
    /// It is the newest of a period.
    NewestOf(Period),
    /// It is one of the newest so many complete ones, which stay in any case.
    Minimum(u32),
}

/// Why no reason to keep a snapshot was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No rule of the policy keeps it.
    NoRule,
    /// Something is missing in it, and a complete one was made since.
    Incomplete {
        /// Time of the newest complete one.
        complete: Timestamp,
    },
    /// A person wanted it until then.
    RetainForEnded(Timestamp),
}

impl Verdict {
    /// Whether the snapshot stays.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::Keep(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = match self {
            Self::Drop(reason) => return write!(f, "dropped: {reason}"),
            Self::Keep(reasons) => reasons,
        };
        f.write_str("kept")?;
        let mut before = None;
        for reason in reasons {
            f.write_str(if before.is_none() { ": " } else { ", " })?;
            match (before, reason) {
                // `newest of day 2026-11-24, week 2026-W48`
                (Some(KeepReason::NewestOf(_)), KeepReason::NewestOf(period)) => {
                    write!(f, "{period}")?;
                }
                _ => write!(f, "{reason}")?,
            }
            before = Some(*reason);
        }
        Ok(())
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRules => f.write_str("no rules are set"),
            Self::Pinned => f.write_str("pinned"),
            Self::InUse => f.write_str("in use"),
            Self::BeingMade => f.write_str("being made"),
            Self::Unreadable => f.write_str("cannot be read"),
            Self::InTheFuture => f.write_str("its time lies in the future"),
            Self::MadeByHand => f.write_str("made by hand without an end"),
            Self::RetainedUntil(until) => write!(f, "made by hand and wanted until {until}"),
            Self::NewestComplete => f.write_str("newest complete one"),
            Self::NothingCompleteSince => f.write_str("nothing complete is newer"),
            Self::Last(count) => write!(f, "one of the last {count}"),
            Self::Within(window) => match SignedDuration::try_from(*window) {
                Ok(window) => write!(f, "within {window:#} of the newest"),
                Err(_) => f.write_str("within any time of the newest"),
            },
            Self::NewestOf(period) => write!(f, "newest of {period}"),
            Self::Minimum(count) => write!(f, "one of the minimum of {count}"),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule keeps it"),
            Self::Incomplete { complete } => {
                write!(f, "incomplete, and there is a complete one of {complete}")
            }
            Self::RetainForEnded(until) => write!(f, "made by hand and wanted until {until}"),
        }
    }
}
