//! What the operator and the runner say to each other.
//!
//! The operator hands a [`Task`] to a Job; the runner sends [`Progress`] while
//! it works and one [`Report`] when it ends. Both sides, and every crate of the
//! data path, name what went wrong by the same table: [`Reason`]. The crate
//! holds types and pure functions only, so that anything may depend on it.

mod archive;
mod bounded;
mod clouds;
mod connection;
mod copy;
mod databases;
mod drill;
mod duration;
mod exit;
mod failure;
mod hooks;
mod import;
mod maintain;
mod memory;
mod mounts;
mod notify;
mod preflight;
mod progress;
mod reason;
mod recover;
mod reference;
mod report;
mod restore;
mod restore_plan;
mod retention;
mod s3;
mod secret;
mod task;

pub use archive::{
    ArchiveAction, ArchiveReport, ArchiverState, LogGap, LogStatus, MAX_LISTED_GAPS, RetireAction,
    RetireReport,
};
pub use clouds::{AzureAccess, AzureCredentialFiles, GcsAccess};
pub use connection::{
    CredentialFiles, DatabaseSelection, PostgresqlAccess, SecretFile, TlsAccess, TlsMode, UserName,
};
pub use copy::{CopyAction, CopyBytes, CopyReport, copy_run_id};
pub use databases::{
    DatabaseCount, DatabaseOutcome, DatabaseReport, LeftOut, MAX_LEFT_OUT, MAX_LEFT_OUT_BYTES,
    MAX_REPORTED_DATABASES, MAX_WARNING_BYTES, MAX_WARNINGS,
};
pub use drill::{
    AssertionReport, DrillAction, DrillDurations, DrillOutcome, DrillReport, MAX_ASSERTION_MESSAGE,
    MAX_DRILL_ASSERTIONS,
};
pub use duration::{DurationError, DurationText, SHORTEST_GRACE};
pub use exit::ExitCode;
pub use failure::{ErrorClass, Failure, listed};
pub use hooks::{
    AfterHook, BeforeHook, Hook, HookOnError, HookOutcome, HookReport, HookStage, HookWhen, Hooks,
    SqlText,
};
pub use import::{
    FoundSnapshot, ImportAction, ImportReport, KnownIndex, KnownSnapshots, MAX_FOUND_BYTES,
    MAX_FOUND_DATABASES, MAX_FOUND_SNAPSHOTS, MAX_KNOWN_SNAPSHOTS,
};
pub use maintain::{
    CheckShare, CheckSummary, CollectedReport, DamagedSnapshot, MAX_CHANGED_SNAPSHOTS, MAX_LET_GO,
    MAX_NAMED_OWNERS, MAX_NAMED_SNAPSHOTS, MaintainAction, MaintainReport, RetainChange,
    SeriesRetention, UsageReport,
};
pub use memory::{DEFAULT_WORKERS, out_of_memory, runner_memory_bytes};
pub use mounts::*;
pub use notify::{
    EmailAccess, NOTICE_VERSION, Notice, NoticeBackup, NotificationChannel, NotificationEvent,
    NotifyAction, NotifyReport, SmtpTls, WebhookAccess, WebhookFormat, WebhookUrl,
};
pub use preflight::{PreflightAction, PreflightReport};
pub use progress::{Progress, ProgressPhase};
pub use reason::{Reason, ReasonEntry};
pub use recover::{
    ReachedPoint, RecoverAction, RecoverReport, RecoveryBase, RecoveryDurations, RecoveryPoint,
    RecoveryTimeline, RecoveryWindow, ResolvedPoint,
};
pub use reference::failures_page;
pub use report::{
    BackupReport, ByteCounts, FindReport, InitReport, InspectReport, KeySlotReport, LogPosition,
    Message, Method, MethodChoice, Outcome, Report, ReportBody, RunState, ServerReport,
    VerificationLevel, VerificationReport,
};
pub use restore::{
    Assertion, GlobalsPolicy, GlobalsReport, OnError, ReplaceAction, RequestKey, RestoreAction,
    RestoreDatabase, RestoreReport, RestoreStrategy, TableName,
};
pub use restore_plan::{PlanTerms, PlannedAction, PlannedDatabase, ReplacedDatabase, RestorePlan};
pub use retention::RetentionSpec;
pub use s3::{ObjectLock, ObjectLockMode, S3Access, S3CredentialFiles};
pub use secret::SecretString;
pub use task::{
    AccessMode, Action, BackupAction, Bandwidth, EncryptionAccess, FindAction, InitAction,
    Initialize, InspectAction, KeyAccess, KeyKind, MadeBy, Origin, ReportEndpoint,
    RepositoryAccess, Source, StorageAccess, Subject, SubjectKind, TASK_VERSION, Task, TaskError,
    VolumeClaim,
};
