//! One restore: find the snapshot, hold a session on it, let the engine put it back. What
//! replaces databases for a request is carried out once (`docs/format.md`, "Ledger").

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    BackupReport, DatabaseCount, DatabaseOutcome, DatabaseReport, ErrorClass, Failure, OnError,
    Outcome, PlannedAction, PlannedDatabase, Reason, ReplaceAction, RestoreAction, RestoreReport,
};
use dbbackup_postgres::{
    self as postgres, Permission, PlacedDatabase, Replace, RestoreOptions, RestoreResult, Strategy,
};
use dbbackup_repository::Snapshot;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::backup::{BASE_KIND, SNAPSHOT_KIND};
use super::once::Once;
use super::open::named;
use super::{Order, end, server_connection, why_incomplete};
use crate::patience::with_grace;
use crate::streams::SnapshotSource;

/// How long another restore may hold the lock on a database's name.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// What is left to do when whoever asked knows the outcome.
pub(crate) struct Settlement {
    options: RestoreOptions,
    placed: Vec<PlacedDatabase>,
}

impl Settlement {
    /// Takes the request's marks from the restored databases. Until then a
    /// retry finds them, and does not do the work twice.
    pub(crate) async fn settle(self, cancel: &CancellationToken) {
        let kept = "restored databases keep the request's mark as their comment";
        match with_grace(cancel, postgres::settle(&self.options, &self.placed)).await {
            Some(Ok(())) => {}
            Some(Err(failure)) => tracing::warn!(%failure, "{kept}"),
            None => tracing::warn!("{kept}: the run was told to stop"),
        }
    }
}

/// Restores the databases; a failure is in the report.
pub(crate) async fn restore(
    order: &Order<'_>,
    action: &RestoreAction,
) -> (RestoreReport, Option<Settlement>) {
    let start_time = Timestamp::now();
    let mut snapshot_id = None;
    match try_restore(order, action, start_time, &mut snapshot_id).await {
        Ok(ended) => ended,
        Err(error) => {
            let error = Some(named(error, &order.repository.name));
            (RestoreReport { error, snapshot_id, ..empty_report(start_time) }, None)
        }
    }
}

async fn try_restore(
    order: &Order<'_>,
    action: &RestoreAction,
    start_time: Timestamp,
    snapshot_id: &mut Option<String>,
) -> Result<(RestoreReport, Option<Settlement>), Failure> {
    let repository = order.open().await?;
    let snapshot = order.step(repository.find(&action.snapshot)).await?;
    *snapshot_id = Some(snapshot.id().to_string());
    has_databases(&snapshot)?;
    if !order.even_if_written_off {
        snapshot.must_not_be_written_off()?;
    }
    let once = Once::of(action, &repository)?;
    let options = options(order, action, &snapshot, once.as_ref());
    // While it lives, the collector leaves alone what the snapshot needs.
    let session = order.step(repository.begin_reading()).await?;
    let source = SnapshotSource::new(Arc::new(snapshot));
    let ended = carry_out(order, action, &options, &source, once.as_deref()).await;
    end(session).await;
    let (mut report, placed) = ended?;
    report.start_time = start_time;
    report.snapshot_id.clone_from(snapshot_id);
    if let Some(once) = once.filter(|_| !placed.is_empty())
        && once.report_before().is_none()
        && let Err(failure) = once.note(order, &report).await
    {
        let error = Some(in_place_all_the_same(failure));
        return Ok((RestoreReport { outcome: Outcome::Failed, error, ..report }, None));
    }
    Ok((report, Some(Settlement { options, placed })))
}

/// What came of it, and what is in place; where an attempt before this one has carried it out,
/// what that has reported.
async fn carry_out(
    order: &Order<'_>,
    action: &RestoreAction,
    options: &RestoreOptions,
    source: &SnapshotSource,
    once: Option<&Once>,
) -> Result<(RestoreReport, Vec<PlacedDatabase>), Failure> {
    let restored = postgres::restore(options, source, order.board, order.cancel).await;
    if let Some(report) = once.and_then(Once::report_before) {
        return Ok((report, postgres::placed(options, source, order.cancel).await?));
    }
    let result = restored?;
    Ok((report_of(&result, action), result.placed))
}

/// The failure of a note says first what is true of the databases. Another attempt finds them
/// done, and notes it.
fn in_place_all_the_same(failure: Failure) -> Failure {
    let message = format!(
        "the databases are in place, and that could not be noted in the repository: {}",
        failure.message
    );
    let class = match failure.reason {
        Reason::AlreadyCarriedOut | Reason::CarriedOutInPart => failure.class,
        _ => ErrorClass::Retryable,
    };
    Failure { class, message, ..failure }
}

