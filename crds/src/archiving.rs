//! Archiving of a server's log by a schedule: what is wanted, and where it stands.

use std::time::Duration;

use dbbackup_contract::Failure;
use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationText, RawReport};

/// The log is replayed on files: it is of no use without them.
pub(crate) const ON_BASES: &str = "!has(self.pointInTimeRecovery) || !self.pointInTimeRecovery.enabled || self.method == 'Physical'";
/// What is told where it is broken.
pub(crate) const ON_BASES_MESSAGE: &str = "pointInTimeRecovery needs method: Physical: the log is replayed on the files of a physical backup, and is of no use without one";
/// Files are those of the whole server.
pub(crate) const WHOLE_SERVER: &str = "self.method != 'Physical' || !has(self.source.postgresql) || !has(self.source.postgresql.databases)";
/// What is told where it is broken.
pub(crate) const WHOLE_SERVER_MESSAGE: &str = "method Physical reads the files of the whole server: leave out source.postgresql.databases, or choose method: Logical for single databases";
/// How short and how long `maxLag` may be. CEL knows no days.
const MAX_LAG: &str = "self == '1d' || (!self.contains('d') && duration(self) >= duration('100ms') && duration(self) <= duration('24h'))";
/// What is told where it is broken.
const MAX_LAG_MESSAGE: &str = "maxLag lies between 100ms and 24h: write 10s, or 1m for fewer and larger objects in the repository";

/// The shortest and the longest `maxLag`, and the one that is meant where none can be read.
const LAGS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_secs(24 * 3600), Duration::from_secs(10)];

/// Recovery to any moment: the server's log is archived as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PointInTimeRecoverySpec {
    /// Whether the log is archived. A Job of this schedule does so from then on, and reads from a replication slot of its own; suspend does not stop it. Where it is switched off, or the schedule is deleted, another Job drops the slot.
    #[serde(default)]
    pub enabled: bool,
    /// How old what is not archived yet may become, 100ms to 24h. A short one makes more objects in the repository, which are merged later.
    #[serde(default = "ten_seconds")]
    #[x_kube(validation = Rule::new(MAX_LAG).message(MAX_LAG_MESSAGE))]
    pub max_lag: DurationText,
}

impl PointInTimeRecoverySpec {
    /// How old what is not archived yet may become, within its bounds: an object may be older
    /// than the schema.
    #[must_use]
    pub fn max_lag(&self) -> Duration {
        let [least, most, default] = LAGS;
        self.max_lag.parse().map_or(default, |lag| lag.clamp(least, most))
    }
}

/// What a Job does about a server's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ArchiverTask {
    /// It archives it.
    #[default]
    Archive,
    /// It drops the slot on the server.
    Retire,
}

/// The Jobs that archive a server's log, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ArchiverStatus {
    /// What the Job does: Archive, or Retire where the slot is dropped.
    pub task: ArchiverTask,
    /// The Job; absent between two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// When it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it was told to end. The next one begins once it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_time: Option<Timestamp>,
    /// How many Jobs were begun.
    pub number: u32,
    /// Digest of what the Job was made from: where that changes another one takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// The Job before jobName. Its log stays for an hour after its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub last_job_name: Option<String>,
    /// How many have ended since the log was archived last.
    pub failures: u32,
    /// Why the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// When the next one begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_time: Option<Timestamp>,
    /// Since when the log is not archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Since when the slot is to be dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retiring_since: Option<Timestamp>,
    /// Gaps in the log that an event has told.
    pub told_gaps: u32,
    /// What the Job said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

fn ten_seconds() -> DurationText {
    DurationText::new("10s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_stays_within_its_bounds_whoever_wrote_it() {
        let lag = |text: &str| {
            let spec = PointInTimeRecoverySpec { enabled: true, max_lag: DurationText::new(text) };
            spec.max_lag().as_millis()
        };
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("1m500ms", 60_500),
            ("1ms", 100),
            ("7d", 86_400_000),
            ("soon", 10_000),
        ] {
            assert_eq!(lag(text), milliseconds, "{text}");
        }
    }
}
