//! What became of a run: the repository is the truth.

use dbbackup_contract::{BackupReport, Failure, InspectAction, InspectReport, Reason, RunState};
use dbbackup_repository::{Error, RunState as Resolved, Snapshot, TombstoneReason};

use super::Order;
use super::open::named;

/// Looks the run up; if it has not committed, makes sure that it never will.
pub(crate) async fn inspect(order: &Order<'_>, action: &InspectAction) -> InspectReport {
    match try_inspect(order, action).await {
        Ok((state, backup)) => InspectReport { state: Some(state), backup, error: None },
        Err(error) => {
            let error = Some(named(error, &order.repository.name));
            InspectReport { state: None, backup: None, error }
        }
    }
}

async fn try_inspect(
    order: &Order<'_>,
    action: &InspectAction,
) -> Result<(RunState, Option<BackupReport>), Failure> {
    let repository = order.open().await?;
    let fence = Some(TombstoneReason::Inspect);
    let run = repository.resolve_run(&action.series, &action.run_id, action.slot_time, fence);
    match order.step(run).await? {
        Resolved::Committed(snapshot) => {
            let report = committed_report(order, &snapshot).await?;
            Ok((RunState::Committed, Some(report)))
        }
        Resolved::Free { .. } => Ok((RunState::NotCommitted, None)),
        Resolved::Forgotten(id) => Err(Error::Forgotten(id.to_string()).into()),
        Resolved::Unresolved { attempt } => {
            Err(Failure::new(Reason::OutcomeUnknown, format!("attempt {attempt} may still commit")))
        }
    }
}

/// The report that was committed with a snapshot, verified as it is now.
pub(super) async fn committed_report(
    order: &Order<'_>,
    snapshot: &Snapshot,
) -> Result<BackupReport, Failure> {
    let mut report: BackupReport =
        serde_json::from_value(snapshot.report().clone()).map_err(|error| {
            Failure::new(
                Reason::RepositoryDamaged,
                format!("snapshot {} holds no report of a backup: {error}", snapshot.id()),
            )
        })?;
    super::backup::verify(order, snapshot, &mut report).await?;
    Ok(report)
}
