//! Checking a repository while others may delete in it.

use std::sync::Arc;

use dbbackup_contract::{Failure, Progress, ProgressPhase};
use dbbackup_engine::ProgressSink as _;
use dbbackup_postgres::database_of_stream;
use dbbackup_repository::{CheckOptions, CheckProgress, CheckReport, Repository};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::end;
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;

/// Checks, and shows how far it is.
///
/// # Errors
/// What the store says; damage is reported.
pub(crate) async fn checked(
    repository: &Repository,
    options: CheckOptions,
    board: &ProgressBoard<'_>,
    cancel: &CancellationToken,
) -> Result<CheckReport, Failure> {
    // While it lives, the collector deletes nothing that is looked at. A copy that
    // cannot be written has no collector.
    let session = unless_stopped(cancel, repository.begin_reading()).await.ok();
    let (tell, mut told) = watch::channel(CheckProgress::default());
    let options = CheckOptions {
        owner: database_of_stream,
        progress: Some(Arc::new(move |progress| {
            tell.send_replace(progress);
        })),
        cancel: cancel.child_token(),
        ..options
    };
    let checking = unless_stopped(cancel, repository.check(options));
    tokio::pin!(checking);
    let report = loop {
        tokio::select! {
            report = &mut checking => break report,
            Ok(()) = told.changed() => {
                let CheckProgress { bytes_done, bytes_total } = *told.borrow();
                board.update(Progress {
                    phase: ProgressPhase::Verifying,
                    bytes_done,
                    bytes_total: Some(bytes_total),
                    ..Progress::default()
                });
            }
        }
    };
    if let Some(session) = session {
        end(session).await;
    }
    report
}
