//! The drills of a schedule (ADR 66): a Job at each slot of `verification.drill`, one at a time,
//! that recovers the newest base into scratch storage and asks it.
//!
//! gather → plan → apply, as a part of the schedule's reconcile, which writes the status. What a
//! drill finds changes no backup, and keeps none from being made.

mod plan;
mod status;
mod task;
#[cfg(test)]
mod tests;

use std::time::Duration;

use dbbackup_contract::{DrillOutcome, DrillReport, Failure};
use dbbackup_crds::{
    BackupRepository, BackupSchedule, BackupScheduleStatus, DrillRun, DrillStatus,
};
use jiff::Timestamp;

use self::plan::{Seen, Step, last_slot, plan, slots};
pub(super) use self::status::{condition, trouble};
use super::Children;
use crate::cluster::{Ensured, delete_job, dismiss_job, ensure_job, observe};
use crate::conditions::{Verdict, sentence};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::events::{publish, warn_as};
use crate::names::{Purpose, job_name};
use crate::reasons;
use crate::reconcile::LOOK_SOON;
use crate::reconcile::one_shot::until;
use crate::run::RunView;

/// A schedule with drills, or one that had some.
pub(super) struct Drills<'a> {
    pub(super) schedule: &'a BackupSchedule,
    pub(super) identity: &'a Identity,
    /// As the watch has it.
    pub(super) repository: Option<&'a BackupRepository>,
    pub(super) context: &'a Context,
    pub(super) now: Timestamp,
}

/// How the drills stand, beside what the status says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrillOutlook {
    /// Why there are none, or why the one that is due does not begin.
    pub(super) trouble: Option<Failure>,
    /// What goes on, where there is something to tell of it.
    pub(super) goes_on: Option<Verdict>,
}

