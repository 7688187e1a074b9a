//! What a run says when it has ended. The same report is committed with the
//! snapshot, so that a lost message loses nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CopyReport, Failure, ImportReport, MaintainReport, Progress};

/// Most databases that a report lists; failures come first.
pub const MAX_REPORTED_DATABASES: usize = 100;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Method {
    /// As SQL, by the server's own dump tool.
    Logical,
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

/// How one database ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DatabaseOutcome {
    /// It is not in the snapshot, or was not put in place.
    Failed,
    /// It was left out by the server's own rule (it allows no connections).
    Skipped,
    /// It is done.
    Succeeded,
}

/// Most warnings of a database, or of the globals; where there were more, the last one says so.
pub const MAX_WARNINGS: usize = 8;
/// Longest warning, in bytes.
pub const MAX_WARNING_BYTES: usize = 256;

/// One database of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// Its name.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub name: String,
    /// Its name on the target, where a restore gave it another one.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub as_name: Option<String>,
    /// The name under which a restore has kept the database that it replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub kept_as: Option<String>,
    /// Statements that put the replaced database back in its place, and the restored one aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    pub undo: Option<String>,
    /// How it ended.
    pub outcome: DatabaseOutcome,
    /// Bytes of its dump.
    #[serde(default)]
    pub bytes: u64,
    /// Tables with rows of their own.
    #[serde(default)]
    pub tables: u64,
    /// Rows of these tables.
    #[serde(default)]
    pub rows: u64,
    /// How long it took.
    #[serde(default)]
    pub duration_milliseconds: u64,
    /// What is done, but not as it was on the server: at most [`MAX_WARNINGS`] sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 8), inner(length(max = 256))))]
    pub warnings: Vec<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl DatabaseReport {
    /// Of a database of which nothing else is known yet.
    #[must_use]
    pub fn new(name: impl Into<String>, outcome: DatabaseOutcome) -> Self {
        Self {
            name: name.into(),
            as_name: None,
            kept_as: None,
            undo: None,
            outcome,
            bytes: 0,
            tables: 0,
            rows: 0,
            duration_milliseconds: 0,
            warnings: Vec::new(),
            error: None,
        }
    }

    /// Adds a warning, cut to the length that a status has room for.
    pub fn warn(&mut self, warning: impl Into<String>) {
        add_warning(&mut self.warnings, warning.into());
    }
}

fn add_warning(warnings: &mut Vec<String>, mut warning: String) {
    warning.truncate(warning.floor_char_boundary(MAX_WARNING_BYTES));
    match warnings.len() {
        0..MAX_WARNINGS => warnings.push(warning),
        _ => warnings[MAX_WARNINGS - 1] = "and more; see the run's log".to_owned(),
    }
}

/// How many databases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DatabaseCount {
    /// All that were asked for.
    pub total: u32,
    /// Done.
    pub succeeded: u32,
    /// Not done.
    pub failed: u32,
}

impl DatabaseCount {
    /// Counts `databases`; those left out by the server's rule count nowhere.
    #[must_use]
    pub fn of(databases: &[DatabaseReport]) -> Self {
        let count = |outcome| {
            let matching = databases.iter().filter(|database| database.outcome == outcome).count();
            u32::try_from(matching).unwrap_or(u32::MAX)
        };
        let (succeeded, failed) =
            (count(DatabaseOutcome::Succeeded), count(DatabaseOutcome::Failed));
        Self { total: succeeded.saturating_add(failed), succeeded, failed }
    }

    /// How a run with these databases ended.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match (self.succeeded, self.failed) {
            // A run that did nothing is no success.
            (0, _) => Outcome::Failed,
            (_, 0) => Outcome::Succeeded,
            _ => Outcome::PartiallyFailed,
        }
    }
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
    /// Bytes.
    #[serde(default)]
    pub bytes: ByteCounts,
    /// How many databases.
    #[serde(default)]
    pub database_count: DatabaseCount,
    /// The databases: at most [`MAX_REPORTED_DATABASES`], failures first.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    pub databases: Vec<DatabaseReport>,
    /// What was verified after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationReport>,
    /// Why it failed; the first failed database's reason where some failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What happened to roles and other globals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalsReport {
    /// Roles that were created.
    pub created: u32,
    /// Roles that existed and stayed as they were.
    pub kept: u32,
    /// What the created roles had and could not be given: at most [`MAX_WARNINGS`] sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 8), inner(length(max = 256))))]
    pub warnings: Vec<String>,
}

impl GlobalsReport {
    /// Adds a warning, cut to the length that a status has room for.
    pub fn warn(&mut self, warning: impl Into<String>) {
        add_warning(&mut self.warnings, warning.into());
    }
}

/// How a restore ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The snapshot that was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 128)))]
    pub snapshot_id: Option<String>,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// When it ended.
    pub completion_time: Timestamp,
    /// The server that was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// Bytes that were given to the server.
    #[serde(default)]
    pub restored_bytes: u64,
    /// Roles and other globals; absent where they were skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globals: Option<GlobalsReport>,
    /// How many databases.
    #[serde(default)]
    pub database_count: DatabaseCount,
    /// The databases: at most [`MAX_REPORTED_DATABASES`], failures first.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    pub databases: Vec<DatabaseReport>,
    /// Why it failed.
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

impl BackupReport {
    /// Orders `databases` failures first and keeps at most [`MAX_REPORTED_DATABASES`].
    #[must_use]
    pub fn listed(mut databases: Vec<DatabaseReport>) -> Vec<DatabaseReport> {
        databases.sort_by(|a, b| (a.outcome, &a.name).cmp(&(b.outcome, &b.name)));
        databases.truncate(MAX_REPORTED_DATABASES);
        databases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExitCode, Reason};

    #[test]
    fn a_list_of_databases_is_bounded_and_shows_failures_first() {
        let mut databases: Vec<_> = (0..150)
            .map(|n| DatabaseReport::new(format!("db{n:03}"), DatabaseOutcome::Succeeded))
            .collect();
        databases.push(DatabaseReport::new("zz", DatabaseOutcome::Failed));
        let listed = BackupReport::listed(databases);
        assert_eq!(listed.len(), MAX_REPORTED_DATABASES);
        assert_eq!(listed[0].name, "zz");
    }

    #[test]
    fn warnings_are_bounded_and_say_that_there_were_more() {
        let mut globals = GlobalsReport::default();
        for n in 0..MAX_WARNINGS {
            globals.warn(format!("{n} {}", "é".repeat(MAX_WARNING_BYTES)));
        }
        assert!(globals.warnings.iter().all(|warning| warning.len() <= MAX_WARNING_BYTES));
        assert!(globals.warnings[MAX_WARNINGS - 1].starts_with("7 é"));
        globals.warn("one more");
        assert_eq!(globals.warnings.len(), MAX_WARNINGS);
        assert_eq!(globals.warnings[MAX_WARNINGS - 1], "and more; see the run's log");
    }

    #[test]
    fn counts_decide_the_outcome() {
        use DatabaseOutcome::{Failed, Skipped, Succeeded};
        let of = |outcomes: &[DatabaseOutcome]| {
            let databases: Vec<_> = outcomes.iter().map(|o| DatabaseReport::new("d", *o)).collect();
            DatabaseCount::of(&databases).outcome()
        };
        assert_eq!(of(&[Succeeded, Skipped]), Outcome::Succeeded);
        assert_eq!(of(&[Succeeded, Failed]), Outcome::PartiallyFailed);
        assert_eq!(of(&[Failed, Skipped]), Outcome::Failed);
        assert_eq!(of(&[Skipped]), Outcome::Failed);
    }

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
