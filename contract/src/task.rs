//! What the operator asks of a runner: one task a Job, as JSON, without secrets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ArchiveAction, AzureAccess, CopyAction, DatabaseSelection, DrillAction, Failure, GcsAccess,
    Hooks, ImportAction, MaintainAction, Method, NotifyAction, PostgresqlAccess, PreflightAction,
    Reason, RecoverAction, RestoreAction, RetireAction, S3Access, SecretFile,
};

/// Version of the task's shape. A runner refuses another one.
pub const TASK_VERSION: u32 = 1;

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// [`TASK_VERSION`] of the writer.
    pub version: u32,
    /// The object that the task is carried out for.
    pub subject: Subject,
    /// Where progress and report go; absent when a person runs a task by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportEndpoint>,
    /// The repository to work with; absent where there is none to do it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryAccess>,
    /// What to do.
    pub action: Action,
    /// No byte for so long is a stall, in seconds.
    pub stall_timeout_seconds: u64,
    /// Threads of the pipeline.
    pub workers: u32,
}

impl Task {
    /// Reads a task.
    ///
    /// # Errors
    /// Says what is wrong with the text or its version.
    pub fn from_json(json: &[u8]) -> Result<Self, TaskError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(json).map_err(TaskError::Malformed)?;
        if version != TASK_VERSION {
            return Err(TaskError::Version(version));
        }
        serde_json::from_slice(json).map_err(TaskError::Malformed)
    }

    /// Where it writes, if it writes anything.
    #[must_use]
    pub fn target(&self) -> Option<&StorageAccess> {
        match &self.action {
            Action::Copy(copy) => Some(&copy.destination.storage),
            _ => self.repository.as_ref().map(|repository| &repository.storage),
        }
    }
}

/// Why a task cannot be read.
#[derive(Debug)]
pub enum TaskError {
    /// Not the JSON of a task.
    Malformed(serde_json::Error),
    /// Written by another release.
    Version(u32),
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "the task cannot be read: {error}"),
            Self::Version(version) => {
                write!(f, "the task has version {version}, this runner reads {TASK_VERSION}")
            }
        }
    }
}

impl std::error::Error for TaskError {}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        Self::new(Reason::TaskInvalid, error.to_string())
    }
}

/// Kinds whose objects have Jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SubjectKind {
    /// Initialising a repository, maintaining it, or importing what it holds.
    BackupRepository,
    /// A look whether its backups would work, the archiving of its server's log, or a drill.
    BackupSchedule,
    /// A backup, the inspection of its outcome, its copies, or the news of its end.
    Backup,
    /// A restore.
    RestoreRequest,
    /// A recovery to a point in time.
    PitrRestore,
}

/// The object that a task is carried out for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// Its kind.
    pub kind: SubjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The report channel of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportEndpoint {
    /// `https://` address, with [`crate::REPORT_PATH`].
    pub url: String,
    /// The CA that signs the channel's certificate (PEM).
    pub ca_pem: String,
}

/// Where a repository is and how to open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RepositoryAccess {
    /// The object's name, for messages.
    pub name: String,
    /// Where it is.
    pub storage: StorageAccess,
    /// How it is encrypted.
    pub encryption: EncryptionAccess,
    /// The id that was pinned; absent before it was opened for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_id: Option<String>,
    /// What may be done with it.
    #[serde(default, skip_serializing_if = "AccessMode::may_write")]
    pub mode: AccessMode,
    /// How fast it may be used.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub bandwidth: Bandwidth,
}

/// What may be done with a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum AccessMode {
    /// Everything.
    #[default]
    ReadWrite,
    /// Nothing is written: no backup, no maintenance, no mark of a restore that reads.
    ReadOnly,
}

impl AccessMode {
    /// Whether anything may be written.
    #[must_use]
    pub const fn may_write(&self) -> bool {
        matches!(self, Self::ReadWrite)
    }
}

/// Bytes a second that may be sent and received; no limit where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bandwidth {
    /// To the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<u64>,
    /// From it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<u64>,
}

impl Bandwidth {
    /// The least that may be said, in bytes a second: a pack of 20 MiB takes three and a
    /// half minutes then, and is not taken for a stall.
    pub const LEAST: u64 = 100_000;

    /// Whether it says nothing.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum StorageAccess {
    /// A folder of a mounted volume.
    Volume {
        /// Absolute path in the pod.
        path: String,
        /// What is mounted there, for messages; absent where a person named the path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        claim: Option<VolumeClaim>,
    },
    /// A place in a bucket.
    S3(Box<S3Access>),
    /// A place in a container of Azure Blob Storage.
    AzureBlob(Box<AzureAccess>),
    /// A place in a bucket of Google Cloud Storage.
    Gcs(Box<GcsAccess>),
}

/// A folder of a PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeClaim {
    /// The claim's name.
    pub name: String,
    /// The folder on it, without slashes around it; empty: its root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

impl StorageAccess {
    /// Whether a network lies before it, as far as anybody can tell: a volume may have one, too.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        !matches!(self, Self::Volume { .. })
    }
}

/// How a repository is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum EncryptionAccess {
    /// Not at all.
    None {},
    /// By a master key that each of these opens.
    Keys(Vec<KeyAccess>),
}

/// One key slot's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyAccess {
    /// The entry's name in the spec.
    pub name: String,
    /// What the file holds.
    pub kind: KeyKind,
    /// The file.
    pub file: SecretFile,
}

