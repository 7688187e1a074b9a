//! Whether a backup would work, before one is due.

use dbbackup_contract::{DatabaseOutcome, DatabaseReport, Failure, ServerReport};
use tokio_util::sync::CancellationToken;

use super::dump::prepare;
use super::{Gathered, answers, gather, size_of};
use crate::errors::is_session_lost;
use crate::globals::read_globals;
use crate::selection::Choice;
use crate::watch::Guard;
use crate::{BackupOptions, PreflightResult};

/// Asks the server for all that a backup asks it for before it reads rows: who it is, its
/// databases and roles, and of each database that would be backed up whether all of it may be
/// read. A database that could not be has its failure in its report.
///
/// # Errors
/// When no backup could be made at all, or the server or the run itself is lost.
pub async fn preflight(
    options: &BackupOptions,
    cancel: &CancellationToken,
) -> Result<PreflightResult, Failure> {
    let guard = Guard::new(&options.server, cancel);
    let Gathered { server, chosen, .. } = gather(options, &guard).await?;
    guard.waiting_for("the server to list its roles");
    guard.on(&server.session, read_globals(&server.session)).await?;
    let mut databases = Vec::new();
    let mut size_bytes = 0;
    for (database, choice) in &chosen {
        let mut report = DatabaseReport::new(&database.name, DatabaseOutcome::Skipped);
        if *choice == Choice::Take {
            size_bytes += size_of(database);
            report.outcome = DatabaseOutcome::Succeeded;
            if let Err(failure) = prepare(options, &server, &guard, &database.name).await {
                if guard.is_stopped() {
                    return Err(failure);
                }
                // Is it this database, or has the server gone?
                if let Err(lost) = answers(&guard, &server.session).await {
                    return Err(if is_session_lost(&failure) { failure } else { lost });
                }
                report.outcome = DatabaseOutcome::Failed;
                report.error = Some(failure);
            }
        }
        databases.push(report);
    }
    let server = ServerReport { version: server.version, identity: server.identity, size_bytes };
    Ok(PreflightResult { server, databases })
}
