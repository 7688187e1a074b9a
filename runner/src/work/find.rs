//! Which snapshot of a series is the newest that holds what is asked for.

use std::sync::Arc;

use dbbackup_contract::{Failure, FindAction, FindReport, Reason};
use dbbackup_postgres::holds_databases;
use dbbackup_repository::{Error, Repository, Snapshot};
use jiff::Timestamp;

use super::Order;
use super::open::named;
use crate::streams::SnapshotSource;

/// Finds the newest snapshot; a failure is in the report.
pub(crate) async fn find(order: &Order<'_>, action: &FindAction) -> FindReport {
    match try_find(order, action).await {
        Ok(id) => FindReport { snapshot_id: Some(id), error: None },
        Err(error) => {
            FindReport { snapshot_id: None, error: Some(named(error, &order.repository.name)) }
        }
    }
}

async fn try_find(order: &Order<'_>, action: &FindAction) -> Result<String, Failure> {
    let repository = order.open().await?;
    let FindAction { series, before, databases } = action;
    let found = async {
        let newest = repository.latest(series, *before).await.map_err(|error| match error {
            Error::SnapshotNotFound(_) => none_in(series, *before),
            other => other.into(),
        })?;
        if is_from_before(&newest, *before) && holds(&newest, databases).await? {
            return Ok::<_, Failure>(newest);
        }
        match newest_with(&repository, action).await? {
            Some(older) => Ok(older),
            // Where none holds them, the restore of the newest says what there is.
            None if is_from_before(&newest, *before) => Ok(newest),
            None => Err(none_in(series, *before)),
        }
    };
    Ok(order.step(found).await?.id().to_string())
}

/// Whether the backup had ended by then: one that began earlier may have read its rows later.
fn is_from_before(snapshot: &Snapshot, before: Option<Timestamp>) -> bool {
    let ended = snapshot.report().get("completionTime").cloned();
    let ended = ended.and_then(|time| serde_json::from_value::<Timestamp>(time).ok());
    let last = ended.max(Some(snapshot.about().slot_time));
    before.is_none_or(|before| last.is_none_or(|last| last < before))
}

/// A database that is lost is in no backup that was made since.
async fn newest_with(
    repository: &Repository,
    action: &FindAction,
) -> Result<Option<Snapshot>, Failure> {
    let mut found = repository.snapshots(Some(&action.series)).await?.snapshots;
    found.retain(|one| is_from_before(one, action.before) && one.written_off().is_none());
    for snapshot in found.into_iter().rev() {
        if holds(&snapshot, &action.databases).await? {
            tracing::warn!(
                id = %snapshot.id(),
                slot = %snapshot.about().slot_time,
                "newer backups lack a database that is asked for, or had not ended; this one has them all"
            );
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

async fn holds(snapshot: &Snapshot, databases: &[String]) -> Result<bool, Failure> {
    holds_databases(&SnapshotSource::new(Arc::new(snapshot.clone())), databases).await
}

fn none_in(series: &str, before: Option<Timestamp>) -> Failure {
    let limit = before.map(|time| format!(" from before {time}")).unwrap_or_default();
    Failure::new(Reason::SnapshotNotFound, format!("{series} has no snapshot{limit}"))
        .with_hint("See what there is with: kubectl get backups --output wide (column SNAPSHOT).")
}
