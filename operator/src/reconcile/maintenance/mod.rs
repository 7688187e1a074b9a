//! The maintenance of a `BackupRepository` that is open: a Job at each slot of
//! `spec.maintenance`, one at a time. One that fails is tried again at the next slot,
//! and keeps no backup from running.

mod backups;
mod gather;
mod plan;
mod status;
mod task;
#[cfg(test)]
mod tests;

use dbbackup_contract::{Failure, MaintainReport, Outcome};
use dbbackup_crds::{BackupRepository, BackupRepositoryStatus, LastMaintenance, MaintenanceRun};
use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;

pub(crate) use backups::expired;
pub(crate) use gather::{is_in, list, seconds};
pub use plan::{Step, is_due, plan, slots};
pub use status::{ended, trouble};

use super::one_shot::{until, while_starting};
use super::{LOOK_SOON, WATCH_RUN};
use crate::cluster::{
    Ensured, delete_job, dismiss_job, ensure_job, observe, release_job, write_status,
};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::events::{publish, warn};
use crate::names::{Purpose, job_name};
use crate::reasons;
use crate::run::{RunView, Waiting};

/// An open repository whose maintenance is looked after.
struct Care<'a> {
    repository: &'a BackupRepository,
    identity: &'a Identity,
    status: BackupRepositoryStatus,
    /// The first slot after now.
    next: Option<Timestamp>,
    /// When somebody else wants to look at the repository again.
    wake: Option<Timestamp>,
    context: &'a Context,
    now: Timestamp,
}

/// Brings the maintenance of a repository that is open forward by one step.
pub(crate) async fn reconcile(
    repository: &BackupRepository,
    identity: &Identity,
    status: BackupRepositoryStatus,
    wake: Option<Timestamp>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let run = match &status.maintenance {
        Some(MaintenanceRun { job_name, .. }) => {
            let timeout = start_timeout(&repository.spec.job);
            let report = status.maintenance_report.as_ref();
            let namespace = &identity.namespace;
            Some(observe(context, namespace, job_name, report, timeout, now).await?)
        }
        None => None,
    };
    let slots = slots(&repository.spec.maintenance, &identity.uid);
    let next = slots.as_ref().ok().and_then(|slots| slots.next_after(now));
    let step = plan(repository, &status, run.as_ref(), slots, now);
    tracing::debug!(?step, "planned");
    Care { repository, identity, status, next, wake, context, now }.apply(step, run.as_ref()).await
}

