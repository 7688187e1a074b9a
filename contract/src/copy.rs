//! Copying a snapshot to another repository: what is asked for, and what came of it.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Failure, Outcome, RepositoryAccess};

/// Copy a snapshot of the task's repository to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CopyAction {
    /// The snapshot's whole id.
    pub snapshot: String,
    /// The repository that the copy goes to.
    pub destination: RepositoryAccess,
}

/// The run that makes the copy of a snapshot of this repository: the same one whenever it
/// is tried.
#[must_use]
pub fn copy_run_id(repository_id: &str, snapshot: &str) -> String {
    let digest = Sha256::digest(format!("copy/{repository_id}/{snapshot}"));
    HEXLOWER.encode(&digest[..16])
}

/// Bytes of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CopyBytes {
    /// Read from the first repository and decrypted.
    pub read: u64,
    /// Taken over from earlier copies, neither read nor decrypted.
    pub unchanged: u64,
    /// Of what was read, not yet in the second repository.
    pub new: u64,
    /// Written to the second repository: compressed and encrypted.
    pub stored: u64,
}

/// How a copy ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The copy's snapshot in the second repository; absent where none was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Whether an earlier attempt had made it.
    #[serde(default)]
    pub already: bool,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// When it ended.
    pub completion_time: Timestamp,
    /// Bytes.
    #[serde(default)]
    pub bytes: CopyBytes,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl CopyReport {
    /// Of a copy that has begun, and of which nothing else is known yet: a failure.
    #[must_use]
    pub fn begun(now: Timestamp) -> Self {
        Self {
            outcome: Outcome::Failed,
            snapshot_id: None,
            already: false,
            start_time: now,
            completion_time: now,
            bytes: CopyBytes::default(),
            error: None,
        }
    }
}
