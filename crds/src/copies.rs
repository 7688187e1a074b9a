//! Copies of backups in other repositories: what is wanted, and how each stands.

use dbbackup_contract::{CopyBytes, Failure, RetentionSpec};
use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{LocalRef, RawReport, RepositoryStatusRef};

/// Most copies of a schedule, or of a `Backup` without one.
pub const MAX_COPIES: usize = 4;
/// Most copies that a status lists, those that nothing wants any more included.
pub const MAX_LISTED_COPIES: usize = 16;

/// No two copies go to one repository. Its length bounds what the rule costs.
pub(crate) const APART: &str = "!has(self.copies) || self.copies.all(a, self.copies.exists_one(b, b.repositoryRef.name == a.repositoryRef.name))";
/// What is told then.
pub(crate) const APART_MESSAGE: &str =
    "two of copies go to one repository: each needs a repositoryRef of its own";
/// No copy goes where the backup is.
pub(crate) const ELSEWHERE: &str =
    "!has(self.copies) || self.copies.all(c, c.repositoryRef.name != self.repositoryRef.name)";
/// What is told then.
pub(crate) const ELSEWHERE_MESSAGE: &str = "a copy goes to another repository than the backup: name another BackupRepository in copies[].repositoryRef";

/// A second place for each backup of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopySpec {
    /// A name for it, such as second-region: statuses and metrics use it.
    #[schemars(length(min = 1, max = 63), regex(pattern = COPY_NAME))]
    pub name: String,
    /// The BackupRepository that the copies go to: another one than the backups' own, with keys of its own. Where it names another one than before, all backups are copied there.
    pub repository_ref: LocalRef,
    /// Which copies are kept, whatever the schedule's own retention says. Left out: all of them. The maintenance of the copies' BackupRepository lets the others go. What was let go is not copied again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new(crate::schedule::KEEP_WITHIN).message(crate::schedule::KEEP_WITHIN_MESSAGE),
        validation = Rule::new(crate::schedule::MINIMUM).message(crate::schedule::MINIMUM_MESSAGE)
    )]
    pub retention: Option<RetentionSpec>,
}

/// A second place for a backup without a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateCopy {
    /// A name for it, such as second-region: the status uses it.
    #[schemars(length(min = 1, max = 63), regex(pattern = COPY_NAME))]
    pub name: String,
    /// The BackupRepository that the copy goes to: another one than the backup's own.
    pub repository_ref: LocalRef,
}

/// A DNS label.
const COPY_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Where a copy stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CopyPhase {
    /// It waits: for its turn, or for what its error says.
    #[default]
    Pending,
    /// Its Job runs.
    Running,
    /// It can be restored.
    Succeeded,
    /// The last attempt failed. While the backup's own snapshot is there it is tried again, at nextAttemptTime.
    Failed,
    /// It was let go: by its retention, or because somebody erased the backup.
    Expired,
}

impl CopyPhase {
    /// Whether nothing is left to be done.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Succeeded | Self::Expired)
    }
}

/// How a copy of a backup stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CopyStatus {
    /// Its name, as copies of the schedule has it.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Where it stands.
    pub phase: CopyPhase,
    /// The repository that it goes to.
    pub repository: RepositoryStatusRef,
    /// The copy in that repository. A RestoreRequest restores it by from.snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub snapshot_id: Option<String>,
    /// When it was begun for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it was done, or failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    /// Bytes read, new and stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<CopyBytes>,
    /// How often it was begun: each Job counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Timestamp>,
    /// The Job that was begun last. Its logs stay for an hour after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub job_name: Option<String>,
    /// Why the last attempt failed, or what keeps it waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// What the runner said last, until it is worked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RawReport>,
}

/// How far the copies of a schedule have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduleCopyStatus {
    /// Its name, as copies has it.
    #[schemars(length(max = 63))]
    pub name: String,
    /// When a backup was last copied there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Timestamp>,
    /// Backups that are not copied there yet.
    pub missing: u32,
    /// Since when the oldest of these waits that is newer than all that are copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Timestamp>,
}
