//! What a Job's task and a command of a person share: each takes an [`Order`]
//! and an action, and always gives a report.

mod archive;
mod backup;
mod check;
mod copy;
mod find;
#[cfg(test)]
mod fixtures;
mod found;
mod hooks;
mod init;
mod inspect;
mod keep_log;
mod maintain;
mod notify;
mod once;
mod open;
mod place;
mod plan;
#[cfg(test)]
mod postgres_server;
mod preflight;
mod recover;
mod restore;
mod retire;
mod storage;

use std::path::Path;
use std::time::Duration;

use dbbackup_contract::{
    DEFAULT_WORKERS, DatabaseCount, DatabaseOutcome, DatabaseReport, Failure, Outcome,
    PostgresqlAccess, Reason, RepositoryAccess,
};
use dbbackup_postgres::{ClientFolders, ServerConnection};
use dbbackup_repository::Repository;
use tokio_util::sync::CancellationToken;

use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;

pub(crate) use archive::{Archiving, KeptLog, LogWatcher, archive};
pub(crate) use backup::{BASE_KIND, back_up, committed};
pub(crate) use check::checked;
pub(crate) use copy::copy;
pub(crate) use find::find;
pub(crate) use found::look;
pub(crate) use init::init;
pub(crate) use inspect::inspect;
pub(crate) use keep_log::keep_log;
pub(crate) use maintain::{maintain, tidy_logs};
pub(crate) use notify::notify;
pub(crate) use open::{end, named, open, open_with_keys, read_key};
pub(crate) use plan::{Plan, Policy, RetainChanges, plan_forgetting};
pub(crate) use preflight::preflight;
pub(crate) use recover::{drill, recover};
pub(crate) use restore::{Settlement, restore};
pub(crate) use retire::retire;

/// What all work needs beside its action.
pub(crate) struct Order<'a> {
    /// The repository.
    pub(crate) repository: &'a RepositoryAccess,
    /// Threads of the pipeline.
    pub(crate) workers: u32,
    /// No byte for so long is a stall.
    pub(crate) stall_timeout: Duration,
    /// Folder for files that clients of a server need.
    pub(crate) scratch: &'a Path,
    /// Whether a snapshot is restored that was written off. No task says so.
    pub(crate) even_if_written_off: bool,
    /// Who watches.
    pub(crate) board: &'a ProgressBoard<'a>,
    /// Cancelled when the work has to stop.
    pub(crate) cancel: &'a CancellationToken,
}

impl<'a> Order<'a> {
    /// An order of a person at a terminal.
    pub(crate) fn by_hand(
        repository: &'a RepositoryAccess,
        stall_timeout: Duration,
        board: &'a ProgressBoard<'a>,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            repository,
            workers: DEFAULT_WORKERS,
            stall_timeout,
            scratch: Path::new("/dev/shm"),
            even_if_written_off: false,
            board,
            cancel,
        }
    }

    /// Does a step of the work, unless the run is told to stop first.
    async fn step<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        unless_stopped(self.cancel, work).await
    }

    /// Opens the repository.
    async fn open(&self) -> Result<Repository, Failure> {
        self.step(open(self.repository, self.stall_timeout)).await
    }
}

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How an engine reaches the server of an action.
fn server_connection(order: &Order<'_>, access: &PostgresqlAccess) -> ServerConnection {
    connection_to(access, order.scratch, order.stall_timeout)
}

/// The same where no repository is needed.
fn connection_to(
    access: &PostgresqlAccess,
    scratch: &Path,
    stall_timeout: Duration,
) -> ServerConnection {
    ServerConnection {
        access: access.clone(),
        scratch_dir: scratch.to_owned(),
        clients: ClientFolders::default(),
        connect_timeout: CONNECT_TIMEOUT,
        stall_timeout,
    }
}

/// The failure that stands for all: the first failed database's, with its name.
fn why_incomplete(databases: &[DatabaseReport], count: DatabaseCount) -> Option<Failure> {
    if count.total == 0 {
        let message = "no database was left: all are excluded, or allow no connections";
        return Some(Failure::new(Reason::DatabaseNotFound, message));
    }
    let failed = databases.iter().find(|database| database.outcome == DatabaseOutcome::Failed)?;
    let error = failed
        .error
        .clone()
        .unwrap_or_else(|| Failure::new(Reason::Internal, "no reason is known"));
    let message = format!("{}: {}", failed.name, error.message);
    // Of a run without any success the first reason decides whether it is tried again.
    let failure = match count.outcome() {
        Outcome::Failed => Failure { message, ..error },
        _ => Failure::new(Reason::DatabaseFailed, format!("{message} ({})", error.reason))
            .with_hint(error.hint),
    };
    Some(failure)
}