impl Care<'_> {
    async fn apply(self, step: Step, run: Option<&RunView>) -> Result<Action, ReconcileError> {
        match step {
            Step::Rest => self.rest().await,
            Step::Refuse(failure) => self.refuse(&failure).await,
            Step::Begin(slot) => self.begin(slot).await,
            Step::Watch(waiting) => Ok(Action::requeue(self.look_again(waiting.as_ref()))),
            Step::Finish(report) => self.finish(&report).await,
            Step::Fail(failure) => self.fail(&failure, run).await,
        }
    }

    /// Nothing is due: the next slot is written down, and waited for.
    async fn rest(mut self) -> Result<Action, ReconcileError> {
        self.status.next_maintenance_time = self.next;
        write_status(self.context, self.repository, self.status.clone()).await?;
        Ok(self.when_next())
    }

    fn when_next(&self) -> Action {
        let next = self.next.into_iter().chain(self.wake).min();
        next.map_or_else(Action::await_change, |next| Action::requeue(until(next, self.now)))
    }

    /// The spec names no slots: until it is corrected there is no maintenance.
    async fn refuse(self, failure: &Failure) -> Result<Action, ReconcileError> {
        let generation = self.repository.metadata.generation;
        let before = self.status.clone();
        let mut status = status::refused(before.clone(), failure, generation, self.now);
        status.next_maintenance_time = None;
        if status != before {
            warn(self.context, self.repository, "Maintain", failure).await;
        }
        write_status(self.context, self.repository, status).await?;
        Ok(self.when_next())
    }

    fn look_again(&self, waiting: Option<&Waiting>) -> std::time::Duration {
        waiting.map_or(WATCH_RUN, |waiting| while_starting(waiting, self.now))
    }

    /// Creates the slot's Job. Its name is the slot's, so that a crash makes no second one.
    async fn begin(mut self, slot: Timestamp) -> Result<Action, ReconcileError> {
        let second = u32::try_from(slot.as_second()).unwrap_or(u32::MAX);
        let name = job_name(&self.identity.name, &self.identity.uid, Purpose::Maintain, second);
        let run = MaintenanceRun { slot_time: slot, job_name: name.clone() };
        let asked = gather::gather(self.context, self.identity, self.repository, self.now).await?;
        let around = self.context.surroundings();
        let built = asked.and_then(|asked| {
            task::maintain_job(&around, self.repository, self.identity, asked, name, self.now)
        });
        let job = match built {
            Ok(job) => job,
            Err(failure) => {
                self.status.maintenance = Some(run);
                return self.fail(&failure, None).await;
            }
        };
        // At most one Job of maintenance is there: a quota may count those that have ended.
        if let Some(LastMaintenance { job_name, .. }) = &self.status.last_maintenance
            && *job_name != run.job_name
        {
            delete_job(self.context, &self.identity.namespace, job_name).await?;
        }
        match ensure_job(self.context, &job).await? {
            Ensured::Created | Ensured::Adopted => {}
            Ensured::Going => return Ok(Action::await_change()),
            Ensured::Refused(failure) => {
                self.status.maintenance = Some(run);
                return self.fail(&failure, None).await;
            }
        }
        let is_ours = |report: &dbbackup_crds::RawReport| report.job_name == run.job_name;
        self.status.maintenance_report = self.status.maintenance_report.filter(is_ours);
        self.status.maintenance = Some(run);
        self.status.next_maintenance_time = self.next;
        write_status(self.context, self.repository, self.status).await?;
        Ok(Action::requeue(LOOK_SOON))
    }

    /// It has ended with a report. The backups are told first: a crash in between tells
    /// them again, since the report is still there.
    async fn finish(mut self, report: &MaintainReport) -> Result<Action, ReconcileError> {
        backups::tell(self.context, self.identity, &self.status, report, self.now).await?;
        let job = self.status.maintenance.as_ref().map(|run| run.job_name.clone());
        let repository = self.end(Ok(report)).await?;
        if let Some(job) = job {
            release_job(self.context, &self.identity.namespace, &job, self.now).await?;
        }
        match (&report.error, report.outcome) {
            (Some(failure), _) => warn(self.context, &repository, "Maintain", failure).await,
            (None, Outcome::Succeeded) => {
                let note = status::words(report);
                publish(self.context, &repository, reasons::MAINTAINED, "Maintain", note);
            }
            (None, _) => {}
        }
        Ok(self.until_next())
    }

    /// It has ended, and nobody said how; or it did not begin.
    async fn fail(
        mut self,
        failure: &Failure,
        run: Option<&RunView>,
    ) -> Result<Action, ReconcileError> {
        let job = self.status.maintenance.as_ref().map(|run| run.job_name.clone());
        let repository = self.end(Err(failure)).await?;
        if let Some(job) = job {
            dismiss_job(self.context, &self.identity.namespace, &job, run, self.now).await?;
        }
        warn(self.context, &repository, "Maintain", failure).await;
        Ok(self.until_next())
    }

    async fn end(
        &mut self,
        end: Result<&MaintainReport, &Failure>,
    ) -> Result<BackupRepository, ReconcileError> {
        let mut status = ended(self.status.clone(), end, self.repository, self.now);
        status.next_maintenance_time = self.next;
        self.status = status.clone();
        write_status(self.context, self.repository, status).await
    }

    fn until_next(&self) -> Action {
        let hour = self.now.checked_add(SignedDuration::from_hours(1)).unwrap_or(self.now);
        Action::requeue(until(self.next.unwrap_or(hour), self.now))
    }
}
