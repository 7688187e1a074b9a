//! `BackupRepository`: where backups are kept.

use dbbackup_contract::Initialize;
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, JobSpec, PassphraseRef, Quantity, RawKeyRef, RawReport};

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
    /// How fast each Job may send to the repository and read from it. Left out, as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthSpec>,
    /// How the Jobs run that create, open and inspect the repository.
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

/// Where a repository is. Exactly one is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.volume)").message("say where the repository is: storage.volume"))]
pub struct StorageSpec {
    /// A folder of a PersistentVolumeClaim. Jobs on a ReadWriteOnce claim run on the claim's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStorage>,
}

/// A folder of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStorage {
    /// Name of an existing PersistentVolumeClaim in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// A folder on the claim, such as dbbackup or backups/shop; left out, the claim's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('/')").message("path is relative to the claim's root: write dbbackup, not /dbbackup"),
        validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message("path is a folder below the claim's root, without . and .. as parts"),
        validation = Rule::new("self.startsWith('/') || self.matches('^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$')").message("path has parts of letters, digits, dots, hyphens and underscores, with one / between two and none at the end")
    )]
    pub path: Option<String>,
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
    /// Ready, Reconciling and Stalled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// The keys of the spec, and whether each opens the repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub key_slots: Vec<KeySlotStatus>,
    /// Snapshots in the repository, when it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_count: Option<u64>,
    /// How much the repository holds, when it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<RepositoryBytes>,
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
