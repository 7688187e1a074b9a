//! Maintenance of a repository: what it is asked to do, and what it says.
//!
//! A task has room for 64 KiB and a report for 256 KiB, however many snapshots there
//! are: the constants here bound every list.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Failure, Outcome, RetentionSpec};

/// Most snapshots that one maintenance pins, unpins, erases, or is told a time for: four
/// such lists of ids fit a task beside its policies.
pub const MAX_CHANGED_SNAPSHOTS: usize = 100;
/// Most snapshots that one maintenance lets go, and that its report names. The rest goes
/// the next time.
pub const MAX_LET_GO: usize = 1000;
/// Most snapshots that a report names as damaged or missing.
pub const MAX_NAMED_SNAPSHOTS: usize = 50;
/// Most databases that a report names of a damaged snapshot.
pub const MAX_NAMED_OWNERS: usize = 10;

/// Maintain a repository: record pins, let snapshots go, free what nothing uses, check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaintainAction {
    /// The series that schedules stand for. No other one is touched.
    pub series: Vec<SeriesRetention>,
    /// Snapshots that are to be pinned, before anything is let go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pin: Vec<String>,
    /// Snapshots whose pins are to be taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpin: Vec<String>,
    /// Snapshots that are to be let go because somebody said so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erase: Vec<String>,
    /// Snapshots made by hand for which another time is wanted now than when they were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retain: Vec<RetainChange>,
    /// Time between the condemnation of what nothing uses and its deletion, in seconds.
    pub grace_seconds: u64,
    /// The largest share that may go at once, in percent: of the snapshots, and of the bytes.
    pub max_delete_percent: u8,
    /// The digest of a plan that may be carried out though it is larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_plan: Option<String>,
    /// What is checked.
    pub check: CheckShare,
}

/// How long the snapshots of a series are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeriesRetention {
    /// The series: `CLUSTER/NAMESPACE/SCHEDULE`.
    pub series: String,
    /// Its policy; where absent, only what was made by hand goes, when its time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// IANA name of the zone in which days begin.
    pub time_zone: String,
}

/// For how long a snapshot that was made by hand is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetainChange {
    /// The snapshot.
    pub snapshot: String,
    /// In seconds from its slot; for ever where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Which packs' bytes a check reads. The structure is always checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckShare {
    /// The share in percent, 0 to 100.
    pub read_percent: u8,
    /// Another number reads other packs; the day's, for instance.
    pub number: u64,
    /// All packs are read besides that no snapshot needs which was committed before this, by
    /// the storage's clock; none for that where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_since: Option<Timestamp>,
}

/// How maintenance ended. Each part is told whether or not the others succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaintainReport {
    /// `PartiallyFailed` where one part failed and another one has changed something.
    pub outcome: Outcome,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// When it ended.
    pub completion_time: Timestamp,
    /// Snapshots that were pinned; those that had been pinned before are among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<String>,
    /// Snapshots whose pins were taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpinned: Vec<String>,
    /// Snapshots that were let go: in this run, and those of earlier ones whose heads are
    /// still there, so that a report that is lost loses nothing. At most [`MAX_LET_GO`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub let_go: Vec<String>,
    /// How many were let go in this run.
    #[serde(default)]
    pub let_go_count: u64,
    /// How many more the policies let go, which the next run does.
    #[serde(default)]
    pub let_go_later: u64,
    /// Snapshots that are gone though nobody has let them go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The digest of a plan that is larger than allowed, and waits to be approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_plan: Option<String>,
    /// What was deleted, and what waits for that; absent where that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected: Option<CollectedReport>,
    /// Parts of archived logs that were deleted: no base that is kept needs them.
    #[serde(default)]
    pub deleted_log_parts: u64,
    /// Key slots that nobody's key can open, which were removed.
    #[serde(default)]
    pub removed_foreign_slots: u64,
    /// What the check found; absent where it could not be carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckSummary>,
    /// How much the repository holds now; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageReport>,
    /// Why it failed: the gravest reason of all parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CollectedReport {
    /// Packs and tables that were deleted.
    pub deleted_objects: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Packs and tables that nothing uses, and that the next run may delete.
    pub condemned_objects: u64,
    /// Their bytes, as far as they were condemned in this run.
    pub condemned_bytes: u64,
    /// Bytes of packs whose blocks in use were moved to others: later runs free them.
    pub repacked_bytes: u64,
    /// Runs that have to end first.
    pub waits_for: u32,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckSummary {
    /// Packs that snapshots need.
    pub packs: u64,
    /// Packs of these whose bytes were read.
    pub packs_read: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Every snapshot was looked at that was committed before this, by the storage's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// Things that are wrong.
    pub problems: u64,
    /// The first of them, in words.
    pub first_problem: Option<String>,
    /// Snapshots that cannot be restored whole.
    pub damaged_snapshots: u64,
    /// The first of them: at most [`MAX_NAMED_SNAPSHOTS`].
    pub damaged: Vec<DamagedSnapshot>,
}

/// A snapshot that cannot be restored whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DamagedSnapshot {
    /// Its id.
    #[cfg_attr(feature = "schema", schemars(length(max = 128)))]
    pub id: String,
    /// The databases that are damaged in it, at most ten; none are named where all of it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 10), inner(length(max = 256))))]
    pub databases: Vec<String>,
}

/// How much a repository holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageReport {
    /// Snapshots.
    pub snapshot_count: u64,
    /// Bytes of the snapshots as they would be restored.
    pub logical_bytes: u64,
    /// Bytes of the repository's packs and tables.
    pub stored_bytes: u64,
}

impl MaintainReport {
    /// Of an attempt that begins now, and of which nothing is done.
    #[must_use]
    pub fn begun(now: Timestamp) -> Self {
        Self {
            outcome: Outcome::Failed,
            start_time: now,
            completion_time: now,
            pinned: Vec::new(),
            unpinned: Vec::new(),
            let_go: Vec::new(),
            let_go_count: 0,
            let_go_later: 0,
            missing: Vec::new(),
            waiting_plan: None,
            collected: None,
            deleted_log_parts: 0,
            removed_foreign_slots: 0,
            check: None,
            usage: None,
            error: None,
        }
    }

    /// Whether anything was decided or deleted: another attempt would not tell it again.
    #[must_use]
    pub fn has_changed_anything(&self) -> bool {
        let deleted = self.collected.as_ref().map_or(0, |collected| collected.deleted_objects);
        self.let_go_count + deleted + self.deleted_log_parts + self.removed_foreign_slots > 0
            || !self.pinned.is_empty()
            || !self.unpinned.is_empty()
    }
}
