//! Containers of Azure and buckets of Google Cloud as a task names them.

use serde::{Deserialize, Serialize};

use crate::SecretFile;

/// A place in a container of Azure Blob Storage. The words are those of
/// `BackupRepository.spec.storage.azureBlob`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AzureAccess {
    /// The storage account's name.
    pub account: String,
    /// The container's name.
    pub container: String,
    /// What all names begin with, without slashes around it; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// `https://` address of the account where it is not in the public cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The only authorities that may sign the server's certificate; the system's
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretFile>,
    /// Keys; where absent, the pod's workload identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AzureCredentialFiles>,
}

/// Files with a key of a storage account. Either may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AzureCredentialFiles {
    /// A shared access signature.
    pub sas_token: SecretFile,
    /// The account's key, which is used where there is no signature.
    pub account_key: SecretFile,
}

/// A place in a bucket of Google Cloud Storage. The words are those of
/// `BackupRepository.spec.storage.gcs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GcsAccess {
    /// The bucket's name.
    pub bucket: String,
    /// What all names begin with, without slashes around it; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// `https://` address of a server that is not the public one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The only authorities that may sign the server's certificate; the system's
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretFile>,
    /// A service account's key (JSON); where absent, the pod's workload identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretFile>,
}
