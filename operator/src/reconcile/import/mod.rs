//! Import: what an open repository holds and no `Backup` stands for becomes `Backup`
//! objects. A Job looks for it, after the repository was opened and after each
//! maintenance; the operator creates the objects.
//!
//! A look that fails is tried again an hour later, and keeps nothing else from working.
//! The repository has one Job of maintenance or import at a time (`plan::goes_first`).

mod known;
mod plan;
mod status;
mod take;
mod task;
#[cfg(test)]
mod tests;

use dbbackup_contract::{Failure, ImportReport, MAX_KNOWN_SNAPSHOTS};
use dbbackup_crds::{Backup, BackupRepository, BackupRepositoryStatus, ImportRun, LastImport};
use jiff::Timestamp;
use kube::runtime::controller::Action;

pub use plan::{Step, goes_first, plan, retry_time};
pub use status::{ended, imported};

use self::known::Known;
use self::plan::occasion;
use self::take::Taken;
use super::maintenance::list;
use super::one_shot::while_starting;
use super::{LOOK_AGAIN, LOOK_SOON, WATCH_RUN};
use crate::cluster::{Ensured, delete_job, dismiss_job, ensure_job, observe, write_status};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::events::{publish, warn};
use crate::names::{Purpose, job_name};
use crate::reasons;
use crate::run::RunView;

const ACTION: &str = "Import";

/// An open repository that is looked through.
struct Import<'a> {
    repository: &'a BackupRepository,
    identity: &'a Identity,
    status: BackupRepositoryStatus,
    context: &'a Context,
    now: Timestamp,
}

/// Brings the import of a repository that is open forward by one step.
pub(crate) async fn reconcile(
    repository: &BackupRepository,
    identity: &Identity,
    status: BackupRepositoryStatus,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let run = match &status.import {
        Some(ImportRun { job_name, .. }) => {
            let timeout = start_timeout(&repository.spec.job);
            let report = status.import_report.as_ref();
            Some(observe(context, &identity.namespace, job_name, report, timeout, now).await?)
        }
        None => None,
    };
    let step = plan(repository, &status, run.as_ref());
    tracing::debug!(?step, "planned");
    Import { repository, identity, status, context, now }.apply(step, run.as_ref()).await
}

