//! Which backups of databases a repository holds that the cluster does not know.
//!
//! Memory: of each unknown snapshot what is told of it, a few kilobytes, and of these the
//! newest [`MAX_FOUND_SNAPSHOTS`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use dbbackup_contract::{
    BackupReport, Failure, FoundSnapshot, ImportAction, ImportReport, KnownIndex,
    MAX_FOUND_DATABASES, MAX_FOUND_SNAPSHOTS, MAX_REPORTED_DATABASES, Outcome, Reason,
};
use dbbackup_repository::{Listed, Repository, Snapshot, SnapshotId};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Order;
use super::open::named;

/// Looks for what is unknown, or for one snapshot; a failure is in the report. Nothing is
/// written.
pub(crate) async fn look(order: &Order<'_>, action: &ImportAction) -> ImportReport {
    match try_look(order, action).await {
        Ok(report) => report,
        Err(error) => {
            let error = Some(named(error, &order.repository.name));
            ImportReport { error, ..ImportReport::default() }
        }
    }
}

async fn try_look(order: &Order<'_>, action: &ImportAction) -> Result<ImportReport, Failure> {
    let repository = order.open().await?;
    match action {
        ImportAction::Unknown { known } => unknown(order, &repository, &known.index()?).await,
        ImportAction::One { snapshot } => {
            let found = one(order, &repository, snapshot).await?;
            Ok(ImportReport::of(vec![found], 0, 0))
        }
    }
}

async fn unknown(
    order: &Order<'_>,
    repository: &Repository,
    known: &KnownIndex,
) -> Result<ImportReport, Failure> {
    let pinned = order.step(repository.pinned()).await?;
    let mut newest = Newest::default();
    let mut unreadable = 0;
    let see = |listed| match listed {
        Listed::Snapshot(snapshot) if snapshot.written_off().is_none() => {
            newest.extend(found(&snapshot, &pinned, MAX_FOUND_DATABASES));
        }
        Listed::Snapshot(_) | Listed::LetGo(_) => {}
        Listed::Unreadable(id, error) => {
            tracing::warn!(%id, %error, "not imported");
            unreadable += 1;
        }
    };
    let is_known = |id: &SnapshotId| known.has(id.as_str());
    order.step(repository.each_unknown_snapshot(is_known, see)).await?;
    let (found, more) = newest.sorted();
    tracing::info!(found = found.len(), more, unreadable, "looked for unknown snapshots");
    Ok(ImportReport::of(found, more, unreadable))
}

async fn one(
    order: &Order<'_>,
    repository: &Repository,
    id: &str,
) -> Result<FoundSnapshot, Failure> {
    // A prefix may fit another snapshot one day.
    let id = SnapshotId::parse(id)
        .map_err(|error| Failure::new(Reason::SnapshotNotFound, error.to_string()))?;
    let snapshot = order.step(repository.find(id.as_str())).await?;
    if *snapshot.id() != id {
        return Err(Failure::new(Reason::SnapshotNotFound, format!("no snapshot is called {id}")));
    }
    snapshot.must_not_be_written_off()?;
    let pinned = order.step(repository.pinned()).await?;
    found(&snapshot, &pinned, MAX_REPORTED_DATABASES).ok_or_else(|| {
        Failure::new(Reason::InvalidSpec, format!("snapshot {id} is no backup of databases"))
            .with_hint("Read it with: dbbackup-runner fetch.")
    })
}

/// The newest of all that it is shown, and how many there were.
#[derive(Default)]
struct Newest {
    kept: BinaryHeap<Reverse<BySlot>>,
    seen: u64,
}

impl Newest {
    fn extend(&mut self, found: Option<FoundSnapshot>) {
        let Some(found) = found else { return };
        self.seen += 1;
        self.kept.push(Reverse(BySlot(found)));
        if self.kept.len() > MAX_FOUND_SNAPSHOTS {
            self.kept.pop();
        }
    }

    /// The newest first, and how many are left out.
    fn sorted(self) -> (Vec<FoundSnapshot>, u64) {
        let more = self.seen - self.kept.len() as u64;
        let sorted = self.kept.into_sorted_vec();
        (sorted.into_iter().map(|Reverse(BySlot(found))| found).collect(), more)
    }
}

/// In the order of slots, then of ids.
struct BySlot(FoundSnapshot);

impl BySlot {
    fn key(&self) -> (Timestamp, &str) {
        (self.0.slot_time, &self.0.id)
    }
}

impl PartialEq for BySlot {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for BySlot {}

impl PartialOrd for BySlot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BySlot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is told of a snapshot; `None` where it is no backup of databases.
fn found(
    snapshot: &Snapshot,
    pinned: &BTreeSet<SnapshotId>,
    databases: usize,
) -> Option<FoundSnapshot> {
    let about = snapshot.about();
    let report = BackupReport {
        // A copy holds the report of what it is a copy of.
        snapshot_id: Some(snapshot.id().to_string()),
        repository_id: None,
        attempt: about.attempt,
        bytes: about.bytes.clone(),
        ..report_in(snapshot.report(), about.start_time, about.commit_time)?
    };
    let found = FoundSnapshot {
        id: snapshot.id().to_string(),
        series: about.series.clone(),
        run_id: about.run_id.clone(),
        slot_time: about.slot_time,
        pinned: pinned.contains(snapshot.id()),
        report,
    };
    Some(found.bounded(databases))
}

/// The report of a backup, as much of it as can be read: another release may have written
/// it, or nobody who means well. What is no backup of databases has no outcome.
fn report_in(report: &Value, start: Timestamp, end: Timestamp) -> Option<BackupReport> {
    let outcome: Outcome = part(report, "outcome")?;
    if outcome == Outcome::Failed {
        return None;
    }
    let databases = report.get("databases").and_then(Value::as_array);
    let databases = databases.into_iter().flatten().filter_map(read).collect();
    Some(BackupReport {
        outcome,
        snapshot_id: None,
        repository_id: None,
        start_time: part(report, "startTime").unwrap_or(start),
        consistent_time: part(report, "consistentTime"),
        completion_time: part(report, "completionTime").unwrap_or(end),
        attempt: 0,
        method: part(report, "method"),
        server: part(report, "server"),
        position: part(report, "position"),
        log_start: part(report, "logStart"),
        bytes: part(report, "bytes").unwrap_or_default(),
        database_count: part(report, "databaseCount").unwrap_or_default(),
        databases,
        verification: None,
        hooks: Vec::new(),
        error: part(report, "error"),
    })
}

fn part<T: DeserializeOwned>(report: &Value, name: &str) -> Option<T> {
    read(report.get(name)?)
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

#[cfg(test)]
#[path = "found_tests.rs"]
mod tests;
