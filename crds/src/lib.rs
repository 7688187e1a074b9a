//! The kinds of the API as Rust types.
//!
//! What people write becomes these types; their doc comments are what
//! `kubectl explain` prints, and the CRDs in `crds/yaml/` are generated from
//! them by `generate-crds`. A field stands here only when it works.

// The derive of CEL rules writes a hidden copy of each struct.
#![allow(unreachable_pub)]
// Two printer columns of one type are no mistake.
#![allow(clippy::duplicated_attributes)]

mod archiving;
mod backup;
mod copies;
mod definition;
mod drill;
mod hooks;
mod import;
mod job;
mod notifications;
mod pitr;
mod quantity;
mod reference_page;
mod references;
mod repository;
mod restore;
mod schedule;
mod source;
mod status;
mod storage;

pub use archiving::{ArchiverStatus, ArchiverTask, PointInTimeRecoverySpec};
pub use backup::{
    Backup, BackupPhase, BackupSpec, BackupStatus, BackupTemplate, EraseSpec, RepositoryStatusRef,
    ResolvedBackup,
};
pub use copies::{
    CopyPhase, CopySpec, CopyStatus, MAX_COPIES, MAX_LISTED_COPIES, ScheduleCopyStatus,
    TemplateCopy,
};
pub use dbbackup_contract::{DurationError, DurationText, NotificationEvent};
pub use definition::{definitions, definitions_yaml};
pub use drill::{DrillRun, DrillSpec, DrillStatus, DrillStorageSpec, LastDrill, VerificationSpec};
pub use hooks::{AfterHookSpec, BeforeHookSpec, HooksSpec};
pub use import::{ImportOccasion, ImportPolicy, ImportRun, ImportedSpec, LastImport};
pub use job::{AnnotationText, EnvSpec, JobSpec, LabelText, Resources};
pub use notifications::{
    EmailSpec, MAX_NOTIFICATIONS, NotificationPhase, NotificationSpec, NotificationStatus,
    WebhookSpec,
};
pub use pitr::{
    ClaimAccessMode, NothingMore, PitrPhase, PitrRestore, PitrRestoreSpec, PitrRestoreStatus,
    PitrSource, ReclaimPolicy, RecoveryClaim, RecoveryClaimTemplate, RecoveryDestination,
    RecoveryServerSpec, RecoveryTargetSpec, ResolvedPitr,
};
pub use quantity::{Quantity, QuantityError};
pub use reference_page::reference_page;
pub use references::{
    CaKind, CaRef, CredentialKeys, CredentialsRef, LocalRef, PassphraseRef, RawKeyRef, SecretKeyRef,
};
pub use repository::{
    BackupRepository, BackupRepositorySpec, BackupRepositoryStatus, BandwidthSpec, CheckOutcome,
    CheckSpec, EncryptionKey, EncryptionSpec, KeySlotStatus, LastCheck, LastMaintenance,
    MaintenanceRun, MaintenanceSpec, NoEncryption, RepositoryBytes,
};
pub use restore::{
    LatestSource, ResolvedRestore, RestoreDatabaseSpec, RestoreFrom, RestorePhase, RestoreRequest,
    RestoreRequestSpec, RestoreRequestStatus, SnapshotSource, SwapSpec,
};
pub use schedule::{
    BackupSchedule, BackupScheduleSpec, BackupScheduleStatus, ConcurrencyPolicy, LastBackup,
    LastPreflight, PreflightRun, SlotBaseline,
};
pub use source::{
    DatabasesSpec, PostgresqlSource, PostgresqlTarget, SourceSpec, TargetSpec, TlsSpec,
};
pub use status::{Condition, RawReport, Time};
pub use storage::{
    AzureBlobStorage, GcsStorage, ObjectLockSpec, S3Storage, S3StorageClass, StorageSpec,
    VolumeStorage,
};

/// API group of all kinds.
pub const GROUP: &str = "dbbackup.dev";
/// Version of all kinds.
pub const VERSION: &str = "v1alpha1";
