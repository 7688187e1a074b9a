//! Which snapshot of a series is the newest.

use dbbackup_contract::{Failure, FindAction, FindReport, Reason};
use dbbackup_repository::Error;
use jiff::Timestamp;

use super::Order;
use super::open::named;

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
    let FindAction { series, before } = action;
    let found = async {
        repository.latest(series, *before).await.map_err(|error| match error {
            Error::SnapshotNotFound(_) => none_in(series, *before),
            other => other.into(),
        })
    };
    Ok(order.step(found).await?.id().to_string())
}

fn none_in(series: &str, before: Option<Timestamp>) -> Failure {
    let limit = before.map(|time| format!(" from before {time}")).unwrap_or_default();
    Failure::new(Reason::SnapshotNotFound, format!("{series} has no snapshot{limit}"))
        .with_hint("See what there is with: kubectl get backups --output wide (column SNAPSHOT).")
}
