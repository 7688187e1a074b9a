//! Archiving a server's log: what is asked for, and what the archiver says while it works.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Failure, Outcome, PostgresqlAccess};

/// Archive a server's log until somebody stops it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveAction {
    /// The series that its bases belong to: `CLUSTER/NAMESPACE/SCHEDULE`.
    pub series: String,
    /// The server, by an address that leads to the primary.
    pub server: PostgresqlAccess,
    /// How old what is not kept yet may become, in milliseconds.
    pub max_lag_milliseconds: u64,
}

/// Drop the slot of an archive that is not kept any more, so that the server forgets its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetireAction {
    /// The series.
    pub series: String,
    /// The server.
    pub server: PostgresqlAccess,
}

/// How an archiver ended. One that was told to stop has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveReport {
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub completion_time: Timestamp,
    /// Why it cannot go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What became of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetireReport {
    /// Whether it is gone.
    pub outcome: Outcome,
    /// When.
    pub completion_time: Timestamp,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What an archiver does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ArchiverState {
    /// It opens the repository or connects to the server.
    #[default]
    Connecting,
    /// It receives the log, and keeps it.
    Streaming,
    /// It failed in a way that may pass, and tries again.
    Waiting,
}

/// How a server's log is archived, as the archiver says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LogStatus {
    /// What the archiver does. Connecting: it opens repository and server. Streaming: it archives. Waiting: something failed that may pass, see error.
    pub state: ArchiverState,
    /// When the archiver said all this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The server: PostgreSQL's system identifier. Until the archiver names it, it does not know what
    /// its log has from before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub server: Option<String>,
    /// Its replication slot on the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub slot: Option<String>,
    /// The timeline that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// Up to this position of the log all is in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub position: Option<String>,
    /// Bytes of the log that the server has written and that are not in the repository yet.
    #[cfg_attr(feature = "schema", schemars(range(min = 0)))]
    pub behind_bytes: u64,
    /// Up to this time of the server's clock all is in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_time: Option<Timestamp>,
    /// Since when no log is missing: bases from before lead no further than to the gap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unbroken_since: Option<Timestamp>,
    /// Where log is missing: the newest ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic")))]
    pub gaps: Vec<LogGap>,
    /// How often log is missing.
    pub gap_count: u32,
    /// Why the archiver does not archive now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl LogStatus {
    /// The status of an archiver that has just begun, with what the one before it had said: until it
    /// names the server it has not read what its log has.
    #[must_use]
    pub fn going_on_from(self, before: &Self) -> Self {
        if self.server.is_some() || self.slot != before.slot {
            return self;
        }
        Self {
            server: before.server.clone(),
            timeline: self.timeline.or(before.timeline),
            position: self.position.or_else(|| before.position.clone()),
            kept_time: self.kept_time.max(before.kept_time),
            unbroken_since: before.unbroken_since,
            gaps: before.gaps.clone(),
            gap_count: before.gap_count,
            ..self
        }
    }
}

/// Where log is missing: the server had it no longer when the archiver came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogGap {
    /// From here on.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub start: String,
    /// Up to here.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub end: String,
    /// The timeline.
    pub timeline: u32,
    /// The newest time from before that can be recovered to, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Timestamp>,
    /// When it was found.
    pub time: Timestamp,
}

/// Most gaps that a status names.
pub const MAX_LISTED_GAPS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_an_archiver_knows_its_log_what_was_told_before_stands() {
        let slot = Some("dbbackup_1".to_owned());
        let before = LogStatus {
            slot: slot.clone(),
            server: Some("7".to_owned()),
            position: Some("0/5000000".to_owned()),
            gap_count: 2,
            ..LogStatus::default()
        };
        let begun = LogStatus { slot, ..LogStatus::default() };
        let both = begun.clone().going_on_from(&before);
        assert_eq!(both, LogStatus { state: ArchiverState::Connecting, ..before.clone() });
        let known = LogStatus { server: Some("7".to_owned()), ..begun.clone() };
        assert_eq!(known.clone().going_on_from(&before), known);
        let other = LogStatus { slot: Some("dbbackup_2".to_owned()), ..begun };
        assert_eq!(other.clone().going_on_from(&before), other);
    }
}
