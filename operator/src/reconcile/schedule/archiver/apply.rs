//! Carries a planned step out.

use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{ArchiverStatus, ArchiverTask, BackupSchedule, BackupScheduleStatus};
use k8s_openapi::api::batch::v1::Job;

use super::plan::{Seen, Step, Wanted};
use super::status::{is_archived, missing};
use super::window::{Base, window};
use super::{Archiver, finalizer, gap_count, task};
use crate::backoff::next_attempt;
use crate::cluster::{Ensured, delete_job, dismiss_job, end_job, ensure_job, write_status};
use crate::context::ReconcileError;
use crate::events::{publish, publish_with, warn, warn_as};
use crate::labels::has_slot;
use crate::reasons;
use crate::reconcile::one_shot::{until, while_starting};
use crate::reconcile::{LOOK_AGAIN, LOOK_SOON, WATCH_RUN};
use crate::run::RunView;

/// The first pause after an archiver that ended, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];
/// How soon one that was told to end is looked at again.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// A step that follows at once.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Archiver<'_> {
    /// What the archiver's own words change: how long it has been well, what was told of gaps,
    /// and the window.
    pub(super) async fn note(&self, status: &mut BackupScheduleStatus, bases: &[Base]) {
        let log = status.log.as_deref();
        status.recovery_window = log.map(|log| Box::new(window(log, bases)));
        let Some(known) = status.archiver.as_deref_mut() else { return };
        if known.task == ArchiverTask::Retire {
            return;
        }
        let gap = log.and_then(|log| log.gaps.iter().max_by_key(|gap| gap.time));
        let count = gap_count(log);
        if let Some(gap) = gap.filter(|_| count > known.told_gaps) {
            warn(self.context, self.schedule, "Archive", &missing(&gap.start, &gap.end)).await;
        }
        known.told_gaps = count;
        if !is_archived(known, log, self.now) {
            known.failing_since.get_or_insert(self.now);
            return;
        }
        (known.failures, known.error, known.retry_time) = (0, None, None);
        if known.failing_since.take().is_some() {
            let from = log.and_then(|log| Some((log.position.as_ref()?, log.timeline?)));
            let from = from.map_or_else(String::new, |(position, timeline)| {
                format!(" from {position} on, timeline {timeline}")
            });
            let note = format!("the log of the server is archived{from}");
            let reason = reasons::EVENT_ARCHIVING_STARTED;
            publish(self.context, self.schedule, reason, "Archive", note);
        }
    }

    /// Gives the Job that is to be created once the status is written, and when to look again.
    pub(super) async fn apply(
        &self,
        status: &mut BackupScheduleStatus,
        step: Step,
        wanted: &Wanted,
        seen: Option<&Seen>,
    ) -> Result<(Option<Job>, Option<Duration>), ReconcileError> {
        let again = match step {
            Step::Rest(next) => next.map(|next| until(next, self.now)),
            Step::Begin(task) => return self.begin(status, task, wanted).await,
            Step::Watch => Some(self.watch(seen)),
            Step::Await => Some(ENDS_WITHIN),
            Step::Stop => self.stop(status).await?,
            Step::Fail(failure) => self.fail(status, &failure, seen).await?,
            Step::Dropped => {
                let slot = slot(status);
                let note = format!("dropped {slot}: the server keeps no log for it any more");
                publish(self.context, self.schedule, reasons::EVENT_SLOT_DROPPED, "Archive", note);
                self.forget(status, seen).await?
            }
            Step::Leave(why) => {
                self.leave(status, &why).await;
                self.forget(status, seen).await?
            }
            Step::Forget => self.forget(status, seen).await?,
        };
        Ok((None, again))
    }

    async fn begin(
        &self,
        status: &mut BackupScheduleStatus,
        task: ArchiverTask,
        wanted: &Wanted,
    ) -> Result<(Option<Job>, Option<Duration>), ReconcileError> {
        let known = status.archiver.get_or_insert_default();
        let number = known.number.saturating_add(1);
        let name = task::name(self.identity, task, number, self.now);
        let before = std::mem::replace(&mut known.task, task);
        if before != task {
            (known.failures, known.error) = (0, None);
        }
        known.digest = match wanted {
            Wanted::Archived(digest) => Some(digest.clone()),
            _ => None,
        };
        (known.number, known.job_name) = (number, Some(name.clone()));
        (known.start_time, known.stop_time) = (Some(self.now), None);
        (known.retry_time, known.report) = (None, None);
        match task {
            ArchiverTask::Archive => {
                known.retiring_since = None;
                known.failing_since.get_or_insert(self.now);
            }
            ArchiverTask::Retire => {
                known.failing_since = None;
                known.retiring_since.get_or_insert(self.now);
            }
        }
        match self.job(task, name) {
            Ok(job) => Ok((Some(job), Some(LOOK_SOON))),
            Err(failure) => Ok((None, self.fail(status, &failure, None).await?)),
        }
    }

    fn watch(&self, seen: Option<&Seen>) -> Duration {
        match seen {
            Some(Seen::Run(RunView::Waiting(waiting))) => while_starting(waiting, self.now),
            Some(Seen::Run(_)) => LOOK_AGAIN,
            _ => WATCH_RUN,
        }
    }

    async fn stop(
        &self,
        status: &mut BackupScheduleStatus,
    ) -> Result<Option<Duration>, ReconcileError> {
        if let Some(known) = status.archiver.as_deref_mut() {
            if let Some(job) = &known.job_name {
                end_job(self.context, &self.identity.namespace, job).await?;
            }
            (known.stop_time, known.report) = (Some(self.now), None);
            (known.failures, known.error, known.retry_time) = (0, None, None);
        }
        Ok(Some(ENDS_WITHIN))
    }

    /// It has ended. The next one begins at once where this one was well until somebody told it
    /// to stop, such as a drain of its node; else after a pause.
    pub(super) async fn fail(
        &self,
        status: &mut BackupScheduleStatus,
        failure: &Failure,
        seen: Option<&Seen>,
    ) -> Result<Option<Duration>, ReconcileError> {
        let Some(known) = status.archiver.as_deref_mut() else { return Ok(None) };
        let (job, older) = ended(known, failure, self.now);
        let run = seen.and_then(|seen| match seen {
            Seen::Run(run) => Some(run),
            _ => None,
        });
        let namespace = &self.identity.namespace;
        if let Some(job) = job {
            dismiss_job(self.context, namespace, &job, run, self.now).await?;
        }
        // Of those that fail one after the other one is kept, with its log: a quota may count them.
        if let Some(older) = older {
            delete_job(self.context, namespace, &older).await?;
        }
        let again = known.retry_time.map(|again| until(again, self.now));
        if failure.reason != Reason::Interrupted {
            warn(self.context, self.schedule, "Archive", failure).await;
        }
        Ok(again)
    }

    /// Tells that the slot stays, and how to drop it.
    async fn leave(&self, status: &BackupScheduleStatus, why: &Failure) {
        let slot = slot(status);
        let drop = match status.log.as_ref().and_then(|log| log.slot.as_deref()) {
            Some(name) => {
                format!("SELECT pg_drop_replication_slot('{}')", name.replace('\'', "''"))
            }
            None => "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE \
                     slot_name LIKE 'dbbackup\\_%' AND NOT active, if all of these are to go"
                .to_owned(),
        };
        let note = format!(
            "{slot} could not be dropped, and keeps the server's log until it is: {} ({}). On the \
             server: {drop}",
            why.message, why.reason
        );
        let reason = reasons::EVENT_SLOT_LEFT;
        warn_as(self.context, self.schedule, reason, "Archive", note).await;
    }

    /// Nothing is left of it.
    async fn forget(
        &self,
        status: &mut BackupScheduleStatus,
        seen: Option<&Seen>,
    ) -> Result<Option<Duration>, ReconcileError> {
        (status.log, status.recovery_window) = (None, None);
        let Some(known) = status.archiver.take() else { return Ok(None) };
        if let Some(job) = &known.job_name {
            let namespace = &self.identity.namespace;
            match seen {
                Some(Seen::Run(run @ RunView::Reported(..))) => {
                    dismiss_job(self.context, namespace, job, Some(run), self.now).await?;
                }
                _ => delete_job(self.context, namespace, job).await?,
            }
        }
        Ok(Some(AT_ONCE))
    }

    /// Creates the Job that the status names by now.
    pub(super) async fn create(
        &self,
        object: &BackupSchedule,
        mut status: BackupScheduleStatus,
        job: &Job,
    ) -> Result<Option<Duration>, ReconcileError> {
        match ensure_job(self.context, job).await? {
            Ensured::Created => {
                let name = job.metadata.name.as_deref().unwrap_or_default();
                let note = format!("created the Job {name}");
                let reason = reasons::EVENT_JOB_CREATED;
                publish_with(self.context, object, job, reason, "Archive", note);
            }
            Ensured::Adopted => {}
            Ensured::Refused(failure) => {
                let again = self.fail(&mut status, &failure, None).await?;
                write_status(self.context, object, status).await?;
                return Ok(again);
            }
            // Nothing new comes to be here: nobody drops the slot.
            Ensured::Going if self.is_going().is_some() && has_slot(self.schedule) => {
                let message = "the namespace is being deleted";
                self.leave(&status, &Failure::new(Reason::Interrupted, message)).await;
                finalizer::hold(self.identity, false, self.context).await?;
                return Ok(None);
            }
            Ensured::Going => {}
        }
        Ok(Some(LOOK_SOON))
    }
}

