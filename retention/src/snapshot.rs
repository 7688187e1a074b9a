//! What retention knows of a snapshot, and the snapshots of one series.

use std::collections::BTreeMap;
use std::time::Duration;

use dbbackup_contract::Outcome;
use jiff::Timestamp;

/// A snapshot, as far as retention is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot<'a> {
    /// Its id. Of two with the same time, the one with the greater id counts as newer.
    pub id: &'a str,
    /// The run's slot, or when the run was asked for: the time in the snapshot's name. A
    /// slot at 23:50 stays a backup of its day, however late its Job ran.
    pub time: Timestamp,
    /// What it holds.
    pub state: State,
    /// Why it was made. Where that is not known, say a person: no rule lets it go then.
    pub made_by: MadeBy,
    /// Somebody pinned it.
    pub pinned: bool,
    /// A restore, a copy, a check or a writer that builds on it holds it now.
    pub in_use: bool,
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet: its run goes on, or nobody has found out what became of it.
    BeingMade,
    /// What the run's outcome says. One that a check found damage in is not `Succeeded` any more.
    Ended(Outcome),
    /// Its head cannot be read.
    Unreadable,
}

/// Why a snapshot was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// A slot of the schedule.
    Schedule,
    /// Somebody wanted it now.
    Person {
        /// For how long they want it; for ever, if they did not say.
        retain_for: Option<Duration>,
    },
}

impl From<dbbackup_contract::MadeBy> for MadeBy {
    fn from(made_by: dbbackup_contract::MadeBy) -> Self {
        use dbbackup_contract::MadeBy as Recorded;
        match made_by {
            Recorded::Schedule => Self::Schedule,
            Recorded::Person { retain_for_seconds } => {
                Self::Person { retain_for: retain_for_seconds.map(Duration::from_secs) }
            }
        }
    }
}

/// The snapshots of one series. Those of another one are refused, so that neither can
/// push the other's out.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    name: &'a str,
    snapshots: BTreeMap<&'a str, Snapshot<'a>>,
}

/// Why a snapshot is not taken into a series.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// It belongs to another one.
    #[error("snapshot {id} belongs to the series {found}, not to {expected}")]
    Other {
        /// The snapshot.
        id: String,
        /// Its series.
        found: String,
        /// The series that was asked for.
        expected: String,
    },
    /// Two snapshots, one id.
    #[error("snapshot {0} was listed twice, and not the same both times")]
    Twice(String),
}

impl<'a> Series<'a> {
    /// A series without snapshots yet.
    #[must_use]
    pub fn new(name: &'a str) -> Self {
        Self { name, snapshots: BTreeMap::new() }
    }

    /// Adds a snapshot that says it belongs to `series`. The same one twice is one: a
    /// listing may repeat what changes while it runs.
    ///
    /// # Errors
    /// It belongs to another series, or its id is taken by another snapshot.
    pub fn add(&mut self, series: &str, snapshot: Snapshot<'a>) -> Result<(), SeriesError> {
        if series != self.name {
            return Err(SeriesError::Other {
                id: snapshot.id.to_owned(),
                found: series.to_owned(),
                expected: self.name.to_owned(),
            });
        }
        match self.snapshots.insert(snapshot.id, snapshot) {
            Some(before) if before != snapshot => Err(SeriesError::Twice(snapshot.id.to_owned())),
            _ => Ok(()),
        }
    }

    /// All snapshots, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<Snapshot<'a>> {
        let mut snapshots: Vec<_> = self.snapshots.values().copied().collect();
        snapshots.sort_unstable_by(|a, b| (b.time, b.id).cmp(&(a.time, a.id)));
        snapshots
    }
}

impl Snapshot<'_> {
    /// Whether everything that its run was asked for can be restored.
    pub(crate) fn is_good(&self) -> bool {
        self.state == State::Ended(Outcome::Succeeded)
    }

    /// Whether its run has ended and something, or all, is missing.
    pub(crate) fn is_incomplete(&self) -> bool {
        matches!(self.state, State::Ended(Outcome::PartiallyFailed | Outcome::Failed))
    }

    /// Whether a person made it, and said for how long.
    pub(crate) fn has_an_end(&self) -> bool {
        matches!(self.made_by, MadeBy::Person { retain_for: Some(_) })
    }

    pub(crate) fn is_scheduled(&self) -> bool {
        self.made_by == MadeBy::Schedule
    }
}