impl Import<'_> {
    async fn apply(self, step: Step, run: Option<&RunView>) -> Result<Action, ReconcileError> {
        match step {
            Step::Begin(number) => self.begin(number).await,
            Step::Stop => self.stop().await,
            Step::Watch(waiting) => {
                let now = self.now;
                let again = waiting.map_or(WATCH_RUN, |waiting| while_starting(&waiting, now));
                Ok(Action::requeue(again))
            }
            Step::Take(report) => self.take(*report).await,
            Step::Fail(failure) => self.fail(&failure, run).await,
        }
    }

    /// Creates the Job. Its number is one more than the last one's, so that a crash makes no
    /// second one.
    async fn begin(mut self, number: u32) -> Result<Action, ReconcileError> {
        let Identity { namespace, name, uid } = self.identity;
        let job_name = job_name(name, uid, Purpose::Import, number);
        let occasion = occasion(self.repository, &self.status);
        let run = ImportRun { number, job_name: job_name.clone(), occasion };
        let backups = list::<Backup>(self.context, namespace).await?;
        let known = Known::of(name, self.status.id.as_deref(), &backups);
        let salt = format!("{uid}/{number}");
        let around = self.context.surroundings();
        let built =
            task::import_job(&around, self.repository, self.identity, known.named(&salt), job_name);
        let job = match built {
            Ok(job) => job,
            Err(failure) => {
                self.status.import = Some(run);
                return self.fail(&failure, None).await;
            }
        };
        // At most one Job of import is there: a quota may count those that have ended.
        if let Some(LastImport { job_name, .. }) = &self.status.last_import {
            delete_job(self.context, namespace, job_name).await?;
        }
        match ensure_job(self.context, &job).await? {
            Ensured::Created | Ensured::Adopted => {}
            Ensured::Going => return Ok(Action::await_change()),
            Ensured::Refused(failure) => {
                self.status.import = Some(run);
                return self.fail(&failure, None).await;
            }
        }
        let is_ours = |report: &dbbackup_crds::RawReport| report.job_name == run.job_name;
        self.status.import_report = self.status.import_report.filter(is_ours);
        self.status.import = Some(run);
        write_status(self.context, self.repository, self.status).await?;
        Ok(Action::requeue(LOOK_SOON))
    }

    /// The spec wants no import any more.
    async fn stop(mut self) -> Result<Action, ReconcileError> {
        if let Some(run) = self.status.import.take() {
            delete_job(self.context, &self.identity.namespace, &run.job_name).await?;
        }
        self.status.import_report = None;
        write_status(self.context, self.repository, self.status).await?;
        Ok(Action::requeue(LOOK_SOON))
    }

    /// The Job has told what there is. The objects are made first: a crash in between makes
    /// them again, since the report is still there.
    async fn take(self, report: ImportReport) -> Result<Action, ReconcileError> {
        let backups = list::<Backup>(self.context, &self.identity.namespace).await?;
        let known = Known::of(&self.identity.name, self.status.id.as_deref(), &backups);
        // So many can be named to the next look.
        let room = MAX_KNOWN_SNAPSHOTS.saturating_sub(backups.len());
        let Some(taken) = self.take_all(&report, &known, room).await? else {
            return Ok(Action::await_change());
        };
        let error = taken.refused.clone();
        let note = status::words(&taken, &report);
        let count = taken.imported;
        let repository = self.end(Ok((&report, taken)), None).await?;
        if count > 0 {
            publish(self.context, &repository, reasons::IMPORTED, ACTION, note);
        }
        if let Some(failure) = error {
            warn(self.context, &repository, ACTION, &failure).await;
        }
        Ok(Action::requeue(LOOK_SOON))
    }

    /// Makes an object of each that is unknown; `None` where the namespace is being deleted.
    async fn take_all(
        &self,
        report: &ImportReport,
        known: &Known,
        room: usize,
    ) -> Result<Option<Taken>, ReconcileError> {
        let mut taken = Taken::default();
        let unknown: Vec<_> = report.found.iter().filter(|found| !known.has(found)).collect();
        taken.found = unknown.len() as u64;
        for found in unknown.into_iter().take(room) {
            let (repository, id) = (self.identity.name.as_str(), self.status.id.as_deref());
            let object = take::object(&self.identity.namespace, repository, id, found);
            match take::create(self.context, object, found, id, self.now).await? {
                take::Created::Stands => taken.imported += 1,
                take::Created::NotOurs => {}
                take::Created::Unfit(failure) => taken.refused = Some(failure),
                take::Created::Refused(failure) => {
                    taken.refused = Some(failure);
                    break;
                }
                take::Created::Going => return Ok(None),
            }
        }
        Ok(Some(taken))
    }

    /// It has ended, and nobody said what there is; or it did not begin.
    async fn fail(
        self,
        failure: &Failure,
        run: Option<&RunView>,
    ) -> Result<Action, ReconcileError> {
        let repository = self.end(Err(failure), run).await?;
        warn(self.context, &repository, ACTION, failure).await;
        Ok(Action::requeue(LOOK_AGAIN))
    }

    /// Writes down how it ended, and lets its Job go.
    async fn end(
        &self,
        end: Result<(&ImportReport, Taken), &Failure>,
        run: Option<&RunView>,
    ) -> Result<BackupRepository, ReconcileError> {
        let status = ended(self.status.clone(), end, self.now);
        let repository = write_status(self.context, self.repository, status).await?;
        if let Some(ImportRun { job_name, .. }) = &self.status.import {
            let namespace = &self.identity.namespace;
            dismiss_job(self.context, namespace, job_name, run, self.now).await?;
        }
        Ok(repository)
    }
}
