//! `PitrRestore`: a whole server, as it was at some moment.

use dbbackup_contract::{
    Failure, Progress, ReachedPoint, RecoveryBase, RecoveryDurations, RecoveryWindow,
    ResolvedPoint, ServerReport,
};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::references::OBJECT_NAME;
use crate::{Condition, JobSpec, LocalRef, Quantity, RawReport, RepositoryStatusRef, Resources};

/// From which server's backups, to which moment, and onto which volume.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dbbackup.dev",
    version = "v1alpha1",
    kind = "PitrRestore",
    plural = "pitrrestores",
    namespaced,
    status = "PitrRestoreStatus",
    derive = "PartialEq",
    shortname = "dbpitr",
    category = "dbbackup",
    doc = "One recovery of a whole server to a moment, on a volume of its own. It looks first whether the moment can be reached, and touches nothing before. Deleting the object stops its Job if it still runs, and leaves the volume, unless reclaimPolicy says otherwise.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.display",
        description = "Is it fine?"
    ),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".status.resolvedTarget.lsn",
        description = "Where in the server's log",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a PitrRestore is one recovery and cannot be changed: create another one"))]
pub struct PitrRestoreSpec {
    /// Whose bases and log.
    pub from: PitrSource,
    /// To which moment. It is looked for before anything is made; one that cannot be reached is refused, and status.recoveryWindow says what can be.
    pub recovery_target: RecoveryTargetSpec,
    /// The server's own image, such as postgres:17: of the major version that was backed up, with all libraries that the server loads. The files belong to the user of the Job's pods; for a server that runs as its image's own user recover as that one, as with job: {podSecurityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999}} for docker.io/library/postgres.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[A-Za-z0-9][-A-Za-z0-9._/:@]*$"))]
    pub image: String,
    /// Where to.
    pub to: RecoveryDestination,
    /// The container in which the server replays its log.
    #[serde(default)]
    pub server: RecoveryServerSpec,
    /// Until when the recovery may begin (RFC 3339); later it is Expired, untouched. For objects that Git, or a cluster that is restored, may create again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// How the Jobs run.
    #[serde(default)]
    pub job: JobSpec,
}

/// Whose bases and log. Exactly one is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.scheduleRef) != has(self.repositoryRef)").message("say exactly one of from.scheduleRef and from.repositoryRef"),
    validation = Rule::new("has(self.repositoryRef) == has(self.series)").message("from.series belongs to from.repositoryRef, and is needed there: CLUSTER/NAMESPACE/SCHEDULE, as the snapshots of the repository have it; a schedule knows its own")
)]
pub struct PitrSource {
    /// A BackupSchedule whose log is archived: its repository, and its own bases and log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_ref: Option<LocalRef>,
    /// A BackupRepository: for a schedule that is gone, or another cluster's. It may be one that is only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_ref: Option<LocalRef>,
    /// The series in that repository: CLUSTER/NAMESPACE/SCHEDULE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub series: Option<String>,
}

/// A moment in the server's log. Exactly one is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.time), has(self.lsn), has(self.xid), has(self.name), has(self.immediate), has(self.latest)].filter(x, x).size() == 1").message("say exactly one of recoveryTarget.time, lsn, xid, name, immediate and latest"),
    validation = Rule::new("!has(self.xid) || has(self.inclusive)").message("with recoveryTarget.xid say inclusive: true (what the transaction did is there) or inclusive: false (it is not)"),
    validation = Rule::new("!has(self.inclusive) || has(self.time) || has(self.lsn) || has(self.xid)").message("recoveryTarget.inclusive is of time, lsn and xid: leave it out")
)]
pub struct RecoveryTargetSpec {
    /// All that had ended at this time, by the server's clock (RFC 3339, with a zone): 2026-11-20T14:37:00.250+01:00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The log up to this position: 16/B374D848.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 17), regex(pattern = r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"))]
    pub lsn: Option<String>,
    /// The end of this transaction, as pg_current_xact_id() or a row's xmin has it, in quotes. Not of a subtransaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = "^[1-9][0-9]{0,19}$"))]
    pub xid: Option<String>,
    /// A point that somebody has named: pg_create_restore_point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// The moment at which the newest base is consistent. Write immediate: {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immediate: Option<NothingMore>,
    /// All that was archived. Write latest: {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<NothingMore>,
    /// Whether what ended at that very time, the record at that position, or that transaction is wanted. Left out with time and lsn: true. With xid it must be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inclusive: Option<bool>,
    /// Along which timeline. Latest: the newest that comes from the base's. Current: the base's own. Or a number, in quotes.
    #[serde(default = "latest")]
    #[schemars(length(max = 10))]
    #[x_kube(validation = Rule::new("self.matches('^(Latest|Current|[1-9][0-9]{0,9})$')").message("timeline is Latest, Current or a number in quotes, such as \"3\""))]
    pub timeline: String,
}

