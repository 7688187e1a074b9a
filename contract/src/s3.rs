//! A bucket as a task names it.

use serde::{Deserialize, Serialize};

use crate::SecretFile;

/// A place in a bucket of S3, or of a server that speaks its protocol. The words are
/// those of `BackupRepository.spec.storage.s3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Access {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with, without slashes around it; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// `https://` address of a server that is not AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The bucket's region; where absent, what the pod's environment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The bucket is the first part of the path, not of the host's name.
    #[serde(default)]
    pub force_path_style: bool,
    /// The only authorities that may sign the server's certificate; the system's
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretFile>,
    /// S3's name of the class in which packs are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// How what a snapshot cannot be restored without is locked; not at all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// Keys; where absent, those of the pod's environment (workload identity).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<S3CredentialFiles>,
}

/// Files with the keys of an S3 user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3CredentialFiles {
    /// The access key's id.
    pub access_key_id: SecretFile,
    /// The secret access key.
    pub secret_access_key: SecretFile,
    /// The session token. This file alone may be missing.
    pub session_token: SecretFile,
}

/// Object Lock, on a bucket that has it switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectLock {
    /// Who may end a lock early.
    pub mode: ObjectLockMode,
    /// How many days a lock lasts, from its beginning or its last extension on.
    pub days: u16,
}

impl ObjectLock {
    /// The most days that S3 takes.
    pub const MOST_DAYS: u16 = 36_500;
}

/// Who may end a lock early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ObjectLockMode {
    /// Nobody.
    Compliance,
    /// Who has the right to.
    Governance,
}
