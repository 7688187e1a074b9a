//! A `Backup` that stands for a snapshot and has no status of it: who created it, did so by
//! hand, or was interrupted. A Job looks the snapshot up by its id.

use dbbackup_contract::{Failure, FoundSnapshot, Reason, Report};
use dbbackup_crds::{Backup, BackupRepository, BackupStatus, ImportedSpec, RepositoryStatusRef};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::gather::inspection_name;
use super::plan::{ask_again, repository_trouble};
use super::status::could_not_ask;
use super::task;
use crate::cluster::{Ensured, dismiss_job, ensure_job, find, observe, write_status};
use crate::conditions::{Standing, Verdict};
use crate::context::{Context, Identity, ReconcileError, start_timeout, status_ref};
use crate::events::publish;
use crate::labels;
use crate::reasons;
use crate::reconcile::one_shot::{Run, another_action, until};
use crate::reconcile::{LOOK_AGAIN, import, maintenance, running};
use crate::run::RunView;

/// How long the importer has to write the status of an object that it created.
const IMPORTER_HAS: SignedDuration = SignedDuration::from_secs(60);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// The importer has created it, and may still write its status.
    Leave(Timestamp),
    /// The repository is not ready.
    Wait(Failure),
    /// Create the Job that looks the snapshot up: its number.
    Look(u32),
    /// The Job is on its way, or another one begins at `again`.
    Await {
        /// Why the last one gave no answer.
        trouble: Option<Failure>,
        /// When the next one begins.
        again: Option<Timestamp>,
    },
    /// It is there.
    Take(Box<FoundSnapshot>),
    /// It is not, or cannot be imported.
    End(Failure),
}

/// Brings an imported `Backup` that has not ended forward by one step.
pub(super) async fn reconcile(
    backup: &Backup,
    imported: &ImportedSpec,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let identity = Identity::of(backup)?;
    let status = backup.status.clone().unwrap_or_default();
    let name = &imported.repository_ref.name;
    let repository: Option<BackupRepository> = find(context, &identity.namespace, name).await?;
    let look = match (status.inspections, status.next_inspection_time) {
        (Some(number), None) => {
            let job = inspection_name(&identity, 0, number);
            let spec = repository.as_ref().map(|found| found.spec.job.clone()).unwrap_or_default();
            let (report, timeout) = (status.report.as_ref(), start_timeout(&spec));
            Some(observe(context, &identity.namespace, &job, report, timeout, now).await?)
        }
        _ => None,
    };
    let step = plan(backup, &status, imported, repository.as_ref(), look.as_ref(), now);
    tracing::debug!(?step, "planned");
    Lookup { backup, identity, status, imported, repository, look, context, now }.apply(step).await
}

fn plan(
    backup: &Backup,
    status: &BackupStatus,
    imported: &ImportedSpec,
    repository: Option<&BackupRepository>,
    look: Option<&RunView>,
    now: Timestamp,
) -> Step {
    let created = backup.creation_timestamp().map(|time| time.0);
    let is_importers = backup.labels().contains_key(labels::IMPORTED) && status.phase.is_none();
    let mine = created.and_then(|time| time.checked_add(IMPORTER_HAS).ok());
    if let Some(until) = mine.filter(|until| is_importers && now < *until) {
        return Step::Leave(until);
    }
    let trouble = || repository_trouble(&imported.repository_ref.name, repository);
    let number = status.inspections.unwrap_or(0);
    match (look, status.next_inspection_time) {
        (_, Some(again)) if now < again => Step::Await { trouble: None, again: Some(again) },
        (None, _) => trouble().map_or(Step::Look(number.saturating_add(1)), Step::Wait),
        (Some(look), _) => plan_begun(look, number, now),
    }
}

fn plan_begun(look: &RunView, number: u32, now: Timestamp) -> Step {
    let again = |trouble: Failure| Step::Await {
        trouble: Some(trouble),
        again: Some(ask_again(number, now)),
    };
    match look {
        RunView::Waiting(_) | RunView::Running { .. } => Step::Await { trouble: None, again: None },
        RunView::NeverStarted(failure)
        | RunView::Unknown(failure, _)
        | RunView::Lost(failure, _) => again(failure.clone()),
        RunView::Reported(report, _) => match report.as_ref() {
            Report::Import(report) => match (report.found.first(), &report.error) {
                (Some(found), _) => Step::Take(Box::new(found.clone())),
                (None, Some(failure)) if is_final(failure) => Step::End(failure.clone()),
                (None, Some(failure)) => again(failure.clone()),
                (None, None) => {
                    again(Failure::new(Reason::OutcomeUnknown, "the look gave no answer"))
                }
            },
            _ => again(another_action()),
        },
    }
}

/// Whether another look would say the same.
fn is_final(failure: &Failure) -> bool {
    matches!(
        failure.reason,
        Reason::SnapshotNotFound
            | Reason::SnapshotForgotten
            | Reason::SnapshotWrittenOff
            | Reason::InvalidSpec
    )
}