fn latest() -> String {
    "Latest".to_owned()
}

/// Nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NothingMore {}

/// Where a recovered server goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryDestination {
    /// A claim. The server's data folder is the folder pgdata on it then, of a server that was shut down.
    pub volume_claim: RecoveryClaim,
}

/// The claim of a recovered server. Exactly one of name and template is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.name) != has(self.template)").message("say exactly one of to.volumeClaim.name (an existing, empty claim) and to.volumeClaim.template"),
    validation = Rule::new("self.reclaimPolicy == 'Retain' || has(self.template)").message("reclaimPolicy Delete is of a claim that is made by template: one that is named is never deleted")
)]
pub struct RecoveryClaim {
    /// An existing claim, which is empty and mounted by no pod: the kubelet gives its files to the Job's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: Option<String>,
    /// A claim that is made once the moment was found, named as this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<RecoveryClaimTemplate>,
    /// What becomes of the claim that was made when this object is deleted. Retain: it stays. Delete: it goes along, and the recovered server with it.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
}

/// A claim that is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryClaimTemplate {
    /// The StorageClass; the cluster's own where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub storage_class_name: Option<String>,
    /// How large it is, such as 50Gi: for the server's files, and the log from the base to the moment. One that is too small is refused before it is made; status.neededBytes has what is needed.
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))").message("size is more than nothing, such as 50Gi"))]
    pub size: Quantity,
    /// How it can be mounted.
    #[serde(default = "one_node")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub access_modes: Vec<ClaimAccessMode>,
}

fn one_node() -> Vec<ClaimAccessMode> {
    vec![ClaimAccessMode::ReadWriteOnce]
}

/// How a claim can be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimAccessMode {
    /// By the pods of one node.
    ReadWriteOnce,
    /// By those of several nodes.
    ReadWriteMany,
    /// By one pod.
    ReadWriteOncePod,
}

impl ClaimAccessMode {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteMany => "ReadWriteMany",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

/// What becomes of a claim that was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It goes with the object.
    Delete,
}

/// The container of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryServerSpec {
    /// CPU and memory of the server while it replays its log. Left out: 256Mi of memory are reserved, 1Gi may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// Where a recovery stands. A terminal phase never returns to `Running`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PitrPhase {
    /// It waits.
    #[default]
    Pending,
    /// The moment is looked for. Nothing is made yet.
    Validating,
    /// Its Job runs.
    Running,
    /// The server is there, at the moment that was asked for.
    Succeeded,
    /// It is not.
    Failed,
    /// It had not begun when validUntil passed. Nothing was touched.
    Expired,
}

impl PitrPhase {
    /// Whether the recovery has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Validating | Self::Running)
    }
}

/// How a recovery is, or was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PitrRestoreStatus {
    /// Generation of the spec that this status speaks of; -1 before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the recovery stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<PitrPhase>,
    /// Is it fine? In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub display: Option<String>,
    /// Ready, Reconciling and Stalled; Complete and Failed once it has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// When the recovery began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// The Job. Its logs stay for an hour after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// The repository that is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryStatusRef>,
    /// The base that is brought forward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<RecoveryBase>,
    /// Where in the server's log the moment lies that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_target: Option<ResolvedPoint>,
    /// What could have been asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_window: Option<RecoveryWindow>,
    /// Where the server ended, by its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<ReachedPoint>,
    /// The server that was recovered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// The claim that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub volume_claim_name: Option<String>,
    /// Bytes that the volume needs, for files and log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed_bytes: Option<u64>,
    /// Bytes that were written to the claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_bytes: Option<u64>,
    /// How long its parts took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durations: Option<RecoveryDurations>,
    /// What a person should know: at most 8 sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 256)))]
    pub warnings: Vec<String>,
    /// How far the recovery has come, while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How often the recovery was begun: each pod counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Jobs that were begun: a recovery whose outcome was lost is carried out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// Why the recovery failed, or what keeps it waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What the recovery was begun with: a change of the schedule does not touch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<ResolvedPitr>,
    /// What the runner said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

/// What a recovery was begun with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedPitr {
    /// The BackupRepository.
    pub repository_ref: LocalRef,
    /// The series of bases and log.
    #[schemars(length(max = 512))]
    pub series: String,
}
