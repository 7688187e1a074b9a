//! What a Job's task and a command of a person share: each takes an [`Order`]
//! and an action, and always gives a report.

mod backup;
mod init;
mod inspect;
mod open;
mod restore;

use std::path::Path;
use std::time::Duration;

use dbbackup_contract::{DEFAULT_WORKERS, RepositoryAccess};
use tokio_util::sync::CancellationToken;

use crate::progress::ProgressBoard;

pub(crate) use backup::back_up;
pub(crate) use init::init;
pub(crate) use inspect::inspect;
pub(crate) use open::open;
pub(crate) use restore::restore;

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
    /// Who watches.
    pub(crate) board: &'a ProgressBoard<'a>,
    /// Cancelled when the work has to stop.
    pub(crate) cancel: &'a CancellationToken,
}

impl<'a> Order<'a> {
    /// An order of a person at a terminal.
    pub(crate) fn by_hand(
        repository: &'a RepositoryAccess,
        board: &'a ProgressBoard<'a>,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            repository,
            workers: DEFAULT_WORKERS,
            stall_timeout: Duration::from_secs(900),
            scratch: Path::new("/dev/shm"),
            board,
            cancel,
        }
    }

    /// The same order with another stall timeout, in seconds.
    pub(crate) fn with_stall_timeout(mut self, seconds: u64) -> Self {
        self.stall_timeout = Duration::from_secs(seconds);
        self
    }
}
