//! One look whether a backup would work: open the repository, ask the server.

use dbbackup_contract::{
    BackupReport, DatabaseCount, DatabaseOutcome, Failure, Outcome, PreflightAction,
    PreflightReport,
};
use dbbackup_postgres as postgres;
use jiff::Timestamp;

use super::backup::options_of;
use super::open::named;
use super::{Order, why_incomplete};

/// Looks; a failure is in the report.
pub(crate) async fn preflight(order: &Order<'_>, action: &PreflightAction) -> PreflightReport {
    let start_time = Timestamp::now();
    let looked = look(order, action).await;
    let empty = PreflightReport {
        outcome: Outcome::Failed,
        start_time,
        completion_time: Timestamp::now(),
        server: None,
        database_count: DatabaseCount::default(),
        databases: Vec::new(),
        error: None,
    };
    let result = match looked {
        Ok(result) => result,
        Err(error) => {
            let error = Some(named(error, &order.repository.name));
            return PreflightReport { error, ..empty };
        }
    };
    let database_count = DatabaseCount::of(&result.databases);
    let error = why_incomplete(&result.databases, database_count);
    let mut failed = BackupReport::listed(result.databases);
    failed.retain(|database| database.outcome == DatabaseOutcome::Failed);
    PreflightReport {
        outcome: database_count.outcome(),
        server: Some(result.server),
        database_count,
        databases: failed,
        error,
        ..empty
    }
}

async fn look(
    order: &Order<'_>,
    action: &PreflightAction,
) -> Result<postgres::PreflightResult, Failure> {
    // The server first: of what is wrong there the owner of the schedule knows most.
    let result = postgres::preflight(&options_of(order, &action.source), order.cancel).await?;
    order.open().await?;
    Ok(result)
}