struct Lookup<'a> {
    backup: &'a Backup,
    identity: Identity,
    status: BackupStatus,
    imported: &'a ImportedSpec,
    repository: Option<BackupRepository>,
    look: Option<RunView>,
    context: &'a Context,
    now: Timestamp,
}

impl Lookup<'_> {
    async fn apply(self, step: Step) -> Result<Action, ReconcileError> {
        match step {
            Step::Leave(time) => Ok(Action::requeue(until(time, self.now))),
            Step::Wait(failure) => self.run().wait(&failure, self.context).await,
            Step::Look(number) => self.look(number).await,
            // What stands in the status still holds.
            Step::Await { trouble: None, again: Some(again) } => {
                Ok(Action::requeue(until(again, self.now)))
            }
            Step::Await { trouble, again } => self.wait_for_answer(trouble, again).await,
            Step::Take(found) => self.take(&found).await,
            Step::End(failure) => self.end(failure).await,
        }
    }

    fn run(&self) -> Run<'_, Backup> {
        let (object, identity, status) = (self.backup, &self.identity, &self.status);
        Run { object, identity, status, job: None, now: self.now }
    }

    fn generation(&self) -> Option<i64> {
        self.backup.metadata.generation
    }

    fn place(&self) -> RepositoryStatusRef {
        status_ref(&self.imported.repository_ref.name, self.repository.as_ref())
    }

    async fn look(self, number: u32) -> Result<Action, ReconcileError> {
        let Some(repository) = &self.repository else { return Ok(Action::requeue(LOOK_AGAIN)) };
        let (name, snapshot) =
            (inspection_name(&self.identity, 0, number), &self.imported.snapshot_id);
        let around = self.context.surroundings();
        let subject = (self.backup, &self.identity);
        let job = match task::look_job(&around, subject, repository, snapshot, name.clone()) {
            Ok(job) => job,
            Err(failure) => return self.end(failure).await,
        };
        match ensure_job(self.context, &job).await? {
            Ensured::Created => {
                let note = format!("the Job {name} looks the snapshot up");
                publish(self.context, self.backup, reasons::EVENT_INSPECTING, "Inspect", note);
            }
            Ensured::Adopted => {}
            Ensured::Refused(failure) => return self.run().wait(&failure, self.context).await,
            Ensured::Going => return Ok(Action::await_change()),
        }
        let mut status = self.looking("the snapshot is looked up".to_owned());
        status.inspections = Some(number);
        (status.next_inspection_time, status.error) = (None, None);
        write_status(self.context, self.backup, status).await?;
        Ok(Action::requeue(LOOK_AGAIN))
    }

    fn looking(&self, words: String) -> BackupStatus {
        let verdict = Verdict::new(Standing::Reconciling, reasons::EVENT_INSPECTING, words.clone());
        running(self.status.clone(), &verdict, words, self.generation(), self.now)
    }

    async fn wait_for_answer(
        self,
        trouble: Option<Failure>,
        again: Option<Timestamp>,
    ) -> Result<Action, ReconcileError> {
        let Some(trouble) = trouble else { return Ok(Action::requeue(LOOK_AGAIN)) };
        self.let_job_go().await?;
        let mut status = self.looking(could_not_ask(&trouble));
        status.next_inspection_time = again;
        status.error = Some(trouble);
        write_status(self.context, self.backup, status).await?;
        Ok(Action::requeue(again.map_or(LOOK_AGAIN, |again| until(again, self.now))))
    }

    async fn let_job_go(&self) -> Result<(), ReconcileError> {
        let (Some(number), Some(look)) = (self.status.inspections, &self.look) else {
            return Ok(());
        };
        let job = inspection_name(&self.identity, 0, number);
        dismiss_job(self.context, &self.identity.namespace, &job, Some(look), self.now).await
    }

    async fn take(self, found: &FoundSnapshot) -> Result<Action, ReconcileError> {
        let status = self.status.clone();
        let status = import::imported(self.backup, status, found, self.place(), self.now);
        let note = status.display.clone().unwrap_or_default();
        let backup = write_status(self.context, self.backup, status).await?;
        self.let_job_go().await?;
        publish(self.context, &backup, reasons::IMPORTED, "Import", note);
        Ok(Action::await_change())
    }

    async fn end(self, failure: Failure) -> Result<Action, ReconcileError> {
        if failure.reason == Reason::SnapshotForgotten {
            let mut status = self.status.clone();
            status.snapshot_id = Some(self.imported.snapshot_id.clone());
            (status.repository, status.report) = (Some(self.place()), None);
            let status = maintenance::expired(status, self.generation(), self.now);
            write_status(self.context, self.backup, status).await?;
        } else {
            self.run().finish(&Err(failure), 0, self.context).await?;
        }
        self.let_job_go().await?;
        Ok(Action::await_change())
    }
}

#[cfg(test)]
#[path = "imported_tests.rs"]
mod tests;