/// A Job that has ended, in the status. Gives its name, and that of the one before it.
fn ended(
    known: &mut ArchiverStatus,
    failure: &Failure,
    now: jiff::Timestamp,
) -> (Option<String>, Option<String>) {
    let job = known.job_name.take();
    let older = job.as_ref().and_then(|job| known.last_job_name.replace(job.clone()));
    let was_well = known.task == ArchiverTask::Archive && known.failing_since.is_none();
    (known.report, known.stop_time) = (None, None);
    known.error = Some(failure.clone());
    known.failures = known.failures.saturating_add(1);
    known.retry_time = if was_well && failure.reason == Reason::Interrupted {
        Some(now)
    } else {
        next_attempt(known.failures, PAUSES[0], PAUSES[1], now)
    };
    if known.task == ArchiverTask::Archive {
        known.failing_since.get_or_insert(now);
    }
    (job, older)
}

/// `the replication slot NAME`, as far as its name is known.
fn slot(status: &BackupScheduleStatus) -> String {
    match status.log.as_ref().and_then(|log| log.slot.as_deref()) {
        Some(name) => format!("the replication slot {name}"),
        None => "the replication slot of the archive".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_pause_before_the_next_archiver_doubles_until_one_has_archived() {
        let now = at("2026-11-23T12:00:00Z");
        let mut known = ArchiverStatus { number: 1, ..ArchiverStatus::default() };
        known.failing_since = Some(now);
        let failure = Failure::new(Reason::WrongPassword, "no");
        let pauses: Vec<i64> = (0..9)
            .map(|number| {
                known.job_name = Some(format!("j{number}"));
                let _ = ended(&mut known, &failure, now);
                known.retry_time.unwrap().duration_since(now).as_secs()
            })
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        known.job_name = Some("j9".into());
        let (job, older) = ended(&mut known, &failure, now);
        assert_eq!((job.as_deref(), older.as_deref()), (Some("j9"), Some("j8")));
        // One that was well and is told to stop: its node is drained.
        let mut known = ArchiverStatus { job_name: Some("j".into()), ..ArchiverStatus::default() };
        let _ = ended(&mut known, &Failure::new(Reason::Interrupted, "stop"), now);
        assert_eq!(known.retry_time, Some(now));
        assert_eq!(known.failing_since, Some(now));
        // One that stops again and again without having archived is no drain.
        known.job_name = Some("k".into());
        let _ = ended(&mut known, &Failure::new(Reason::Interrupted, "stop"), now);
        assert_eq!(known.retry_time, Some(at("2026-11-23T12:00:20Z")));
    }
}
