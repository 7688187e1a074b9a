//! Import: what a repository holds becomes `Backup` objects.

use dbbackup_contract::Failure;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::LocalRef;

/// Whether backups are imported that are in the repository and that no `Backup` stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImportPolicy {
    /// All of them.
    #[default]
    All,
    /// None of them.
    None,
}

/// A snapshot that is in a repository already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportedSpec {
    /// The BackupRepository that holds it.
    pub repository_ref: LocalRef,
    /// Its whole id.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub snapshot_id: String,
}

/// A look for backups to import that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImportRun {
    /// The how manyth of this object it is, from 1.
    pub number: u32,
    /// Its Job.
    #[schemars(length(max = 63))]
    pub job_name: String,
    /// What gave occasion to it.
    pub occasion: ImportOccasion,
}

/// What a look for backups to import comes after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportOccasion {
    /// The generation of the spec that the repository was opened by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The Job of the last maintenance before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub maintenance_job_name: Option<String>,
    /// The slot that comes next, where the repository is only read: a slot that passes is an occasion there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_slot_time: Option<Timestamp>,
}

/// A look for backups to import that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastImport {
    /// When it ended.
    pub time: Timestamp,
    /// The how manyth of this object it was, from 1.
    pub number: u32,
    /// Its Job. Its log stays for an hour after the end.
    #[schemars(length(max = 63))]
    pub job_name: String,
    /// What gave occasion to it.
    pub occasion: ImportOccasion,
    /// Backups that were found and that no Backup stood for.
    #[serde(default)]
    pub found: u64,
    /// Backup objects that stand for them since.
    #[serde(default)]
    pub imported: u64,
    /// Backups that are left for the next look.
    #[serde(default)]
    pub remaining: u64,
    /// Snapshots that cannot be read, and so are not imported.
    #[serde(default)]
    pub unreadable: u64,
    /// Why it did not do all that it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}
