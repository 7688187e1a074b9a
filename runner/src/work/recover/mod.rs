//! One recovery to a point in time: choose a base and find the point in the log, put both on the
//! volume, let the server beside replay them, and prove where it has ended.
//! `docs/adr/0062-recovery-by-the-operator.md` says why it is done so.

mod arguments;
mod attempt;
mod choice;
mod configuration;
mod replay;
mod volume;
mod words;

use std::path::PathBuf;
use std::time::Instant;

use dbbackup_contract::{
    Failure, Outcome, RECOVERED_DIR, RecoverAction, RecoverReport, SERVER_DIR, SHIM_SOCKET,
};
use jiff::Timestamp;

use self::volume::{Found, Volume};
use super::open::named;
use super::{Order, end};

/// Where a recovery takes place.
struct Places {
    /// The volume, in this container and in the server's.
    volume: PathBuf,
    /// The folder beside it that both containers share.
    server: PathBuf,
    /// The socket in it.
    socket: PathBuf,
}

/// Recovers a server, or looks whether it could; a failure is in the report.
pub(crate) async fn recover(order: &Order<'_>, action: &RecoverAction) -> RecoverReport {
    let places = Places {
        volume: RECOVERED_DIR.into(),
        server: SERVER_DIR.into(),
        socket: SHIM_SOCKET.into(),
    };
    recover_at(order, action, &places).await
}

async fn recover_at(order: &Order<'_>, action: &RecoverAction, places: &Places) -> RecoverReport {
    let mut report = RecoverReport::begun(Timestamp::now());
    match try_recover(order, action, places, &mut report).await {
        Ok(Some(before)) => return *before,
        Ok(None) if action.dry_run => report.outcome = Outcome::Succeeded,
        // As it stands in the volume's mark.
        Ok(None) => return report,
        Err(error) => {
            report.outcome = Outcome::Failed;
            report.error = Some(named(error, &order.repository.name));
        }
    }
    report.completion_time = Timestamp::now();
    report
}

/// Gives the report of an attempt before this one, where that was complete.
async fn try_recover(
    order: &Order<'_>,
    action: &RecoverAction,
    places: &Places,
    report: &mut RecoverReport,
) -> Result<Option<Box<RecoverReport>>, Failure> {
    let volume = Volume { folder: &places.volume, request_uid: &action.request_uid };
    if !action.dry_run
        && let Found::Complete(before) = volume.look()?
    {
        tracing::info!("an attempt before this one has recovered it");
        return Ok(Some(before));
    }
    let began = Instant::now();
    let repository = order.open().await?;
    report.repository_id = Some(repository.id().to_string());
    // While it lives, the collector leaves alone what base and log need.
    let session = order.step(repository.begin_reading()).await?;
    let chosen = choice::choose(order, &repository, action, report).await;
    report.durations.planning_milliseconds = attempt::milliseconds_since(began);
    let restored = match chosen {
        Ok(_) if action.dry_run => Ok(None),
        Ok(chosen) => attempt::restore(order, places, volume, chosen, report).await.map(Some),
        Err(failure) => Err(failure),
    };
    end(session).await;
    if let Some(restored) = restored? {
        restored.recover(order, report).await?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
