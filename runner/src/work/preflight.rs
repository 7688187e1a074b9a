//! One look whether a backup would work: open the repository, ask the server.

use dbbackup_contract::{
    BackupReport, DatabaseCount, DatabaseOutcome, Failure, HookReport, Method, Outcome,
    PreflightAction, PreflightReport,
};
use dbbackup_postgres as postgres;
use jiff::Timestamp;

use super::backup::{must_be_whole, options_of};
use super::open::named;
use super::{Order, hooks, why_incomplete};

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
        hooks: Vec::new(),
        error: None,
    };
    let (result, hooks, of_hook) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let error = Some(named(error, &order.repository.name));
            return PreflightReport { error, ..empty };
        }
    };
    let database_count = DatabaseCount::of(&result.databases);
    let error = why_incomplete(&result.databases, database_count);
    // Without the hook nothing is read at all.
    let outcome = if of_hook.is_some() { Outcome::Failed } else { database_count.outcome() };
    let mut failed = BackupReport::listed(result.databases);
    failed.retain(|database| database.outcome == DatabaseOutcome::Failed);
    PreflightReport {
        outcome,
        server: Some(result.server),
        database_count,
        databases: failed,
        hooks,
        error: of_hook.or(error),
        ..empty
    }
}

async fn look(
    order: &Order<'_>,
    action: &PreflightAction,
) -> Result<(postgres::PreflightResult, Vec<HookReport>, Option<Failure>), Failure> {
    // The server first: of what is wrong there the owner of the schedule knows most.
    let options = options_of(order, &action.source);
    let result = match action.method {
        Method::Logical => postgres::preflight(&options, order.cancel).await?,
        Method::Physical => {
            must_be_whole(&options)?;
            let archives = action.archives_log;
            postgres::preflight_files(&options.server, archives, order.cancel).await?
        }
    };
    let (hooks, of_hook) = hooks::look(order, &action.source, &action.hooks).await?;
    order.open().await?;
    Ok((result, hooks, of_hook))
}
