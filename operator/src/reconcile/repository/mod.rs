//! `BackupRepository`: a Job creates or opens it, for each generation of the
//! spec; its id is pinned; what fails is tried again.

mod status;

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    Action as TaskAction, Failure, InitAction, InitReport, Outcome, Reason, Report, SubjectKind,
};
use dbbackup_crds::{BackupRepository, BackupRepositoryStatus, EncryptionSpec};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::controller::Action;

pub use status::{failed, opened, opening};

use super::one_shot::{another_action, until};
use super::{LOOK_AGAIN, LOOK_SOON, import, maintenance};
use crate::cluster::{
    Ensured, delete_job, dismiss_job, ensure_job, observe, release_job, write_status,
};
use crate::conditions::holds;
use crate::context::{Context, Identity, ReconcileError, Surroundings, start_timeout};
use crate::events::{publish, warn};
use crate::job::{Errand, Mounts};
use crate::names::{Purpose, job_name};
use crate::reasons::{self, READY};
use crate::run::{RunView, Waiting};

/// About an hour of attempts, one a minute.
const ATTEMPTS_BY_THE_MINUTE: u32 = 60;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is open.
    Nothing,
    /// Create the Job of this attempt.
    Begin(u32),
    /// The Job is on its way.
    Watch(Option<Waiting>),
    /// The last attempt failed; the next one begins then.
    Rest(Timestamp),
    /// It has been opened.
    Open(Box<InitReport>),
    /// It could not be opened.
    Fail(Failure),
}

/// Brings one `BackupRepository` forward by one step.
///
/// # Errors
/// The API server refuses something; it is tried again.
pub async fn reconcile(
    repository: &BackupRepository,
    context: &Arc<Context>,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let identity = Identity::of(repository)?;
    let status = repository.status.clone().unwrap_or_default();
    let run = match &status.job_name {
        Some(name) if is_current(repository, &status) => {
            let timeout = start_timeout(&repository.spec.job);
            let report = status.report.as_ref();
            Some(observe(context, &identity.namespace, name, report, timeout, now).await?)
        }
        _ => None,
    };
    let step = plan(repository, &status, run.as_ref(), now);
    tracing::debug!(?step, "planned");
    apply(repository, &identity, status, step, run.as_ref(), context, now).await
}

fn is_current(repository: &BackupRepository, status: &BackupRepositoryStatus) -> bool {
    status.observed_generation == repository.metadata.generation
}

/// Plans the next step.
#[must_use]
pub fn plan(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
    run: Option<&RunView>,
    now: Timestamp,
) -> Step {
    if !is_current(repository, status) {
        return Step::Begin(1);
    }
    let attempts = status.attempts.unwrap_or(0);
    if holds(&status.conditions, READY, repository.metadata.generation) {
        return Step::Nothing;
    }
    if let Some(next) = status.next_attempt_time {
        return if now < next { Step::Rest(next) } else { Step::Begin(attempts.saturating_add(1)) };
    }
    match run {
        None => Step::Begin(attempts.max(1)),
        Some(RunView::Waiting(waiting)) => Step::Watch(Some(waiting.clone())),
        Some(RunView::Running { .. }) => Step::Watch(None),
        // Opening twice does no harm, so what is not known is done again.
        Some(
            RunView::NeverStarted(failure)
            | RunView::Unknown(failure, _)
            | RunView::Lost(failure, _),
        ) => Step::Fail(failure.clone()),
        Some(RunView::Reported(report, _)) => judge(report, status),
    }
}

fn judge(report: &Report, status: &BackupRepositoryStatus) -> Step {
    let Report::Init(report) = report else {
        return Step::Fail(another_action());
    };
    let (Outcome::Succeeded, Some(id)) = (report.outcome, &report.repository_id) else {
        let failure = report.error.clone().unwrap_or_else(|| {
            Failure::new(Reason::Internal, "the runner could not open the repository")
        });
        return Step::Fail(failure);
    };
    match &status.id {
        Some(pinned) if pinned != id => Step::Fail(Failure::new(
            Reason::RepositoryChanged,
            format!("the repository {id} lies where {pinned} was"),
        )),
        _ => Step::Open(Box::new(report.clone())),
    }
}

/// How long after attempt `attempts` the next one begins.
///
/// The operator may not read secrets, so only another attempt sees that one was
/// corrected: within a minute, for as long as somebody is likely to be at it.
fn rest(attempts: u32) -> SignedDuration {
    let most = if attempts <= ATTEMPTS_BY_THE_MINUTE { 60 } else { 300 };
    let delay = crate::backoff::delay(attempts, Duration::from_secs(15), Duration::from_secs(most));
    SignedDuration::try_from(delay).unwrap_or(SignedDuration::from_mins(5))
}

