//! What a run says when it has ended. The same report is committed with the
//! snapshot, so that a lost message loses nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ArchiveReport, CopyReport, DatabaseCount, DatabaseReport, DrillReport, Failure, HookReport,
    ImportReport, LogStatus, MaintainReport, NotifyReport, PreflightReport, Progress,
    RecoverReport, RestoreReport, RetireReport,
};

/// One message on the report channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// UID of the task's subject.
    pub subject_uid: String,
    /// What is said.
    #[serde(flatten)]
    pub body: ReportBody,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReportBody {
    /// The run goes on.
    Progress(Progress),
    /// An archiver goes on.
    Log(Box<LogStatus>),
    /// The run has ended.
    Report(Box<Report>),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Report {
    /// Of `Action::Init`.
    Init(InitReport),
    /// Of `Action::Backup`.
    Backup(BackupReport),
    /// Of `Action::Find`.
    Find(FindReport),
    /// Of `Action::Restore`.
    Restore(RestoreReport),
    /// Of `Action::Inspect`.
    Inspect(InspectReport),
    /// Of `Action::Maintain`.
    Maintain(Box<MaintainReport>),
    /// Of `Action::Copy`.
    Copy(CopyReport),
    /// Of `Action::Import`.
    Import(Box<ImportReport>),
    /// Of `Action::Preflight`.
    Preflight(Box<PreflightReport>),
    /// Of `Action::Notify`.
    Notify(NotifyReport),
    /// Of `Action::Archive`.
    Archive(ArchiveReport),
    /// Of `Action::Retire`.
    Retire(RetireReport),
    /// Of `Action::Recover`.
    Recover(Box<RecoverReport>),
    /// Of `Action::Drill`.
    Drill(Box<DrillReport>),
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// All of it is done.
    Succeeded,
    /// Some of it is done, such as some databases; the rest is not.
    PartiallyFailed,
    /// Nothing usable came of it.
    Failed,
}

/// How opening or creating a repository ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct InitReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The repository's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub repository_id: Option<String>,
    /// Whether it was created by this run.
    #[serde(default)]
    pub created: bool,
    /// The keys of the spec, and which of them opens the repository.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub key_slots: Vec<KeySlotReport>,
    /// Ids of the key slots that were removed, since their entries are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub removed_slots: Vec<String>,
    /// Key slots that no entry opens, by name where it is known, else by id; the
    /// first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    pub other_slots: Vec<String>,
    /// Snapshots in the repository.
    #[serde(default)]
    pub snapshot_count: u64,
    /// Bytes of the snapshots as they would be restored.
    #[serde(default)]
    pub logical_bytes: u64,
    /// Bytes of the repository's packs.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// One key of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeySlotReport {
    /// The entry's name in the spec.
    #[cfg_attr(feature = "schema", schemars(length(max = 63)))]
    pub name: String,
    /// Whether it opens the repository.
    pub opened: bool,
    /// Id of the slot that it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub slot: Option<String>,
    /// Whether it got the slot in this run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub added: bool,
}

/// How data was read from the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Method {
    /// As SQL, by the server's own dump tool.
    #[default]
    Logical,
    /// As files, by the replication protocol.
    Physical,
}

/// Which method was used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MethodChoice {
    /// The method.
    pub used: Method,
    /// Why this one.
    #[cfg_attr(feature = "schema", schemars(length(max = 512)))]
    pub reason: String,
}

/// The server that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServerReport {
    /// Its version, `17.11`.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub version: String,
    /// Who it is: PostgreSQL's system identifier.
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub identity: String,
    /// Size of the databases that were asked for, as the server counts it.
    pub size_bytes: u64,
}

/// A place in the server's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogPosition {
    /// PostgreSQL's log sequence number, `0/5A2B1C8`.
    #[cfg_attr(feature = "schema", schemars(length(max = 32)))]
    pub lsn: String,
    /// PostgreSQL's timeline.
    pub timeline: u32,
}

/// Bytes of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ByteCounts {
    /// Read from the server.
    pub read: u64,
    /// Of these, not yet in the repository.
    pub new: u64,
    /// Written to the repository: compressed and encrypted.
    pub stored: u64,
}

/// How far a snapshot was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum VerificationLevel {
    /// The manifest was read back, and every pack that it names is there with the right size.
    Manifest,
}

/// A verification that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct VerificationReport {
    /// How far it went.
    pub level: VerificationLevel,
    /// Whether all was well.
    pub passed: bool,
    /// When.
    pub time: Timestamp,
}