impl Drills<'_> {
    /// Brings them forward by one step; the status is the caller's to write. Gives when to look
    /// again at the latest.
    pub(super) async fn go_on(
        &self,
        status: &mut BackupScheduleStatus,
        children: &Children,
    ) -> Result<(Option<Duration>, DrillOutlook), ReconcileError> {
        let run = self.see(status).await?;
        let slots = slots(self.schedule);
        let wanted = slots.as_ref().and_then(|slots| slots.as_ref().ok());
        plan::set_baseline(self.schedule, status, self.now);
        let last = last_slot(status, self.now);
        status.next_drill_time = wanted.and_then(|slots| slots.next_after(self.now));
        let seen = Seen {
            run: run.as_ref(),
            jobs: status.drill.as_ref().and_then(|drill| drill.run.as_ref()).map(|run| run.jobs),
            slots,
            last,
            has_base: !children.bases.is_empty(),
            repository: super::super::backup::repository_trouble(
                &self.schedule.spec.repository_ref.name,
                self.repository,
            ),
        };
        let step = plan(&seen, self.now);
        tracing::debug!(?step, "planned");
        let next = status.next_drill_time.map(|next| until(next, self.now));
        let (again, outlook) = self.apply(step, status, run.as_ref()).await?;
        Ok((again.into_iter().chain(next).min(), outlook))
    }

    /// What became of the Job that was begun last.
    async fn see(
        &self,
        status: &mut BackupScheduleStatus,
    ) -> Result<Option<RunView>, ReconcileError> {
        let known = status.drill.as_ref().and_then(|drill| drill.run.as_ref());
        let Some(DrillRun { job_name, .. }) = known else {
            // Of one that was begun and forgotten.
            status.drill_report = None;
            return Ok(None);
        };
        let spec = task::wanted(self.schedule);
        let job = spec.map_or(&self.schedule.spec.job, |drill| &drill.job);
        let (timeout, report) = (start_timeout(job), status.drill_report.as_ref());
        let namespace = &self.identity.namespace;
        observe(self.context, namespace, job_name, report, timeout, self.now).await.map(Some)
    }

    async fn apply(
        &self,
        step: Step,
        status: &mut BackupScheduleStatus,
        run: Option<&RunView>,
    ) -> Result<(Option<Duration>, DrillOutlook), ReconcileError> {
        let mut outlook = DrillOutlook::default();
        let again = match step {
            Step::Rest => None,
            Step::Nothing => {
                forget(status);
                None
            }
            Step::Refuse(failure) | Step::Wait(failure) => {
                outlook.trouble = Some(failure);
                None
            }
            Step::PassOver(slot) => {
                let drill = status.drill.get_or_insert_default();
                drill.last_schedule_time = Some(slot);
                drill.passed_over_time = Some(self.now);
                None
            }
            Step::Begin(slot) => self.begin(status, slot, 1).await?,
            Step::Again(jobs) => {
                let slot = ended_run(status).map(|run| run.slot_time);
                match slot {
                    Some(slot) => self.begin(status, slot, jobs).await?,
                    None => None,
                }
            }
            Step::Watch(attempt) => {
                outlook.goes_on = Some(status::goes_on(&attempt));
                Some(attempt.next_look(status.drill_report.is_some(), self.now))
            }
            Step::Abandon => {
                if let Some(run) = ended_run(status) {
                    delete_job(self.context, &self.identity.namespace, &run.job_name).await?;
                }
                Some(Duration::from_secs(1))
            }
            Step::Finish(report) => self.finish(status, Ok(&report), run).await?,
            Step::Fail(failure) => self.finish(status, Err(&failure), run).await?,
        };
        Ok((again, outlook))
    }

    /// Creates the Job of a slot. Its name is the slot's, so that a crash makes no second one.
    async fn begin(
        &self,
        status: &mut BackupScheduleStatus,
        slot: Timestamp,
        jobs: u32,
    ) -> Result<Option<Duration>, ReconcileError> {
        let Some(repository) = self.repository else { return Ok(None) };
        let which = format!("{}/{slot}", self.identity.uid);
        let name = job_name(&self.identity.name, &which, Purpose::Drill, jobs);
        let run = DrillRun { job_name: name.clone(), slot_time: slot, start_time: self.now, jobs };
        let around = self.context.surroundings();
        let job = task::job(self.schedule, self.identity, &around, repository, name);
        // The scratch storage of one that has failed goes before there is another one's.
        let before = status.last_drill.as_ref().and_then(|last| last.job_name.as_deref());
        if let Some(before) = before.filter(|before| *before != run.job_name) {
            delete_job(self.context, &self.identity.namespace, before).await?;
        }
        let drill = status.drill.get_or_insert_default();
        drill.last_schedule_time = Some(slot);
        drill.passed_over_time = None;
        let refused = match job {
            Ok(job) => match ensure_job(self.context, &job).await? {
                Ensured::Created | Ensured::Adopted => None,
                Ensured::Going => return Ok(None),
                Ensured::Refused(failure) => Some(failure),
            },
            Err(failure) => Some(failure),
        };
        drill.run = Some(run);
        match refused {
            None => Ok(Some(LOOK_SOON)),
            Some(failure) => {
                status::ended(status, Err(&failure), self.now);
                Ok(None)
            }
        }
    }

    /// It has ended. Its storage goes with its pod: at once where it has passed; one that has
    /// failed stays for ten minutes (`ttlSecondsAfterFinished`), so that its log can be read.
    async fn finish(
        &self,
        status: &mut BackupScheduleStatus,
        end: Result<&DrillReport, &Failure>,
        run: Option<&RunView>,
    ) -> Result<Option<Duration>, ReconcileError> {
        let job = status.drill.as_ref().and_then(|drill| drill.run.as_ref());
        let job = job.map(|run| run.job_name.clone());
        status::ended(status, end, self.now);
        let last = status.last_drill.as_ref();
        let has_passed = last.is_some_and(|last| last.outcome == DrillOutcome::Passed);
        let namespace = &self.identity.namespace;
        match job {
            Some(job) if has_passed => delete_job(self.context, namespace, &job).await?,
            Some(job) => dismiss_job(self.context, namespace, &job, run, self.now).await?,
            None => {}
        }
        Ok(None)
    }

    /// Tells of a drill that has ended, once the status is written: a reconcile that has seen an
    /// older one does not come to this.
    pub(super) async fn tell(&self, status: &BackupScheduleStatus) {
        let before = self.schedule.status.as_ref().and_then(|status| status.last_drill.as_ref());
        let Some(last) = &status.last_drill else { return };
        if before.map(|before| before.slot_time) == Some(last.slot_time)
            && before.map(|before| before.time) == Some(last.time)
        {
            return;
        }
        match &last.error {
            None => {
                let words = status::words(last);
                publish(self.context, self.schedule, reasons::DRILL_PASSED, "Drill", words);
            }
            Some(failure) => {
                let labels = ["BackupSchedule", failure.reason.as_str()];
                self.context.metrics.failures.with_label_values(&labels).inc();
                let words = format!("{}: {}", failure.reason, sentence(failure));
                let reason = reasons::EVENT_DRILL_FAILED;
                warn_as(self.context, self.schedule, reason, "Drill", words).await;
            }
        }
    }
}

/// Takes the run that is over out of the status.
fn ended_run(status: &mut BackupScheduleStatus) -> Option<DrillRun> {
    status.drill_report = None;
    status.drill.as_mut().and_then(|drill| drill.run.take())
}

/// Where there are no drills any more: what the last one has found stays.
fn forget(status: &mut BackupScheduleStatus) {
    if let Some(drill) = &mut status.drill {
        let last_passed_time = drill.last_passed_time;
        **drill = DrillStatus { last_passed_time, ..DrillStatus::default() };
    }
}