async fn apply(
    repository: &BackupRepository,
    identity: &Identity,
    status: BackupRepositoryStatus,
    step: Step,
    run: Option<&RunView>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let generation = repository.metadata.generation;
    match step {
        // It is open: what is left is to look after it.
        Step::Nothing => look_after(repository, identity, status, context, now).await,
        Step::Rest(next) => Ok(Action::requeue(until(next, now))),
        Step::Begin(attempt) => begin(repository, identity, status, attempt, context, now).await,
        Step::Watch(waiting) => {
            let status = opening(status, waiting.as_ref(), generation, now);
            write_status(context, repository, status).await?;
            let again = waiting.map_or(LOOK_AGAIN, |waiting| {
                let soon = if waiting.cause.is_some() { LOOK_AGAIN } else { LOOK_SOON };
                until(waiting.until, now).min(soon)
            });
            Ok(Action::requeue(again))
        }
        Step::Open(report) => {
            let job = status.job_name.clone();
            let status = opened(status, &report, generation, now);
            write_status(context, repository, status).await?;
            if let Some(job) = job {
                release_job(context, &identity.namespace, &job, now).await?;
            }
            let id = report.repository_id.unwrap_or_default();
            let (reason, note) = if report.created {
                (reasons::EVENT_CREATED, format!("created the repository {id}"))
            } else {
                (reasons::OPENED, format!("opened the repository {id}"))
            };
            publish(context, repository, reason, "Open", note);
            Ok(Action::await_change())
        }
        Step::Fail(failure) => {
            let job = status.job_name.clone();
            let wait = rest(status.attempts.unwrap_or(1));
            let next = now.checked_add(wait).unwrap_or(now);
            let status = failed(status, &failure, next, generation, now);
            write_status(context, repository, status).await?;
            if let Some(job) = job {
                dismiss_job(context, &identity.namespace, &job, run, now).await?;
            }
            warn(context, repository, "Open", &failure).await;
            Ok(Action::requeue(until(next, now)))
        }
    }
}

/// Maintenance and import, one at a time.
async fn look_after(
    repository: &BackupRepository,
    identity: &Identity,
    status: BackupRepositoryStatus,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let is_due = maintenance::is_due(repository, &status, &identity.uid, now);
    if import::goes_first(repository, &status, is_due, now) {
        return import::reconcile(repository, identity, status, context, now).await;
    }
    let wake = import::retry_time(repository, &status);
    maintenance::reconcile(repository, identity, status, wake, context, now).await
}

async fn begin(
    repository: &BackupRepository,
    identity: &Identity,
    mut status: BackupRepositoryStatus,
    attempt: u32,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let generation = repository.metadata.generation;
    // An attempt of another generation opens by another spec: it has a Job of its own.
    let part = u32::try_from(generation.unwrap_or(0)).unwrap_or(u32::MAX);
    let number = part.saturating_mul(100_000).saturating_add(attempt);
    let name = job_name(&identity.name, &identity.uid, Purpose::Init, number);
    let around = context.surroundings();
    let job = match init_job(repository, identity, &status, name.clone(), &around) {
        Ok(job) => job,
        Err(failure) => {
            let next = now.checked_add(SignedDuration::from_hours(24)).unwrap_or(now);
            let status = failed(status, &failure, next, generation, now);
            write_status(context, repository, status).await?;
            return Ok(Action::await_change());
        }
    };
    // At most one Job of an object is there: a quota may count those that have ended, and
    // one that never started may still stand where its end was not reached.
    if let Some(before) = job_before(&status, &name) {
        delete_job(context, &identity.namespace, before).await?;
    }
    let ensured = ensure_job(context, &job).await?;
    if ensured == Ensured::Going {
        return Ok(Action::await_change());
    }
    if let Ensured::Refused(failure) = ensured {
        let next = now.checked_add(rest(attempt)).unwrap_or(now);
        status.attempts = Some(attempt);
        status.job_name = None;
        let status = failed(status, &failure, next, generation, now);
        write_status(context, repository, status).await?;
        return Ok(Action::requeue(until(next, now)));
    }
    status.job_name = Some(name);
    status.attempts = Some(attempt);
    status.next_attempt_time = None;
    status.report = None;
    let status = opening(status, None, generation, now);
    write_status(context, repository, status).await?;
    Ok(Action::requeue(LOOK_SOON))
}

/// The Job of the attempt before. What it told stands in the status.
fn job_before<'a>(status: &'a BackupRepositoryStatus, name: &str) -> Option<&'a str> {
    status.job_name.as_deref().filter(|before| *before != name)
}

/// Slots that an entry of this object opened, which is gone from its spec. Slots that
/// a person or another object made are never among them.
fn retired_slots(encryption: &EncryptionSpec, status: &BackupRepositoryStatus) -> Vec<String> {
    let listed = encryption.keys.as_deref().unwrap_or_default();
    let gone = |name: &str| listed.iter().all(|key| key.name != name);
    let slots = status.key_slots.iter().filter(|slot| gone(&slot.name));
    slots.filter_map(|slot| slot.slot.clone()).collect()
}

fn init_job(
    repository: &BackupRepository,
    identity: &Identity,
    status: &BackupRepositoryStatus,
    name: String,
    around: &Surroundings,
) -> Result<Job, Failure> {
    let action = TaskAction::Init(InitAction {
        initialize: repository.spec.initialize,
        retired_slots: retired_slots(&repository.spec.encryption, status),
    });
    repository_job(around, repository, identity, Purpose::Init, action, name)
}

/// A Job of the repository itself.
pub(super) fn repository_job(
    around: &Surroundings,
    repository: &BackupRepository,
    identity: &Identity,
    purpose: Purpose,
    action: TaskAction,
    name: String,
) -> Result<Job, Failure> {
    let errand = Errand {
        kind: SubjectKind::BackupRepository,
        identity,
        purpose,
        name,
        action,
        mounts: Mounts::default(),
        repository: Some(repository),
        destination: None,
        job: &repository.spec.job,
    };
    errand.job_of(repository, around)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
