//! Recovering a server to a point in time: what is asked for, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::databases::add_warning;
use crate::{Failure, LogGap, Outcome, ServerReport};

/// A point in a server's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RecoveryPoint {
    /// All that had ended by this time, by the server's clock.
    Time {
        /// The time.
        time: Timestamp,
        /// Whether what ended at that very time is wanted.
        inclusive: bool,
    },
    /// The log before this position; with `inclusive` also the record that begins there.
    Lsn {
        /// Such as `16/B374D848`.
        lsn: String,
        /// Whether the record that begins there is wanted.
        inclusive: bool,
    },
    /// The moment at which this transaction ended.
    Xid {
        /// Its number.
        xid: u32,
        /// Whether its end is wanted.
        inclusive: bool,
    },
    /// A point that somebody has named (`pg_create_restore_point`).
    Name(String),
    /// The moment at which the newest base is consistent.
    Immediate {},
    /// All that was archived.
    Latest {},
}

/// Which timeline is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum RecoveryTimeline {
    /// The newest that comes from the base's.
    #[default]
    Latest,
    /// The base's own.
    Current,
    /// This one.
    Number(u32),
}

/// Recover a server to a point in time: choose a base, put its files and the log into an empty
/// volume, start the server beside, and prove that it has reached the point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverAction {
    /// The request's UID: it marks the volume, so that a retry knows what is its own.
    pub request_uid: String,
    /// The series of bases: `CLUSTER/NAMESPACE/SCHEDULE`.
    pub series: String,
    /// The snapshot that is the base; the newest that leads to the point where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Where to.
    pub point: RecoveryPoint,
    /// Along which timeline.
    #[serde(default)]
    pub timeline: RecoveryTimeline,
    /// Only look for base and point; no volume and no server are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What came of a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoverReport {
    /// How it ended. Of a look: whether the point can be reached.
    pub outcome: Outcome,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// When it ended.
    pub completion_time: Timestamp,
    /// The repository that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// The base that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<RecoveryBase>,
    /// Where the point lies in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_target: Option<ResolvedPoint>,
    /// What could have been asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_window: Option<RecoveryWindow>,
    /// Where the server ended, by its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<ReachedPoint>,
    /// The server that was recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// Bytes that the volume needs for files and log.
    #[serde(default)]
    pub needed_bytes: u64,
    /// Bytes that were written to the volume.
    #[serde(default)]
    pub restored_bytes: u64,
    /// How long its parts took.
    #[serde(default)]
    pub durations: RecoveryDurations,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl RecoverReport {
    /// Of an attempt that has done nothing yet.
    #[must_use]
    pub fn begun(start_time: Timestamp) -> Self {
        Self {
            outcome: Outcome::Failed,
            start_time,
            completion_time: start_time,
            repository_id: None,
            base: None,
            resolved_target: None,
            recovery_window: None,
            reached: None,
            server: None,
            needed_bytes: 0,
            restored_bytes: 0,
            durations: RecoveryDurations::default(),
            warnings: Vec::new(),
            error: None,
        }
    }

    /// Adds a warning, within the bounds of a status.
    pub fn warn(&mut self, warning: impl Into<String>) {
        add_warning(&mut self.warnings, warning.into());
    }
}

/// A base of a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecoveryBase {
    /// The snapshot.
    #[cfg_attr(feature = "schema", schemars(length(max = 128)))]
    pub snapshot_id: String,
    /// The moment at which it is consistent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// A target, as one record of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ResolvedPoint {
    /// Where the last record that is replayed ends.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub lsn: String,
    /// Its timeline.
    pub timeline: u32,
    /// The server's clock at the newest transaction up to there, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// Where a recovered server ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReachedPoint {
    /// The end of the last record that it replayed.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub lsn: String,
    /// The timeline that it is on now: a new one.
    pub timeline: u32,
    /// When the newest transaction ended that it has, by the old server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transaction_time: Option<Timestamp>,
}

/// Between which points a server can be recovered to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RecoveryWindow {
    /// The earliest point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest: Option<Timestamp>,
    /// The latest point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<Timestamp>,
    /// Where log is missing: the newest ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic")))]
    pub gaps: Vec<LogGap>,
    /// How often log is missing.
    pub gap_count: u32,
}

/// How long the parts of a recovery took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RecoveryDurations {
    /// Finding base and point.
    pub planning_milliseconds: u64,
    /// Writing files and log.
    pub restoring_milliseconds: u64,
    /// The server's replay, until it was ready.
    pub recovering_milliseconds: u64,
}
