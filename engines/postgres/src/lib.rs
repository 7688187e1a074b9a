//! Backup and restore of PostgreSQL servers.
//!
//! [`backup`] reads databases of a server into named streams; [`restore`] makes
//! new databases from such streams, and [`settle`] ends it once its outcome is
//! known to whoever asked. `docs/postgresql.md` says what streams there are.

mod archive;
mod client_files;
mod clients;
mod connection;
mod credentials;
mod errors;
mod options;
mod tls;

pub use clients::ClientFolders;
pub use options::{
    BackupOptions, BackupResult, PlacedDatabase, RestoreOptions, RestoreResult, ServerConnection,
};

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{BackupSink, BackupSource, ProgressSink};
use tokio_util::sync::CancellationToken;

/// Backs up databases of a server into `sink`.
///
/// One database's failure is in its report; the others go on, and the failed
/// one leaves no stream behind.
///
/// # Errors
/// When nothing can be done at all, or the server, the sink or the run itself is lost.
pub async fn backup(
    options: &BackupOptions,
    sink: &dyn BackupSink,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<BackupResult, Failure> {
    let _ = (options, sink, progress, cancel);
    Err(Failure::new(Reason::Internal, "not written yet"))
}

/// Makes new databases from the streams of a backup. They still bear the
/// request's mark: report the outcome first, then call [`settle`].
///
/// # Errors
/// When nothing can be done at all, or the server, the source or the run itself is lost.
pub async fn restore(
    options: &RestoreOptions,
    source: &dyn BackupSource,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<RestoreResult, Failure> {
    let _ = (options, source, progress, cancel);
    Err(Failure::new(Reason::Internal, "not written yet"))
}

/// Takes the request's mark from restored databases; their own comments take its place.
///
/// Call it when the outcome is stored where a retry would find it: the mark is
/// how a retry knows that the work is done already.
///
/// # Errors
/// When the server cannot be reached. The databases are in place all the same.
pub async fn settle(options: &RestoreOptions, result: &RestoreResult) -> Result<(), Failure> {
    let _ = (options, result);
    Err(Failure::new(Reason::Internal, "not written yet"))
}
