//! What a check finds, and how it is asked to look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use crate::check::Sample;
use crate::{Error, SnapshotId};

/// Names of snapshots and streams that a report lists with its problems, about
/// 10 MB. What is beyond is counted.
pub(super) const LISTED_NAMES: usize = 100_000;
/// Notes that a report lists.
const LISTED_NOTES: usize = 1000;

/// How far a check goes. At every level all configs, key slots, heads, tables,
/// recipes and meta objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckLevel {
    /// Packs are there with the right size.
    Structure,
    /// Packs' footers open, and each recipe lies within its packs' blocks.
    Footers,
    /// Data is read, opened, unpacked and compared with its ids.
    Data,
}

/// How a check is done.
#[derive(Clone)]
pub struct CheckOptions {
    /// How far it goes.
    pub level: CheckLevel,
    /// The packs whose data is read at the level `Data`; of the others, footers.
    pub sample: Sample,
    /// At any level, the data is read of packs, too, that no snapshot needs which was
    /// committed before this, by the store's clock.
    pub new_since: Option<SystemTime>,
    /// What a stream belongs to, a database for instance, by the stream's name.
    pub owner: fn(&str) -> Option<String>,
    /// Is told how far the reading of packs is.
    pub progress: Option<Arc<dyn Fn(CheckProgress) + Send + Sync>>,
    /// Stops the check when cancelled.
    pub cancel: CancellationToken,
}

impl fmt::Debug for CheckOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, sample, new_since, .. } = self;
        f.debug_struct("CheckOptions")
            .field("level", level)
            .field("sample", sample)
            .field("new_since", new_since)
            .finish_non_exhaustive()
    }
}

impl From<CheckLevel> for CheckOptions {
    fn from(level: CheckLevel) -> Self {
        Self {
            level,
            sample: Sample::all(),
            new_since: None,
            owner: |_| None,
            progress: None,
            cancel: CancellationToken::new(),
        }
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// Bytes of packs that were read.
    pub bytes_done: u64,
    /// Bytes of packs that will have been read.
    pub bytes_total: u64,
}

/// Something that is wrong, and what it touches.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub error: Error,
    /// The snapshots that cannot be restored whole because of it. None where it
    /// touches what no snapshot needs, such as a key slot.
    pub touched: Vec<Touched>,
}

/// What a problem touches of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Nothing of it can be restored: its head or its tables cannot be read.
    pub all: bool,
    /// Streams of it that cannot be restored.
    pub streams: Vec<String>,
    /// How many more there are, where the report is too long.
    pub more_streams: u64,
    /// What these streams belong to ([`CheckOptions::owner`]).
    pub owners: BTreeSet<String>,
}

/// What all problems together take of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Nothing of it can be restored.
    pub all: bool,
    /// What the streams belong to that cannot be restored ([`CheckOptions::owner`]).
    pub owners: BTreeSet<String>,
}

/// Something that is no damage, but that somebody may want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub object: String,
    /// What it is.
    pub what: &'static str,
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Packs that they need.
    pub packs: u64,
    /// Packs of these whose data was read.
    pub packs_read: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Key slots that are whole and of this repository.
    pub key_slots: u64,
    /// Configs that are valid.
    pub configs: u64,
    /// Packs and meta objects that no snapshot needs: of runs that are under way
    /// or were given up.
    pub unneeded: u64,
    /// Their bytes.
    pub unneeded_bytes: u64,
    /// What is wrong; nothing if all is well.
    pub problems: Vec<Problem>,
    /// Every snapshot that cannot be restored whole, however long the report is.
    pub losses: BTreeMap<SnapshotId, Loss>,
    /// The report is too long for all snapshots and streams to be listed with each
    /// problem.
    pub is_cut: bool,
    /// What is no damage, the first thousand.
    pub notes: Vec<Note>,
    /// How many more notes there are.
    pub more_notes: u64,
    /// Where the problem of this text is in `problems`.
    by_text: HashMap<String, usize>,
    listed_names: usize,
}

impl CheckReport {
    /// Books a problem, and returns its index: the same one for the same problem.
    pub(super) fn problem(&mut self, error: Error) -> usize {
        let next = self.problems.len();
        let index = *self.by_text.entry(error.to_string()).or_insert(next);
        if index == next {
            self.problems.push(Problem { error, touched: Vec::new() });
        }
        index
    }

    /// Books that a problem touches all of a snapshot.
    pub(super) fn touches_all(&mut self, problem: usize, snapshot: &SnapshotId) {
        self.losses.entry(snapshot.clone()).or_default().all = true;
        if let Some(touched) = self.touched(problem, snapshot) {
            touched.all = true;
        }
    }

    /// Books that a problem touches a stream of a snapshot, and what it belongs to.
    pub(super) fn touches(
        &mut self,
        problem: usize,
        snapshot: &SnapshotId,
        stream: &str,
        owner: Option<String>,
    ) {
        self.losses.entry(snapshot.clone()).or_default().owners.extend(owner.clone());
        let is_full = self.listed_names >= LISTED_NAMES;
        self.listed_names += 1;
        let Some(touched) = self.touched(problem, snapshot) else { return };
        if is_full {
            touched.more_streams += 1;
        } else {
            touched.streams.push(stream.to_owned());
        }
        touched.owners.extend(owner);
    }

    /// Snapshots come one after the other, so that the last one is the present one.
    fn touched(&mut self, problem: usize, snapshot: &SnapshotId) -> Option<&mut Touched> {
        let Problem { touched, .. } = self.problems.get_mut(problem)?;
        if touched.last().is_none_or(|last| last.snapshot != *snapshot) {
            if self.listed_names >= LISTED_NAMES {
                self.is_cut = true;
                return None;
            }
            self.listed_names += 1;
            touched.push(Touched {
                snapshot: snapshot.clone(),
                all: false,
                streams: Vec::new(),
                more_streams: 0,
                owners: BTreeSet::new(),
            });
        }
        touched.last_mut()
    }

    pub(super) fn note(&mut self, object: impl Into<String>, what: &'static str) {
        if self.notes.len() < LISTED_NOTES {
            self.notes.push(Note { object: object.into(), what });
        } else {
            self.more_notes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_too_long_still_names_every_snapshot_and_its_databases() {
        let mut report = CheckReport::default();
        let problem = report.problem(Error::Missing("packs/00/a".into()));
        let id = |n: usize| {
            SnapshotId::parse(&format!("aaaaaaaa-20260101t000000z-aaaaaaaaaaaaaaaa-{n}")).unwrap()
        };
        let (snapshots, streams) = (LISTED_NAMES / 1000 + 2, 1000_u64);
        for snapshot in 0..snapshots {
            assert_eq!(report.problem(Error::Missing("packs/00/a".into())), problem);
            for stream in 0..streams {
                let owner = Some(format!("database {}", stream % 3));
                report.touches(problem, &id(snapshot), &format!("stream {stream}"), owner);
            }
        }
        let [Problem { touched, .. }] = &report.problems[..] else { panic!() };
        let listed: usize = touched.iter().map(|touched| touched.streams.len()).sum();
        assert!(report.is_cut && touched.len() < snapshots && listed <= LISTED_NAMES);
        let of_last = touched.last().unwrap();
        assert_eq!(of_last.streams.len() as u64 + of_last.more_streams, streams);
        assert_eq!(report.losses.len(), snapshots);
        assert!(report.losses.values().all(|loss| loss.owners.len() == 3));
    }
}
