//! One restore: find the snapshot, hold a session on it, let the engine put it back.

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    BackupReport, DatabaseCount, Failure, Outcome, Reason, RestoreAction, RestoreReport,
    RestoreStrategy, SnapshotSelector,
};
use dbbackup_postgres::{self as postgres, RestoreOptions, RestoreResult};
use dbbackup_repository::{Repository, Snapshot};
use jiff::Timestamp;

use super::{Order, open, server_connection, why_incomplete};
use crate::streams::SnapshotSource;

/// How long another restore may hold the lock on a database's name.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// A restore that has ended, and what is left to do when its report has arrived.
pub(crate) struct Restored {
    pub(crate) report: RestoreReport,
    settlement: Option<(RestoreOptions, RestoreResult)>,
}

impl Restored {
    /// Takes the request's marks from the restored databases. Until then a
    /// retry would find them, and not do the work twice.
    pub(crate) async fn settle(self) {
        if let Some((options, result)) = self.settlement
            && let Err(failure) = postgres::settle(&options, &result).await
        {
            tracing::warn!(%failure, "restored databases keep the request's mark as their comment");
        }
    }
}

/// Restores the databases; a failure is in the report.
pub(crate) async fn restore(order: &Order<'_>, action: &RestoreAction) -> Restored {
    let start_time = Timestamp::now();
    let mut snapshot_id = None;
    match try_restore(order, action, &mut snapshot_id).await {
        Ok((options, result)) => Restored {
            report: report_of(&result, start_time, snapshot_id),
            settlement: Some((options, result)),
        },
        Err(error) => Restored {
            report: RestoreReport {
                error: Some(error),
                snapshot_id,
                ..empty_report(start_time)
            },
            settlement: None,
        },
    }
}

async fn try_restore(
    order: &Order<'_>,
    action: &RestoreAction,
    snapshot_id: &mut Option<String>,
) -> Result<(RestoreOptions, RestoreResult), Failure> {
    let RestoreStrategy::CreateNew = action.strategy;
    let repository = open(order.repository).await?;
    let snapshot = find(&repository, &action.snapshot).await?;
    *snapshot_id = Some(snapshot.id().to_string());
    let options = RestoreOptions {
        server: server_connection(order, &action.target),
        databases: action.databases.clone(),
        globals: action.globals,
        request_uid: action.request_uid.clone(),
        lock_timeout: LOCK_TIMEOUT,
    };
    // While it lives, the collector leaves alone what the snapshot needs.
    let session = repository.begin_reading(order.cancel).await?;
    let source = SnapshotSource::new(Arc::new(snapshot));
    let result = postgres::restore(&options, &source, order.board, order.cancel).await;
    session.end().await;
    Ok((options, result?))
}

async fn find(repository: &Repository, selector: &SnapshotSelector) -> Result<Snapshot, Failure> {
    match selector {
        SnapshotSelector::Id(prefix) => Ok(repository.find(prefix).await?),
        SnapshotSelector::Latest { series, before } => {
            repository.latest(series, *before).await?.ok_or_else(|| {
                let limit = before.map(|time| format!(" before {time}")).unwrap_or_default();
                Failure::new(
                    Reason::SnapshotNotFound,
                    format!("series {series} has no snapshot{limit}"),
                )
            })
        }
    }
}

fn report_of(
    result: &RestoreResult,
    start_time: Timestamp,
    snapshot_id: Option<String>,
) -> RestoreReport {
    let database_count = DatabaseCount::of(&result.databases);
    RestoreReport {
        outcome: database_count.outcome(),
        snapshot_id,
        server: Some(result.server.clone()),
        restored_bytes: result.restored_bytes,
        globals: result.globals.clone(),
        database_count,
        databases: BackupReport::listed(result.databases.clone()),
        error: why_incomplete(&result.databases, database_count),
        ..empty_report(start_time)
    }
}

fn empty_report(start_time: Timestamp) -> RestoreReport {
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
        error: None,
    }
}
