//! Labels and annotations of what the operator creates. Those that are read of an object as a
//! watch has it are named in `watch.rs`, too: a watch forgets all others.

/// Who manages an object; the value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`], and the field manager of all writes.
pub const MANAGER: &str = "dbbackup";
/// What an object is; the value is [`RUNNER`] for Jobs and their pods.
pub const NAME: &str = "app.kubernetes.io/name";
/// Value of [`NAME`] for Jobs and their pods.
pub const RUNNER: &str = "dbbackup-runner";
/// Kind of the object that a Job works for.
pub const KIND: &str = "dbbackup.dev/kind";
/// Why a Job exists.
pub const PURPOSE: &str = "dbbackup.dev/purpose";
/// Schedule of a `Backup`.
pub const SCHEDULE: &str = "dbbackup.dev/schedule";
/// A `Backup` that was made of a snapshot that was found in a repository; the value is `true`.
pub const IMPORTED: &str = "dbbackup.dev/imported";
/// Annotation: name of the object that a Job works for. No label, because names may be longer.
pub const SUBJECT: &str = "dbbackup.dev/subject";
/// Annotation: the slot of a `Backup` that a schedule made (RFC 3339).
pub const SLOT: &str = "dbbackup.dev/slot";
/// Label of pods that are given the workload identity of Azure.
pub const AZURE_IDENTITY: &str = "azure.workload.identity/use";
