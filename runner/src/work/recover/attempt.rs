//! Base and log on the volume, a server that replays them, and the proof that it ended where it
//! should.

use std::time::Instant;

use dbbackup_contract::{
    DrillAction, DrillReport, Failure, Outcome, Progress, ProgressPhase, ReachedPoint, Reason,
    RecoverReport, ResolvedPoint,
};
use dbbackup_engine::ProgressSink as _;
use dbbackup_postgres::{
    ControlFile, ControlState, RecoveryPlan, RestoreFilesOptions, RestoredFiles,
    forget_recovery_settings, read_control,
};
use jiff::Timestamp;

use super::super::Order;
use super::Places;
use super::choice::Chosen;
use super::configuration;
use super::replay::{Beside, Expected};
use super::volume::{Taken, Volume};
use super::words::position;

/// Base and log on the volume, and the server's container, which waits.
pub(super) struct Restored<'a> {
    volume: Taken<'a>,
    beside: Beside<'a>,
    plan: RecoveryPlan,
}

/// Puts base and log on the volume. That the image fits is made sure of before.
///
/// # Errors
/// `ServerImageUnsuitable`, those of [`Volume::take`], and what the repository says.
pub(super) async fn restore<'a>(
    order: &Order<'_>,
    places: &'a Places,
    volume: Volume<'a>,
    chosen: Chosen<'_>,
    report: &mut RecoverReport,
) -> Result<Restored<'a>, Failure> {
    let Chosen { plan, source, log, needed } = chosen;
    let version = plan.server_version();
    let beside = Beside::reach(order, &places.server, &places.socket, version).await?;
    let volume = order.step(volume.take(needed)).await?;
    let began = Instant::now();
    let options = RestoreFilesOptions {
        data_dir: volume.data_dir(),
        tablespace_dir: Some(volume.tablespace_dir()),
    };
    let files = plan.carry_out(&options, &source, &log, order.board, order.cancel).await;
    let files = files.map_err(of_the_volume)?;
    report.restored_bytes = files.bytes;
    report.durations.restoring_milliseconds = milliseconds_since(began);
    complete(&volume, &files, report)?;
    Ok(Restored { volume, beside, plan })
}

/// Writes what was not in the base, and says so; and where tablespaces are now.
fn complete(
    volume: &Taken<'_>,
    files: &RestoredFiles,
    report: &mut RecoverReport,
) -> Result<(), Failure> {
    let written = configuration::complete(&volume.data_dir(), &files.missing_settings)?;
    if !written.is_empty() {
        report.warn(format!(
            "{} was not in the data folder, and so not in the backup: a small one was written",
            written.join(", ")
        ));
    }
    for place in volume.tablespaces()? {
        let oid = place.file_name().unwrap_or_default().to_string_lossy();
        report.warn(format!(
            "tablespace {oid} is in {}: mount the claim where that is found, or let \
             pg_tblspc/{oid} lead to it",
            place.display()
        ));
    }
    Ok(())
}

impl Restored<'_> {
    /// Lets the server replay the log, proves where it has ended, and makes the folder that of a
    /// server that was shut down.
    ///
    /// # Errors
    /// Those of [`Beside::recover`]; `TargetMissed` where the files say something else than the
    /// server.
    pub(super) async fn recover(
        mut self,
        order: &Order<'_>,
        report: &mut RecoverReport,
    ) -> Result<(), Failure> {
        let proved = self.prove(order, report).await;
        self.beside.leave().await;
        proved?;
        report.outcome = Outcome::Succeeded;
        report.completion_time = Timestamp::now();
        self.volume.complete(report)
    }

    /// The same for a drill: then the server is started once more, and asked. Nobody needs the
    /// folder after that.
    ///
    /// # Errors
    /// As of [`Restored::recover`], and of [`Beside::ask`].
    pub(super) async fn try_out(
        mut self,
        order: &Order<'_>,
        action: &DrillAction,
        report: &mut DrillReport,
    ) -> Result<(), Failure> {
        let tried = match self.prove(order, &mut report.recovery).await {
            Ok(()) => {
                let data_dir = self.volume.data_dir();
                self.beside.ask(order, &data_dir, &self.plan, &action.assertions, report).await
            }
            Err(failure) => Err(failure),
        };
        self.beside.leave().await;
        tried
    }

    /// Lets the server replay the log, and compares what it says with its files.
    async fn prove(
        &mut self,
        order: &Order<'_>,
        report: &mut RecoverReport,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let reached = self.replay(order).await?;
        order.board.update(Progress { phase: ProgressPhase::Verifying, ..Progress::default() });
        let data_dir = self.volume.data_dir();
        prove(&read_control(&data_dir)?, &reached)?;
        forget_recovery_settings(&data_dir).map_err(of_the_volume)?;
        report.durations.recovering_milliseconds = milliseconds_since(began);
        report.reached = Some(reached);
        Ok(())
    }

    async fn replay(&mut self, order: &Order<'_>) -> Result<ReachedPoint, Failure> {
        let ResolvedPoint { lsn, timeline, .. } = self.plan.resolved();
        let record = self.plan.record();
        let (Some(record), Some(end)) = (position(&record), position(&lsn)) else {
            let message = format!("the plan names {record} and {lsn}, which are no positions");
            return Err(Failure::new(Reason::Internal, message));
        };
        let data_dir = self.volume.data_dir();
        let version = self.plan.server_version();
        let expected = Expected { data_dir: &data_dir, version, record, end, timeline };
        self.beside.recover(order, &expected).await
    }
}

/// The files have to say what the server has said.
fn prove(control: &ControlFile, reached: &ReachedPoint) -> Result<(), Failure> {
    let missed = |why: String| {
        let message = format!("the recovered server's files say something else than it did: {why}");
        Err(Failure::new(Reason::TargetMissed, message))
    };
    if control.state != ControlState::ShutDown {
        return missed(format!("it was not shut down ({:?})", control.state));
    }
    if control.timeline != reached.timeline {
        return missed(format!("timeline {}, not {}", control.timeline, reached.timeline));
    }
    if position(&control.checkpoint) < position(&reached.lsn) {
        return missed(format!(
            "its last checkpoint at {}, before {}",
            control.checkpoint, reached.lsn
        ));
    }
    Ok(())
}

/// A full disk, here, is the volume's.
fn of_the_volume(failure: Failure) -> Failure {
    match failure.reason {
        Reason::DiskFull => Failure::new(Reason::VolumeTooSmall, failure.message),
        _ => failure,
    }
}

pub(super) fn milliseconds_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_contradict_the_server_are_a_miss() {
        let control = ControlFile {
            system_identifier: 7,
            version: 1300,
            state: ControlState::ShutDown,
            checkpoint: "0/4000140".to_owned(),
            redo: "0/4000140".to_owned(),
            timeline: 2,
        };
        let reached =
            ReachedPoint { lsn: "0/4000090".to_owned(), timeline: 2, last_transaction_time: None };
        prove(&control, &reached).unwrap();
        for wrong in [
            ControlFile { state: ControlState::InProduction, ..control.clone() },
            ControlFile { state: ControlState::ShutDownInRecovery, ..control.clone() },
            ControlFile { timeline: 1, ..control.clone() },
            ControlFile { checkpoint: "0/4000028".to_owned(), ..control.clone() },
        ] {
            assert_eq!(prove(&wrong, &reached).unwrap_err().reason, Reason::TargetMissed);
        }
    }
}
