//! `RestoreRequest`: databases back from a backup.

use std::collections::BTreeMap;

use dbbackup_contract::{
    Assertion, DatabaseCount, DatabaseReport, Failure, GlobalsPolicy, GlobalsReport, OnError,
    Progress, RestorePlan, RestoreStrategy, ServerReport, TableName,
};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    Condition, DurationText, JobSpec, LocalRef, RawReport, RepositoryStatusRef, TargetSpec,
};

/// Which databases come back, from which backup, and where to.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dbbackup.dev",
    version = "v1alpha1",
    kind = "RestoreRequest",
    plural = "restorerequests",
    namespaced,
    status = "RestoreRequestStatus",
    derive = "PartialEq",
    shortname = "dbrr",
    category = "dbbackup",
    doc = "One restore of databases. It creates them beside the existing ones and touches none that exists; where strategy says so they take the place of existing ones at one moment, when they are loaded and compared. Deleting the object stops its Job if it still runs.",
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
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.from == oldSelf.from && self.globals == oldSelf.globals && self.strategy == oldSelf.strategy && self.onError == oldSelf.onError && self.job == oldSelf.job").message("a RestoreRequest is one restore and cannot be changed, but for dryRun and approvedPlan: create another one"),
    validation = Rule::new("has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target) && has(self.databases) == has(oldSelf.databases) && (!has(self.databases) || self.databases == oldSelf.databases)").message("a RestoreRequest is one restore and cannot be changed, but for dryRun and approvedPlan: create another one"),
    validation = Rule::new("has(self.swap) == has(oldSelf.swap) && (!has(self.swap) || self.swap == oldSelf.swap) && has(self.assertions) == has(oldSelf.assertions) && (!has(self.assertions) || self.assertions == oldSelf.assertions) && has(self.confirm) == has(oldSelf.confirm) && (!has(self.confirm) || self.confirm == oldSelf.confirm) && has(self.validUntil) == has(oldSelf.validUntil) && (!has(self.validUntil) || self.validUntil == oldSelf.validUntil)").message("a RestoreRequest is one restore and cannot be changed, but for dryRun and approvedPlan: create another one"),
    validation = Rule::new("self.noOwner == oldSelf.noOwner && has(self.roleMap) == has(oldSelf.roleMap) && (!has(self.roleMap) || self.roleMap == oldSelf.roleMap)").message("a RestoreRequest is one restore and cannot be changed, but for dryRun and approvedPlan: create another one"),
    validation = Rule::new("!has(self.roleMap) || self.roleMap.all(role, role.size() >= 1 && role.size() <= 63)").message("roleMap: a role's name has from 1 to 63 characters"),
    validation = Rule::new("self.strategy == 'CreateNew' || has(self.validUntil)").message("strategy Swap and Overwrite need validUntil: an object that is created again later must not replace anything"),
    validation = Rule::new("self.strategy != 'CreateNew' || !has(self.swap)").message("swap is of strategy Swap and Overwrite"),
    validation = Rule::new("(self.strategy == 'Overwrite') == (has(self.confirm) && self.confirm.size() > 0)").message("strategy Overwrite drops databases: confirm repeats the name of each on the target; with other strategies it is left out"),
    validation = Rule::new("self.strategy != 'Overwrite' || (has(self.databases) && self.databases.size() > 0)").message("strategy Overwrite drops databases: databases says which"),
    validation = Rule::new("self.strategy != 'Swap' || !has(self.databases) || self.databases.all(database, !has(database.schemas) && !has(database.tables))").message("a part of a database must not take the place of the whole: with schemas and tables leave strategy Swap, and restore it beside, with as"),
    validation = Rule::new("self.strategy != 'Overwrite' || !has(self.databases) || self.databases.all(database, (!has(database.schemas) && !has(database.tables)) || (has(database.__as__) && database.__as__ != database.name))").message("a part of a database must not take the place of the whole: with schemas and tables, strategy Overwrite needs as with another name"),
    validation = Rule::new("!has(self.from.snapshot) || has(self.target)").message("with from.snapshot the server must be said: target.postgresql; only a Backup or a schedule knows its own server")
)]
pub struct RestoreRequestSpec {
    /// From which backup.
    pub from: RestoreFrom,
    /// To which server, and as which role. Left out: to the server that the backup or the schedule reads, with the credentials that it reads with; a role that may only read cannot restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetSpec>,
    /// Which databases, and under which names; all of the backup where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub databases: Vec<RestoreDatabaseSpec>,
    /// Roles and other globals. Skip: they are left alone, and a missing one is a refusal. Merge: missing ones are created, existing ones stay as they are.
    #[serde(default)]
    pub globals: GlobalsPolicy,
    /// The restoring role owns what comes back, and takes the place of each owner in the privileges of what that one owned. What concerns a role that the target lacks (privileges, policies, settings) is left out; a warning names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub no_owner: bool,
    /// Roles of the target that stand for roles of the backup, all at once: {old: new}, in owners, privileges, default privileges, policies, user mappings, memberships and the database's settings. Code and expressions are left as they are. A new one that the target lacks is a refusal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "role_map")]
    pub role_map: BTreeMap<String, String>,
    /// What happens where a database exists under the name. CreateNew: the restore is refused before anything is created. Swap: it is kept as NAME_before_TIME, the time at which this request was created, and status.databases has the statements that undo it. Overwrite: it is dropped.
    #[serde(default)]
    pub strategy: RestoreStrategy,
    /// How a database gives way, with Swap and Overwrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapSpec>,
    /// With Overwrite: the names of the databases on the target that may be dropped, once more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub confirm: Vec<String>,
    /// Until when the restore may begin (RFC 3339); later it is Expired, untouched. Swap and Overwrite need it: Git, or a cluster that is restored, may create this object again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// What becomes of the other databases when one has failed. Stop: where one is refused, none is created; after one that fails, no other is begun. Continue: they are restored.
    #[serde(default)]
    pub on_error: OnError,
    /// What restored databases must answer with true before they are put in place. One that does not hold fails its database, and nothing of it stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub assertions: Vec<Assertion>,
    /// First the plan: status.plan says what would be done, and nothing is created, changed or dropped. To carry it out, set approvedPlan to status.plan.digest. Of a restore that has begun it means nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The digest of the plan that is approved. If another one would be carried out now, nothing is done, and status.plan has that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub approved_plan: Option<String>,
    /// How the Job runs.
    #[serde(default)]
    pub job: JobSpec,
}

