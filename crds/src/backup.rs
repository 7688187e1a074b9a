//! `Backup`: one run.

use dbbackup_contract::{
    ByteCounts, DatabaseCount, DatabaseReport, Failure, HookReport, LogPosition, Method,
    MethodChoice, Progress, ServerReport, VerificationReport,
};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Condition, CopyStatus, DurationText, HooksSpec, ImportedSpec, JobSpec, LocalRef,
    NotificationStatus, RawReport, SourceSpec, TemplateCopy, archiving, copies,
};

/// One run: what is backed up.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dbbackup.dev",
    version = "v1alpha1",
    kind = "Backup",
    plural = "backups",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    shortname = "dbb",
    category = "dbbackup",
    doc = "One backup: made by a BackupSchedule or by a person, or found in a repository. Deleting the object stops its Job if it still runs; it never deletes data from the repository.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.display",
        description = "Is it fine?"
    ),
    printcolumn(
        name = "Snapshot",
        type_ = "string",
        json_path = ".status.snapshotId",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("!has(self.spec.erase) || (has(self.status) && has(self.status.snapshotId) && self.status.snapshotId == self.spec.erase.confirm)").message("erase.confirm repeats the snapshot that is erased, as status.snapshotId has it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.scheduleRef), has(self.template), has(self.imported)].filter(x, x).size() == 1").message("say exactly one of scheduleRef (what that schedule backs up, now), template (a source and a repository) and imported (a snapshot that is in a repository)"),
    validation = Rule::new("has(self.scheduleRef) == has(oldSelf.scheduleRef) && has(self.template) == has(oldSelf.template) && has(self.imported) == has(oldSelf.imported) && (!has(self.scheduleRef) || self.scheduleRef == oldSelf.scheduleRef) && (!has(self.template) || self.template == oldSelf.template) && (!has(self.imported) || self.imported == oldSelf.imported)").message("a Backup is one run, or one snapshot: what it backs up or imports cannot be changed; create another one"),
    validation = Rule::new("!has(self.erase) || !has(self.pinned) || !self.pinned").message("a pinned backup cannot be erased: set pinned to false"),
    validation = Rule::new("!has(oldSelf.erase) || has(self.erase)").message("what is to be erased cannot be taken back")
)]
pub struct BackupSpec {
    /// The schedule whose source and repository are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_ref: Option<LocalRef>,
    /// Source and repository, without a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<BackupTemplate>>,
    /// A snapshot that is in a repository already: nothing is backed up. The operator creates such objects itself for what it finds (import of the BackupRepository).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportedSpec>,
    /// A pinned backup is kept whatever the retention says. It takes effect before the next maintenance of the repository lets anything go.
    #[serde(default)]
    pub pinned: bool,
    /// How long a backup that a person made is kept, from its creation, such as 30d; left out, for ever. Those that a schedule made follow its retention. An imported one is let go so long after the time that it was made for; left out, it stays as it was meant when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_for: Option<DurationText>,
    /// Lets the backup's snapshot go for good at the next maintenance of the repository. Deleting the object does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase: Option<EraseSpec>,
}

/// Lets a snapshot go for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EraseSpec {
    /// The snapshot's id, as status.snapshotId has it.
    #[schemars(length(min = 1, max = 128))]
    pub confirm: String,
}

/// Source and repository of a backup without a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(copies::ELSEWHERE).message(copies::ELSEWHERE_MESSAGE),
    validation = Rule::new(copies::APART).message(copies::APART_MESSAGE),
    validation = Rule::new(archiving::WHOLE_SERVER).message(archiving::WHOLE_SERVER_MESSAGE)
)]
pub struct BackupTemplate {
    /// The BackupRepository that the backup goes to.
    pub repository_ref: LocalRef,
    /// Second places: once the backup has ended it is copied there, without reading the server again. A copy is kept until the backup is erased.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub copies: Vec<TemplateCopy>,
    /// The server that is backed up.
    pub source: SourceSpec,
    /// How the server is read. Logical: as SQL, database by database. Physical: all of its files, by the replication protocol; the role needs REPLICATION.
    #[serde(default)]
    pub method: Method,
    /// SQL that the server carries out before the backup and after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksSpec>,
    /// How the Job runs.
    #[serde(default)]
    pub job: JobSpec,
}

