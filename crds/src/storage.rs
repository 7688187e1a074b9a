//! Where a repository is: a volume, or a place in object storage.

use dbbackup_contract::ObjectLockMode;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::references::OBJECT_NAME;
use crate::{CaRef, DurationText, LocalRef};

/// Parts of letters, digits and a few signs, with one slash between two.
const PREFIX_RULE: &str =
    "self.matches('^[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*$') && !self.matches('(^|/)[.][.]?(/|$)')";
const PREFIX_MESSAGE: &str = "prefix has parts of letters, digits, dots, hyphens, underscores and equals signs, with one / between two and none at the ends: write backups/shop";
/// A host and perhaps a port: keys stand in secrets, and the rest in fields of their own.
const ENDPOINT_RULE: &str = "self.matches('^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?$')";
const ENDPOINT_MESSAGE: &str = "endpoint is the address of a server, without a path, user or keys: write https://s3.example.com";
/// The same; servers for tests have the account as a path.
const ACCOUNT_ENDPOINT_RULE: &str =
    "self.matches('^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]{3,24})?/?$')";
/// What a bucket of AWS, Google Cloud, and what speaks their protocols, may be called.
const BUCKET: &str = r"^[a-z0-9][a-z0-9._-]*[a-z0-9]$";

/// Where a repository is. Exactly one is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.volume), has(self.s3), has(self.azureBlob), has(self.gcs)].filter(x, x).size() == 1").message("say exactly one of storage.volume, storage.s3, storage.azureBlob and storage.gcs"))]
pub struct StorageSpec {
    /// A folder of a PersistentVolumeClaim. Jobs of one that is ReadWriteOnce run on one node, where it has room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStorage>,
    /// A bucket of S3, or of a server that speaks its protocol. It must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Storage>,
    /// A container of Azure Blob Storage. It must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_blob: Option<AzureBlobStorage>,
    /// A bucket of Google Cloud Storage. It must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsStorage>,
}

/// A folder of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStorage {
    /// Name of an existing PersistentVolumeClaim in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
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

/// A place in a bucket of S3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Storage {
    /// The bucket's name.
    #[schemars(length(min = 3, max = 63), regex(pattern = BUCKET))]
    pub bucket: String,
    /// What all keys begin with, such as backups/shop: repositories share a bucket by it. Left out, the repository has the bucket for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(PREFIX_RULE).message(PREFIX_MESSAGE))]
    pub prefix: Option<String>,
    /// Address of a server that is not AWS, with https:// in front. With http:// keys and data can be read on the way; what is encrypted stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(ENDPOINT_RULE).message(ENDPOINT_MESSAGE))]
    pub endpoint: Option<String>,
    /// The bucket's region, such as eu-central-1. Left out, what the pod's environment says; us-east-1 where there is an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z0-9-]+$"))]
    pub region: Option<String>,
    /// The bucket stands in the path of the address, not in the host's name: most servers but AWS want that.
    #[serde(default)]
    pub force_path_style: bool,
    /// The only authorities that may sign the server's certificate. Left out, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// The class in which the bulk of the data is kept. Left out, the bucket's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<S3StorageClass>,
    /// Locks what a snapshot cannot be restored without: nobody can delete it for so long. The bucket must have Object Lock switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLockSpec>,
    /// A secret with the keys accessKeyId and secretAccessKey, and sessionToken if there is one. Left out, the identity of the Job's service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalRef>,
}

/// Classes of S3 that give objects back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum S3StorageClass {
    /// The usual one.
    Standard,
    /// Charges for thirty days, and for each byte that is read.
    StandardIa,
    /// The same in one zone alone.
    OnezoneIa,
    /// S3 moves objects by their use.
    IntelligentTiering,
    /// Charges for ninety days, and more for each byte that is read.
    GlacierIr,
}

impl S3StorageClass {
    /// The name that S3 gives it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::StandardIa => "STANDARD_IA",
            Self::OnezoneIa => "ONEZONE_IA",
            Self::IntelligentTiering => "INTELLIGENT_TIERING",
            Self::GlacierIr => "GLACIER_IR",
        }
    }
}

/// How objects are locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLockSpec {
    /// Compliance: nobody can end a lock early. Governance: who has the right to can.
    pub mode: ObjectLockMode,
    /// How long a lock lasts, in days, such as 30d. Maintenance renews the locks of what is in use once half of it is over, so take more than twice the time in which you would notice that it fails.
    #[x_kube(validation = Rule::new(r"self.matches('^[1-9][0-9]{0,4}d$') && int(self.substring(0, size(self) - 1)) <= 36500").message("period is a number of days, 1d to 36500d, such as 30d"))]
    pub period: DurationText,
}

/// A place in a container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureBlobStorage {
    /// The storage account's name.
    #[schemars(length(min = 3, max = 24), regex(pattern = r"^[a-z0-9]+$"))]
    pub account: String,
    /// The container's name.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9]|-[a-z0-9])*$"))]
    pub container: String,
    /// What all names begin with, such as backups/shop: repositories share a container by it. Left out, the repository has the container for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(PREFIX_RULE).message(PREFIX_MESSAGE))]
    pub prefix: Option<String>,
    /// Address of the account where it is not in the public cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(ACCOUNT_ENDPOINT_RULE).message(ENDPOINT_MESSAGE))]
    pub endpoint: Option<String>,
    /// The only authorities that may sign the server's certificate. Left out, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// A secret with the key sasToken (a shared access signature) or accountKey. Left out, the workload identity of the Job's service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalRef>,
}

/// A place in a bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcsStorage {
    /// The bucket's name.
    #[schemars(length(min = 3, max = 222), regex(pattern = BUCKET))]
    pub bucket: String,
    /// What all names begin with, such as backups/shop: repositories share a bucket by it. Left out, the repository has the bucket for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(PREFIX_RULE).message(PREFIX_MESSAGE))]
    pub prefix: Option<String>,
    /// Address of a server that is not the public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(ENDPOINT_RULE).message(ENDPOINT_MESSAGE))]
    pub endpoint: Option<String>,
    /// The only authorities that may sign the server's certificate. Left out, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// A secret with the key key.json: a service account's key. Left out, the workload identity of the Job's service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalRef>,
}