fn role_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 100,
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 63}
    })
}

/// How a database gives way to a restored one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwapSpec {
    /// Sessions on it are ended; otherwise the restore is refused while there are any.
    #[serde(default)]
    pub terminate_sessions: bool,
    /// How long the renames may wait for sessions to end and for other transactions. Units: s, m, h, d.
    #[serde(default = "ten_seconds")]
    pub lock_timeout: DurationText,
}

impl Default for SwapSpec {
    fn default() -> Self {
        Self { terminate_sessions: false, lock_timeout: ten_seconds() }
    }
}

fn ten_seconds() -> DurationText {
    DurationText::new("10s")
}

/// From which backup. Exactly one is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.backupRef), has(self.latest), has(self.snapshot)].filter(x, x).size() == 1").message("say exactly one of from.backupRef, from.latest and from.snapshot"))]
pub struct RestoreFrom {
    /// This Backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_ref: Option<LocalRef>,
    /// The newest backup of a schedule, as the repository knows it: the newest one that had ended before this request was created and holds every database that is named. It is found first and noted in status.snapshotId; each attempt takes that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<LatestSource>,
    /// A snapshot of a repository, known to this cluster or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotSource>,
}

/// The newest backup of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatestSource {
    /// The schedule.
    pub schedule_ref: LocalRef,
    /// Only backups that had ended before this time are looked at (RFC 3339: 2026-11-23T03:00:00+01:00 is one hour earlier than with Z). Left out, those that had ended before this request was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

/// A snapshot of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSource {
    /// The BackupRepository.
    pub repository_ref: LocalRef,
    /// The snapshot's id, or a prefix of it that fits no other.
    #[schemars(length(min = 4, max = 128), regex(pattern = r"^[a-z0-9][a-z0-9-]*$"))]
    pub id: String,
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDatabaseSpec {
    /// Its name in the backup.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its name on the target; the same where left out.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub as_name: Option<String>,
    /// Only these schemas come back, with all that is in them and what that needs; with tables, those too. Foreign keys to tables that do not come back, and views and code that need such, are left out: status.databases[].leftOut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub schemas: Vec<String>,
    /// Only these tables come back, with their rows, partitions, indexes, constraints, triggers, policies and sequences, and the types, functions, extensions and schemas that these need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "atomic"))]
    pub tables: Vec<TableName>,
}

impl RestoreDatabaseSpec {
    /// Its name on the target.
    #[must_use]
    pub fn target_name(&self) -> &str {
        self.as_name.as_deref().unwrap_or(&self.name)
    }
}

/// Where a restore stands. A terminal phase never returns to `Running`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestorePhase {
    /// It waits.
    #[default]
    Pending,
    /// Its plan is made, and waits for somebody who approves of it.
    AwaitingApproval,
    /// Its Job runs.
    Running,
    /// All that was asked for is there.
    Succeeded,
    /// Some databases are there, others are not.
    PartiallyFailed,
    /// Nothing was restored.
    Failed,
    /// It had not begun when validUntil passed. Nothing was touched.
    Expired,
    /// An object of the same name asked for the same and was carried out. Nothing was touched.
    AlreadyCarriedOut,
}

impl RestorePhase {
    /// Whether the restore has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::AwaitingApproval | Self::Running)
    }
}

/// How a restore is, or was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreRequestStatus {
    /// Generation of the spec that this status speaks of; -1 before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the restore stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// Is it fine? In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub display: Option<String>,
    /// Ready, Reconciling and Stalled; Complete and Failed once it has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// When the restore began.
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
    /// The snapshot that was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub snapshot_id: Option<String>,
    /// The server that was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// Bytes that were given to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_bytes: Option<u64>,
    /// What happened to roles and other globals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub globals: Option<GlobalsReport>,
    /// How many databases ended how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_count: Option<DatabaseCount>,
    /// The databases: at most 100, failures first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub databases: Vec<DatabaseReport>,
    /// What will be done, where dryRun asked for it, or where it is not what was approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlan>,
    /// How far the restore has come, while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How often the restore was begun: each pod counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Jobs that were begun: a restore whose outcome was lost is carried out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// Why the restore failed, or what keeps it waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What the restore was begun with: a change of the schedule or the Backup does not touch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Box<ResolvedRestore>>,
    /// What the runner said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

/// What a restore was begun with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRestore {
    /// The BackupRepository.
    pub repository_ref: LocalRef,
    /// The snapshot, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub snapshot_id: Option<String>,
    /// The series whose newest snapshot is taken, where no snapshot is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub series: Option<String>,
    /// Only snapshots from before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// The server.
    pub target: TargetSpec,
}