/// Where a run stands. A terminal phase never returns to `Running`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BackupPhase {
    /// It waits, for its repository for instance.
    #[default]
    Pending,
    /// Its Job runs, or the repository is being asked what became of it.
    Running,
    /// It can be restored.
    Succeeded,
    /// Some databases can be restored, others are missing.
    PartiallyFailed,
    /// There is nothing to restore.
    Failed,
    /// Its snapshot was let go: by retention, or because somebody erased it.
    Expired,
    /// Its snapshot is gone, and nobody has let it go.
    Missing,
}

impl BackupPhase {
    /// Whether the run has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The phase's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::PartiallyFailed => "PartiallyFailed",
            Self::Failed => "Failed",
            Self::Expired => "Expired",
            Self::Missing => "Missing",
        }
    }
}

/// How a run is, or was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStatus {
    /// Generation of the spec that this status speaks of; -1 before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the run stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BackupPhase>,
    /// Is it fine? In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub display: Option<String>,
    /// Ready, Reconciling and Stalled; Complete and Failed once it has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// When the run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// The moment whose state of the data the backup holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_time: Option<Timestamp>,
    /// When the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// The Job of the run. Its logs stay for an hour after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// The repository that holds the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryStatusRef>,
    /// Backups of one series share data: cluster, namespace and schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub series: Option<String>,
    /// The backup in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub snapshot_id: Option<String>,
    /// Whether the repository knows that it is pinned.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// How the data was read, and why so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodChoice>,
    /// The server that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// Where in the server's log the backup stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<LogPosition>,
    /// From where on the server's log is needed to bring a physical backup forward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_start: Option<Box<LogPosition>>,
    /// Bytes read, new and stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteCounts>,
    /// How many databases ended how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_count: Option<DatabaseCount>,
    /// The databases: at most 100, failures first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub databases: Vec<DatabaseReport>,
    /// How far the run has come, while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How often the run was begun: each pod counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// What was verified after the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationReport>,
    /// What became of the hooks, in their order. One after the backup that failed changes neither phase nor conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40), extend("x-kubernetes-list-type" = "atomic"))]
    pub hooks: Vec<HookReport>,
    /// The copies in other repositories. What becomes of them changes neither phase nor conditions of the backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub copies: Vec<CopyStatus>,
    /// Who is told of the end of the run. What becomes of that changes neither phase nor conditions of the backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub notifications: Vec<NotificationStatus>,
    /// Why the run failed, or what keeps it waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The spec that the run was begun with: a change or deletion of the schedule does not touch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Box<ResolvedBackup>>,
    /// Jobs that were begun: a run whose node was lost is begun again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// Inspections of the repository that were begun, to find out what became of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspections: Option<u32>,
    /// When the repository is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_inspection_time: Option<Timestamp>,
    /// What the runner said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

/// A repository, as a run knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatusRef {
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Id of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,
}

/// The spec that a run was begun with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedBackup {
    /// The BackupRepository.
    pub repository_ref: LocalRef,
    /// The server.
    pub source: SourceSpec,
    /// How the server is read.
    #[serde(default)]
    pub method: Method,
    /// What the server carries out before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<HooksSpec>,
    /// How the Job runs.
    #[serde(default)]
    pub job: JobSpec,
    /// The schedule, if one stands behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub schedule: Option<String>,
    /// The slot, or when the object was created.
    pub slot_time: Timestamp,
    /// How long it is to be kept, if a person made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_for: Option<DurationText>,
}
