//! `BackupRepository`: where backups are kept.

use dbbackup_contract::{AccessMode, DamagedSnapshot, Failure, Initialize, Outcome};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::storage::StorageSpec;
use crate::{
    Condition, DurationText, ImportPolicy, ImportRun, JobSpec, LastImport, PassphraseRef, Quantity,
    RawKeyRef, RawReport,
};

/// What a repository is.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dbbackup.dev",
    version = "v1alpha1",
    kind = "BackupRepository",
    plural = "backuprepositories",
    namespaced,
    status = "BackupRepositoryStatus",
    derive = "PartialEq",
    shortname = "dbbr",
    category = "dbbackup",
    doc = "A place where backups are kept: encrypted, deduplicated, one for each tenant's namespace. Deleting the object deletes no backup.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.display", description = "Is it fine?"),
    printcolumn(name = "Id", type_ = "string", json_path = ".status.id", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("metadata.name may have 63 characters at most")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupRepositorySpec {
    /// Where the repository is. It cannot be changed; create another object for another place.
    #[x_kube(validation = Rule::new("self == oldSelf").message("storage cannot be changed: create another BackupRepository for another place"))]
    pub storage: StorageSpec,
    /// How the repository is encrypted. It must be said: keys, or none: {}.
    pub encryption: EncryptionSpec,
    /// IfEmpty: an empty place becomes a repository. Never: what is not a repository yet is refused.
    #[serde(default)]
    pub initialize: Initialize,
    /// ReadWrite: everything. ReadOnly: restores, and backups that are imported; nothing is written, so the credentials need no right to, and there is no maintenance. For a second cluster that looks at another one's backups.
    #[serde(default)]
    pub access: AccessMode,
    /// How fast each Job may send to the repository and read from it. Left out, as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthSpec>,
    /// Most backups that run into this repository at once; more wait, the one that is due the longest comes first. Restores, copies and maintenance wait for nobody. Left out: as many as the operator allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_concurrent_jobs: Option<u16>,
    /// A Job a day records pins, lets backups go by their schedules' retention, frees what nothing uses any more, and checks the repository.
    #[serde(default)]
    pub maintenance: MaintenanceSpec,
    /// All: backups that are in the repository and that no Backup stands for become Backup objects, after it was opened and after each maintenance. None: they do not.
    #[serde(default)]
    pub import: ImportPolicy,
    /// How the Jobs run that create, open, inspect and maintain the repository, and look for what to import.
    #[serde(default)]
    pub job: JobSpec,
}

/// Limits of a Job, in bytes a second. Single objects of up to 20 MiB go at the speed of the line; the waiting is between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BandwidthSpec {
    /// To the repository, such as 20Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).compareTo(quantity('100k')) >= 0").message("upload is bytes a second, 100k at least, such as 20Mi"))]
    pub upload: Option<Quantity>,
    /// From the repository, such as 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).compareTo(quantity('100k')) >= 0").message("download is bytes a second, 100k at least, such as 20Mi"))]
    pub download: Option<Quantity>,
}

/// How a repository is encrypted. Exactly one is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.keys), has(self.none)].filter(x, x).size() == 1").message("say exactly one of encryption.keys and encryption.none; without encryption write none: {}"))]
pub struct EncryptionSpec {
    /// Keys or passphrases, each of which opens the repository. An entry that comes gets a key slot, if another entry opens the repository; the slot of an entry that is removed goes once another entry has opened it. So rotate by adding the new entry, waiting until the status says that it opens the repository, and then removing the old one. Do not change the secret of an entry in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub keys: Option<Vec<EncryptionKey>>,
    /// No encryption: whoever reads the place reads the data. Write none: {}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<NoEncryption>,
}

/// Nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoEncryption {}

/// One key or passphrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.keySecretRef) != has(self.passphraseSecretRef)").message("say exactly one of keySecretRef (32 bytes) and passphraseSecretRef"))]
pub struct EncryptionKey {
    /// Name of the entry, for the status.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A secret with a key of 32 bytes, raw or in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<RawKeyRef>,
    /// A secret with a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_secret_ref: Option<PassphraseRef>,
}

/// When a repository is maintained, and how far that may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceSpec {
    /// When: five fields or a macro, as in a BackupSchedule. Left out: once a day, at a minute that differs from object to object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("!self.matches('^(CRON_)?TZ=')").message("the time zone has a field of its own: write timeZone: Europe/Berlin instead of TZ= in schedule"),
        validation = Rule::new(r"self.matches('^(CRON_)?TZ=') || self.matches('^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$') || self.matches('^[^@\\s]\\S*(\\s+\\S+){4}$')").message("schedule has five fields (minute, hour, day of month, month, day of week), such as 0 5 * * *, or is @hourly, @daily, @weekly, @monthly or @yearly")
    )]
    pub schedule: Option<String>,
    /// Time zone of schedule, by its IANA name, such as Europe/Berlin.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub time_zone: String,
    /// What nothing uses is marked by one maintenance and deleted by a later one, at least so long after; 10m is the least. Units: m, h, d.
    #[serde(default = "a_day")]
    pub grace_period: DurationText,
    /// Where more than this share of the backups, or of the bytes, would go at once, nothing does: the status tells the plan's digest, and approvedPlan approves of it. 100: whatever the policies say.
    #[serde(default = "half")]
    #[schemars(range(min = 1, max = 100))]
    pub max_delete_percent: u8,
    /// The digest of a plan that may be carried out though it is larger than maxDeletePercent allows. It approves of just that plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub approved_plan: Option<String>,
    /// What each maintenance checks, besides that everything is there.
    #[serde(default)]
    pub check: CheckSpec,
}