/// What a key's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    /// A passphrase, stretched before use.
    Passphrase,
    /// 32 bytes, raw or in base64.
    Key,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// Create or open a repository.
    Init(InitAction),
    /// Make a backup.
    Backup(BackupAction),
    /// Find the newest snapshot of a series.
    Find(FindAction),
    /// Restore databases.
    Restore(RestoreAction),
    /// Look up what became of a run.
    Inspect(InspectAction),
    /// Maintain a repository.
    Maintain(Box<MaintainAction>),
    /// Copy a snapshot to another repository.
    Copy(Box<CopyAction>),
    /// Look for snapshots that the cluster does not know.
    Import(ImportAction),
    /// Look whether a backup would work.
    Preflight(PreflightAction),
    /// Tell somebody how a backup ended. No repository is needed.
    Notify(Box<NotifyAction>),
    /// Archive a server's log.
    Archive(ArchiveAction),
    /// Drop the slot of an archive. No repository is needed.
    Retire(RetireAction),
    /// Recover a server to a point in time.
    Recover(Box<RecoverAction>),
    /// Recover a server into scratch storage, and ask it.
    Drill(Box<DrillAction>),
}

/// Whether a repository may be created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Initialize {
    /// Where the place is empty.
    #[default]
    IfEmpty,
    /// Not at all: what is not a repository is refused.
    Never,
}

/// Create or open a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InitAction {
    /// Whether it may be created.
    pub initialize: Initialize,
    /// Ids of the key slots whose entries are gone from the spec: they are removed
    /// once another entry has opened the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired_slots: Vec<String>,
}

/// What is backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// Databases of a PostgreSQL server.
    Postgresql {
        /// The server.
        access: PostgresqlAccess,
        /// Its databases.
        #[serde(default)]
        databases: DatabaseSelection,
    },
}

/// Whose run it is; kept in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Origin {
    /// The cluster: UID of its namespace `kube-system`.
    pub cluster: String,
    /// Namespace of the objects.
    pub namespace: String,
    /// Name of the `Backup`.
    pub backup: String,
    /// Name of the schedule, if one stands behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// Why a backup was made: retention treats the two differently. Kept in the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MadeBy {
    /// A slot of a schedule: the policy of the series counts it.
    Schedule,
    /// Somebody wanted it now.
    Person {
        /// For how long they want it, in seconds from its slot; for ever where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retain_for_seconds: Option<u64>,
    },
}

impl Default for MadeBy {
    /// Where it is not known: no rule lets it go then.
    fn default() -> Self {
        Self::Person { retain_for_seconds: None }
    }
}

/// Make a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupAction {
    /// Snapshots of one series share chunks and retention:
    /// `CLUSTER/NAMESPACE/SCHEDULE`.
    pub series: String,
    /// The run: the `Backup`'s UID. A retry has the same.
    pub run_id: String,
    /// The slot, or the object's creation: part of the snapshot's name, the same in a retry.
    pub slot_time: Timestamp,
    /// Whose run it is.
    pub origin: Origin,
    /// Why it is made.
    pub made_by: MadeBy,
    /// What is backed up.
    pub source: Source,
    /// How it is read.
    #[serde(default)]
    pub method: Method,
    /// What the server carries out before and after.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

/// Find the newest snapshot of a series that holds what is asked for, before
/// anything is made from it: each attempt of a restore takes the same one then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FindAction {
    /// The series.
    pub series: String,
    /// Its slot lies before this time, if said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// It holds these databases, if any does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
}

/// Look up what became of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InspectAction {
    /// The run's series.
    pub series: String,
    /// The run.
    pub run_id: String,
    /// The run's slot, which its snapshot's name holds.
    pub slot_time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init_task() -> Task {
        Task {
            version: TASK_VERSION,
            subject: Subject {
                kind: SubjectKind::BackupRepository,
                namespace: "shop".into(),
                name: "main".into(),
                uid: "u1".into(),
            },
            report: None,
            repository: Some(RepositoryAccess {
                name: "main".into(),
                storage: StorageAccess::Volume { path: "/repository".into(), claim: None },
                encryption: EncryptionAccess::None {},
                expected_id: None,
                mode: AccessMode::ReadWrite,
                bandwidth: Bandwidth::default(),
            }),
            action: Action::Init(InitAction {
                initialize: Initialize::IfEmpty,
                retired_slots: Vec::new(),
            }),
            stall_timeout_seconds: 900,
            workers: 2,
        }
    }

    #[test]
    fn a_task_survives_its_json() {
        let task = init_task();
        let json = serde_json::to_vec(&task).unwrap();
        assert_eq!(Task::from_json(&json).unwrap(), task);
    }

    #[test]
    fn a_task_of_another_version_is_refused_by_its_version_even_if_its_shape_is_new() {
        let json = br#"{"version": 7, "somethingNew": true}"#;
        let error = Task::from_json(json).unwrap_err();
        assert!(matches!(error, TaskError::Version(7)), "{error}");
        assert_eq!(Failure::from(error).reason, Reason::TaskInvalid);
    }

    #[test]
    fn an_unknown_field_is_refused_rather_than_ignored() {
        let mut value = serde_json::to_value(init_task()).unwrap();
        value["action"]["init"]["dropEverything"] = true.into();
        let error = Task::from_json(value.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("dropEverything"), "{error}");
    }
}
