//! One recovery to a point in time: choose a base and find the point in the log, put both on the
//! volume, let the server beside replay them, and prove where it has ended.
//! `docs/adr/0062-recovery-by-the-operator.md` says why it is done so.

mod arguments;
mod asked;
mod attempt;
mod choice;
mod configuration;
mod drill;
mod replay;
mod volume;
mod words;

use std::path::PathBuf;
use std::time::Instant;

use dbbackup_contract::{
    Failure, Outcome, RECOVERED_DIR, RecoverAction, RecoverReport, SERVER_DIR, SHIM_SOCKET,
};
use jiff::Timestamp;

use self::attempt::Restored;
pub(crate) use self::drill::drill;
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

impl Places {
    /// Those of a pod.
    fn of_pod() -> Self {
        Self { volume: RECOVERED_DIR.into(), server: SERVER_DIR.into(), socket: SHIM_SOCKET.into() }
    }
}

/// Recovers a server, or looks whether it could; a failure is in the report.
pub(crate) async fn recover(order: &Order<'_>, action: &RecoverAction) -> RecoverReport {
    recover_at(order, action, &Places::of_pod()).await
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
    if let Some(restored) = put_back(order, action, places, report, |_| Ok(())).await? {
        restored.recover(order, report).await?;
    }
    Ok(None)
}

/// Chooses base and point, and puts base and log on the volume; `None` of a look. What was chosen
/// has to be `suitable` before anything is written.
async fn put_back<'a>(
    order: &Order<'_>,
    action: &'a RecoverAction,
    places: &'a Places,
    report: &mut RecoverReport,
    suitable: impl FnOnce(&RecoverReport) -> Result<(), Failure>,
) -> Result<Option<Restored<'a>>, Failure> {
    let volume = Volume { folder: &places.volume, request_uid: &action.request_uid };
    let began = Instant::now();
    let repository = order.open().await?;
    report.repository_id = Some(repository.id().to_string());
    // While it lives, the collector leaves alone what base and log need.
    let session = order.step(repository.begin_reading()).await?;
    let chosen = choice::choose(order, &repository, action, report).await;
    report.durations.planning_milliseconds = attempt::milliseconds_since(began);
    let chosen = chosen.and_then(|chosen| suitable(report).map(|()| chosen));
    let restored = match chosen {
        Ok(_) if action.dry_run => Ok(None),
        Ok(chosen) => attempt::restore(order, places, volume, chosen, report).await.map(Some),
        Err(failure) => Err(failure),
    };
    end(session).await;
    restored
}

#[cfg(test)]
mod tests;