/// How a backup ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BackupReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The snapshot; absent where none was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 128)))]
    pub snapshot_id: Option<String>,
    /// The repository that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 64)))]
    pub repository_id: Option<String>,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// The moment whose state of the data the snapshot holds (of the first database).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_time: Option<Timestamp>,
    /// When it ended.
    pub completion_time: Timestamp,
    /// Attempt of the run, from 0.
    #[serde(default)]
    pub attempt: u32,
    /// Which method was used, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodChoice>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// Position in the server's log at the time of consistency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<LogPosition>,
    /// From where on the server's log is needed to bring a physical backup forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_start: Option<LogPosition>,
    /// Bytes.
    #[serde(default)]
    pub bytes: ByteCounts,
    /// How many databases.
    #[serde(default)]
    pub database_count: DatabaseCount,
    /// The databases: at most 100, failures first.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    pub databases: Vec<DatabaseReport>,
    /// What was verified after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationReport>,
    /// What became of its hooks. The report in the snapshot has those before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookReport>,
    /// Why it failed; the first failed database's reason where some failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// Which snapshot is the newest of a series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FindReport {
    /// The snapshot; absent where none was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Why none was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What the repository knows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// It has committed a snapshot.
    Committed,
    /// It has not, and never will: every attempt is fenced.
    NotCommitted,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectReport {
    /// What the repository knows; absent where it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// The report that was committed with the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupReport>,
    /// Why it could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl Report {
    /// How the task ended. A question succeeds when it has found out.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Init(report) => report.outcome,
            Self::Backup(report) => report.outcome,
            Self::Restore(report) => report.outcome,
            Self::Find(report) if report.snapshot_id.is_some() => Outcome::Succeeded,
            Self::Find(_) => Outcome::Failed,
            Self::Inspect(report) if report.state.is_some() => Outcome::Succeeded,
            Self::Inspect(_) => Outcome::Failed,
            Self::Maintain(report) => report.outcome,
            // A success that names no snapshot is none.
            Self::Copy(report) if report.snapshot_id.is_none() => Outcome::Failed,
            Self::Copy(report) => report.outcome,
            Self::Import(report) if report.error.is_none() => Outcome::Succeeded,
            Self::Import(_) => Outcome::Failed,
            Self::Preflight(report) => report.outcome,
            Self::Notify(report) => report.outcome,
            Self::Archive(report) => report.outcome,
            Self::Retire(report) => report.outcome,
            Self::Recover(report) => report.outcome,
            Self::Drill(report) => report.outcome,
        }
    }

    /// Why the task failed.
    #[must_use]
    pub fn error(&self) -> Option<&Failure> {
        match self {
            Self::Init(report) => report.error.as_ref(),
            Self::Backup(report) => report.error.as_ref(),
            Self::Find(report) => report.error.as_ref(),
            Self::Restore(report) => report.error.as_ref(),
            Self::Inspect(report) => report.error.as_ref(),
            Self::Maintain(report) => report.error.as_ref(),
            Self::Copy(report) => report.error.as_ref(),
            Self::Import(report) => report.error.as_ref(),
            Self::Preflight(report) => report.error.as_ref(),
            Self::Notify(report) => report.error.as_ref(),
            Self::Archive(report) => report.error.as_ref(),
            Self::Retire(report) => report.error.as_ref(),
            Self::Recover(report) => report.error.as_ref(),
            Self::Drill(report) => report.error.as_ref(),
        }
    }

    /// The exit code that tells the Job how the task ended.
    ///
    /// A report that is not a success never exits 0, whether or not it says why.
    #[must_use]
    pub fn exit_code(&self) -> crate::ExitCode {
        use crate::ExitCode;
        match (self.outcome(), self.error()) {
            (Outcome::Succeeded, _) => ExitCode::Success,
            (Outcome::PartiallyFailed, _) => ExitCode::Partial,
            (Outcome::Failed, Some(error)) => match error.exit_code() {
                ExitCode::Success => ExitCode::Internal,
                code => code,
            },
            (Outcome::Failed, None) => ExitCode::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExitCode, Reason};

    #[test]
    fn a_failed_report_never_exits_with_zero() {
        let mut report = InspectReport { state: None, backup: None, error: None };
        assert_eq!(Report::Inspect(report.clone()).exit_code(), ExitCode::Internal);
        report.error = Some(Failure::new(Reason::StorageUnavailable, "x"));
        assert_eq!(Report::Inspect(report).exit_code(), ExitCode::Retryable);
    }

    #[test]
    fn a_message_survives_its_json() {
        let message = Message {
            subject_uid: "u".into(),
            body: ReportBody::Progress(Progress { bytes_done: 3, ..Progress::default() }),
        };
        let json = serde_json::to_string(&message).unwrap();
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
    }
}
