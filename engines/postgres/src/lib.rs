//! Backup and restore of PostgreSQL servers.
//!
//! [`backup()`] reads databases of a server into named streams, [`preflight()`] looks whether it
//! could; [`restore()`] makes new databases from such streams, and [`settle`] ends it once its
//! outcome is known to whoever asked. [`execute()`] carries out SQL of somebody else.
//! `docs/postgresql.md` says what streams there are.

mod archive;
mod archiver;
mod backup;
mod base;
mod client_files;
mod clients;
mod connection;
mod control_file;
mod credentials;
mod database;
mod drill;
mod errors;
mod execute;
mod globals;
mod lsn;
mod options;
mod physical;
mod progress;
mod recovery;
mod replication;
mod restore;
mod selection;
mod server;
mod sql;
mod tls;
mod versions;
mod wal;
mod watch;

pub use archive::database_of_stream;
pub use archiver::{
    ArchiveOptions, ArchiveState, ArchiveWatcher, LogArchive, LogParts, QUIET_AFTER,
    archive as archive_log, drop_slot, slot_name,
};
pub use backup::{backup, preflight};
pub use clients::ClientFolders;
pub use control_file::{ControlFile, ControlState, read_control};
pub use drill::{Answers, RecoveredServer};
pub use execute::{execute, open_database};
pub use lsn::{Lsn, LsnError};
pub use options::{
    BackupOptions, BackupResult, LeftBehind, Leftover, Permission, Permitted, PlacedDatabase,
    PreflightResult, Replace, RestoreOptions, RestoreResult, ServerConnection, Strategy,
};
pub use physical::{
    FilesOptions, RestoreFilesOptions, RestoredFiles, backup_files, preflight_files, restore_files,
};
pub use recovery::{
    ArchivedLog, LogPartHead, PlanError, RecoveryAction, RecoveryPlan, RecoveryRequest,
    RecoveryTarget, TimelineChoice, forget_recovery_settings, plan_recovery, recover_files,
};
pub use restore::{holds_databases, placed, restore, settle};
pub use server::identify;
pub use versions::major_of;