impl Default for MaintenanceSpec {
    fn default() -> Self {
        Self {
            schedule: None,
            time_zone: utc(),
            grace_period: a_day(),
            max_delete_percent: half(),
            approved_plan: None,
            check: CheckSpec::default(),
        }
    }
}

/// What is checked. Besides, everything is looked for that the snapshots need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckSpec {
    /// The share of the data that is read, decrypted and compared, in percent: other data each day, so that all of it has been read after 4 times 100 / readPercent days at most. 0: none.
    #[serde(default = "one")]
    #[schemars(range(max = 100))]
    pub read_percent: u8,
    /// Whether all data is read, decrypted and compared that snapshots have brought since the last check: so each backup's data is read back once, within a day, for as many bytes of traffic as it has written.
    #[serde(default = "yes")]
    pub read_new: bool,
}

impl Default for CheckSpec {
    fn default() -> Self {
        Self { read_percent: one(), read_new: yes() }
    }
}

const fn yes() -> bool {
    true
}

fn utc() -> String {
    "Etc/UTC".to_owned()
}

fn a_day() -> DurationText {
    DurationText::new("24h")
}

const fn half() -> u8 {
    50
}

const fn one() -> u8 {
    1
}

/// How a repository is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupRepositoryStatus {
    /// Generation of the spec that this status speaks of; -1 before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The repository's id, pinned when it was opened first. Another one at the same place is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,
    /// Is it fine? In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub display: Option<String>,
    /// Ready, Reconciling and Stalled; Maintained (the last maintenance did all it should) and Intact (the last check found no damage).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// The keys of the spec, and whether each opens the repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub key_slots: Vec<KeySlotStatus>,
    /// Snapshots in the repository, when it was opened or maintained last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_count: Option<u64>,
    /// How much the repository holds, when it was opened or maintained last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<RepositoryBytes>,
    /// The maintenance that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceRun>,
    /// How the last maintenance ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_maintenance: Option<LastMaintenance>,
    /// What the last check found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<LastCheck>,
    /// When the next maintenance begins; of a repository that is only read, when somebody looks for what is to be imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_maintenance_time: Option<Timestamp>,
    /// What the runner of the maintenance said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_report: Option<RawReport>,
    /// The look for backups to import that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<ImportRun>,
    /// What the last look for backups to import has found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_import: Option<LastImport>,
    /// What the runner of that look said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_report: Option<RawReport>,
    /// The Job that opens the repository now, or did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// How often this generation was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When the next try begins, after one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Timestamp>,
    /// What the runner said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

/// One key of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySlotStatus {
    /// Name of the entry in the spec.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Whether it opens the repository.
    pub opened: bool,
    /// Id of the key slot that it opens, as `dbbackup-runner key list` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub slot: Option<String>,
    /// When it opened the repository last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_opened_time: Option<Timestamp>,
}

/// How much a repository holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RepositoryBytes {
    /// Bytes of all snapshots as they would be restored.
    pub logical: u64,
    /// Bytes that they take in the repository.
    pub stored: u64,
}

/// A maintenance that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceRun {
    /// Its slot.
    pub slot_time: Timestamp,
    /// Its Job.
    #[schemars(length(max = 63))]
    pub job_name: String,
}

/// A maintenance that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastMaintenance {
    /// When it ended.
    pub time: Timestamp,
    /// Its slot.
    pub slot_time: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Its Job. Its log stays for an hour after the end.
    #[schemars(length(max = 63))]
    pub job_name: String,
    /// Snapshots that it let go.
    #[serde(default)]
    pub deleted_snapshots: u64,
    /// Bytes that it freed.
    #[serde(default)]
    pub deleted_bytes: u64,
    /// Bytes that nothing uses any more, and that a later maintenance frees.
    #[serde(default)]
    pub condemned_bytes: u64,
    /// Backups under way that have to end before anything more can be freed.
    #[serde(default)]
    pub waits_for: u32,
    /// The digest of a plan that is larger than maxDeletePercent allows: write it into spec.maintenance.approvedPlan to approve of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub waiting_plan: Option<String>,
    /// Why it did not do all that it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckOutcome {
    /// No damage was found.
    Passed,
    /// Damage was found.
    Failed,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastCheck {
    /// When it ended.
    pub time: Timestamp,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// The share of the data that it was to read, in percent.
    pub read_percent: u8,
    /// It looked at every snapshot that was committed before this, by the storage's clock: the next check reads what has come since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
    /// Bytes that it read.
    #[serde(default)]
    pub bytes_read: u64,
    /// Things that are wrong.
    #[serde(default)]
    pub problems: u64,
    /// Backups that cannot be restored whole.
    #[serde(default)]
    pub damaged_snapshots: u64,
    /// The first of them, with the databases that are damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "atomic"))]
    pub damaged: Vec<DamagedSnapshot>,
}