fn options(
    order: &Order<'_>,
    action: &RestoreAction,
    snapshot: &Snapshot,
    once: Option<&Arc<Once>>,
) -> RestoreOptions {
    let missing = if action.databases.is_empty() { missing(snapshot) } else { Vec::new() };
    let snapshot = snapshot.id().to_string();
    // What was put in place is known by the mark until it is settled: also to a request that
    // was created anew, whose UID is another.
    let request = once.map_or_else(|| action.request_uid.clone(), |once| once.mark());
    RestoreOptions {
        server: server_connection(order, &action.target),
        databases: action.databases.clone(),
        globals: action.globals,
        no_owner: action.no_owner,
        role_map: action.role_map.clone(),
        strategy: action.replace.as_ref().map_or(Strategy::CreateNew, strategy),
        is_continued: action.replace.as_ref().is_some_and(|replace| replace.is_continued),
        // A retry that would take another snapshot must not take up what this one began.
        request_uid: format!("{request}@{snapshot}"),
        lock_timeout: LOCK_TIMEOUT,
        snapshot,
        dry_run: action.dry_run,
        approved_plan: action.approved_plan.clone(),
        on_error: action.on_error,
        assertions: action.assertions.clone(),
        missing,
        permission: once.map_or_else(Permission::given, Once::permission),
    }
}

fn strategy(replace: &ReplaceAction) -> Strategy {
    let how = Replace {
        terminate_sessions: replace.terminate_sessions,
        lock_timeout: Duration::from_secs(replace.lock_timeout_seconds),
        stamp: replace.time.strftime("%Y%m%dt%H%M%Sz").to_string(),
    };
    if replace.keep { Strategy::Swap(how) } else { Strategy::Overwrite(how) }
}

/// Refuses what the command `store` made.
fn has_databases(snapshot: &Snapshot) -> Result<(), Failure> {
    if snapshot.about().kind == SNAPSHOT_KIND {
        return Ok(());
    }
    if snapshot.about().kind == BASE_KIND {
        let message = format!("snapshot {} holds the files of a whole server", snapshot.id());
        return Err(Failure::new(Reason::DatabaseNotFound, message).with_hint(
            "Put them into a folder with: dbbackup-runner recover REPO SNAPSHOT --data-dir FOLDER.",
        ));
    }
    let message = format!("snapshot {} holds what `store` took, and no databases", snapshot.id());
    Err(Failure::new(Reason::DatabaseNotFound, message)
        .with_hint("Give it back with: dbbackup-runner fetch REPO SNAPSHOT."))
}

/// Databases that a restore of all would bring back if their backup had not
/// failed: they are no part of the snapshot, and a restore without them is not whole.
fn missing(snapshot: &Snapshot) -> Vec<DatabaseReport> {
    let Ok(report) = serde_json::from_value::<BackupReport>(snapshot.report().clone()) else {
        return Vec::new();
    };
    let failed =
        report.databases.into_iter().filter(|found| found.outcome == DatabaseOutcome::Failed);
    failed
        .map(|database| {
            let why =
                database.error.map_or_else(String::new, |error| format!(": {}", error.message));
            let message = format!("the snapshot does not hold it, its backup failed{why}");
            let error = Failure::new(Reason::DatabaseNotFound, message).with_hint(
                "Restore it from an older snapshot, or name the databases that you want.",
            );
            DatabaseReport { bytes: 0, tables: 0, rows: 0, error: Some(error), ..database }
        })
        .collect()
}

fn report_of(result: &RestoreResult, action: &RestoreAction) -> RestoreReport {
    if !result.is_carried_out {
        return report_of_plan(result, action);
    }
    let database_count = DatabaseCount::of(&result.databases);
    RestoreReport {
        outcome: database_count.outcome(),
        server: Some(result.server.clone()),
        restored_bytes: result.restored_bytes,
        globals: result.globals.clone(),
        database_count,
        databases: BackupReport::listed(result.databases.clone()),
        error: why_incomplete(&result.databases, database_count),
        ..empty_report(Timestamp::now())
    }
}

/// Of a restore that was only planned, or whose plan is not the one that was approved.
fn report_of_plan(result: &RestoreResult, action: &RestoreAction) -> RestoreReport {
    let plan = &result.plan;
    let is_left = |it: &PlannedDatabase| it.action != PlannedAction::Refuse;
    let goes_on = action.on_error == OnError::Continue && plan.databases.iter().any(is_left);
    let (outcome, error) = match (&action.approved_plan, &result.refused) {
        (Some(approved), _) if !action.dry_run => {
            let message = format!("approvedPlan is {approved}, and the plan is {}", plan.digest);
            (Outcome::Failed, Some(Failure::new(Reason::PlanChanged, message)))
        }
        (_, Some((name, error))) if !goes_on => {
            let message = format!("{name}: {}", error.message);
            (Outcome::Failed, Some(Failure { message, ..error.clone() }))
        }
        _ => (Outcome::Succeeded, None),
    };
    RestoreReport {
        outcome,
        server: Some(result.server.clone()),
        plan: Some(plan.clone()),
        error,
        ..empty_report(Timestamp::now())
    }
}

pub(super) fn empty_report(start_time: Timestamp) -> RestoreReport {
    RestoreReport {
        outcome: Outcome::Failed,
        snapshot_id: None,
        start_time,
        completion_time: Timestamp::now(),
        server: None,
        restored_bytes: 0,
        globals: None,
        database_count: DatabaseCount::default(),
        databases: Vec::new(),
        plan: None,
        error: None,
    }
}
