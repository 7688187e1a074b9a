//! Drills: a server is recovered into scratch storage, started, and asked. What is wanted, and
//! what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Assertion, Failure, Outcome, RecoverAction, RecoverReport, RecoveryPoint};

/// Most assertions of a drill.
pub const MAX_DRILL_ASSERTIONS: usize = 50;
/// Longest message of an assertion's answer, in characters.
pub const MAX_ASSERTION_MESSAGE: usize = 512;

/// Recover a server onto an empty volume, start it once more for nobody but the runner, and ask
/// it. Nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillAction {
    /// What is recovered: to `Latest`, which is all that was archived, or to `Immediate`, which is
    /// the newest base alone.
    pub recovery: RecoverAction,
    /// What the server must answer with true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<Assertion>,
}

impl DrillAction {
    /// Whether the log is replayed, too.
    #[must_use]
    pub fn is_point_in_time(&self) -> bool {
        self.recovery.point == RecoveryPoint::Latest {}
    }
}

/// Whether something held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DrillOutcome {
    /// It did.
    Passed,
    /// It did not.
    Failed,
}

/// What a recovered server answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AssertionReport {
    /// The assertion.
    #[cfg_attr(feature = "schema", schemars(length(max = 63)))]
    pub name: String,
    /// Whether it holds.
    pub outcome: DrillOutcome,
    /// How long the answer took.
    #[serde(default)]
    pub duration_milliseconds: u64,
    /// Why it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 512)))]
    pub message: Option<String>,
}

/// How long the parts of a drill took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DrillDurations {
    /// Finding base and point.
    pub planning_milliseconds: u64,
    /// Writing files and log.
    pub restoring_milliseconds: u64,
    /// The server's replay, and the proof of where it ended.
    pub recovering_milliseconds: u64,
    /// Starting the recovered server, until it took connections.
    pub starting_milliseconds: u64,
    /// Opening each of its databases, and asking the assertions.
    pub asserting_milliseconds: u64,
}

impl DrillDurations {
    /// From the beginning until the recovered server took connections: what a disaster would
    /// have cost, as far as it is this tool's.
    #[must_use]
    pub const fn until_open(&self) -> u64 {
        self.planning_milliseconds
            .saturating_add(self.restoring_milliseconds)
            .saturating_add(self.recovering_milliseconds)
            .saturating_add(self.starting_milliseconds)
    }
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillReport {
    /// How it ended: `Succeeded` where all of it held.
    pub outcome: Outcome,
    /// When it ended.
    pub completion_time: Timestamp,
    /// The recovery: base, point, where the server ended.
    pub recovery: RecoverReport,
    /// How long until the recovered server took connections; absent where it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_milliseconds: Option<u64>,
    /// How old the newest moment was, when the drill began, that it could recover: what would have
    /// been lost then, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_point_milliseconds: Option<u64>,
    /// How long its parts took.
    #[serde(default)]
    pub durations: DrillDurations,
    /// Databases that were opened.
    #[serde(default)]
    pub databases: u32,
    /// What the server answered, in the order of the assertions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<AssertionReport>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl DrillReport {
    /// Of a drill that has done nothing yet.
    #[must_use]
    pub fn begun(start_time: Timestamp) -> Self {
        Self {
            outcome: Outcome::Failed,
            completion_time: start_time,
            recovery: RecoverReport::begun(start_time),
            recovery_milliseconds: None,
            recovery_point_milliseconds: None,
            durations: DrillDurations::default(),
            databases: 0,
            assertions: Vec::new(),
            error: None,
        }
    }
}
