//! Carries a planned step out, then writes what became of it into the status.

use std::time::Duration;

use dbbackup_contract::{Failure, RestoreReport};
use dbbackup_crds::{ResolvedRestore, RestoreRequest};
use jiff::Timestamp;
use kube::runtime::controller::Action;

use super::gather::Gathered;
use super::status::{awaiting, proposed};
use super::{Step, task};
use crate::cluster::{delete_job, release_job, write_status};
use crate::context::{Context, ReconcileError, status_ref};
use crate::events::publish;
use crate::names::{Purpose, job_name};
use crate::reasons;
use crate::reconcile::one_shot::{NextJob, Run, until};
use crate::reconcile::{LOOK_AGAIN, OneShot as _};

pub(super) async fn apply(
    seen: &Gathered,
    step: Step,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let run = run(seen, now);
    match step {
        Step::Nothing => run.tidy(seen.status.job_name.as_deref(), context).await,
        Step::Wait(failure) => run.wait(&failure, context).await,
        Step::Find(resolved, cause) => {
            begin(seen, &resolved, Purpose::Find, cause, context, now).await
        }
        Step::Choose(resolved, id) => choose(seen, *resolved, id, context, now).await,
        Step::Plan(resolved, cause) => {
            begin(seen, &resolved, Purpose::Plan, cause, context, now).await
        }
        Step::Propose(report) => propose(seen, *report, context, now).await,
        Step::AwaitApproval(why) => await_approval(seen, &why, context, now).await,
        Step::Begin(resolved, cause) => {
            begin(seen, &resolved, Purpose::Restore, cause, context, now).await
        }
        Step::Start(waiting) => run.start(&waiting, context).await,
        Step::Run { attempts, last_failure } => {
            run.go_on(attempts, last_failure.as_ref(), context).await
        }
        Step::Finish(report, attempts) => finish(seen, Ok(*report), attempts, context, now).await,
        Step::Fail(failure, attempts) => finish(seen, Err(failure), attempts, context, now).await,
    }
}

fn run(seen: &Gathered, now: Timestamp) -> Run<'_, RestoreRequest> {
    Run {
        object: &seen.request,
        identity: &seen.identity,
        status: &seen.status,
        job: seen.status.job_name.as_deref().zip(seen.run.as_ref()),
        now,
    }
}

async fn begin(
    seen: &Gathered,
    resolved: &ResolvedRestore,
    purpose: Purpose,
    cause: Option<Failure>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let Some(repository) = &seen.repository else { return Ok(Action::requeue(LOOK_AGAIN)) };
    // The Job before may have a pod on a lost node; the restore's own lock fences it.
    if let (Some(_), Some(before)) = (&cause, &seen.status.job_name) {
        delete_job(context, &seen.identity.namespace, before).await?;
    }
    let number = seen.status.jobs.unwrap_or(0).saturating_add(1);
    let name = job_name(&seen.identity.name, &seen.identity.uid, purpose, number);
    let around = context.surroundings();
    let job = match task::job(&around, seen, resolved, repository, purpose, name.clone()) {
        Ok(job) => job,
        Err(failure) => return finish(seen, Err(failure), 0, context, now).await,
    };
    let mut status = seen.status.clone();
    status.resolved = Some(Box::new(resolved.clone()));
    status.snapshot_id.clone_from(&resolved.snapshot_id);
    status.repository = Some(status_ref(&resolved.repository_ref.name, Some(repository)));
    let why = cause.map_or_else(String::new, |cause| format!(" again: {}", cause.message));
    let next = NextJob { job, name, number, why };
    Ok(run(seen, now).begin(status, next, context).await?.look())
}

/// Notes which snapshot it is. The Jobs that follow are counted anew.
async fn choose(
    seen: &Gathered,
    resolved: ResolvedRestore,
    id: String,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    if let Some(finder) = &seen.status.job_name {
        release_job(context, &seen.identity.namespace, finder, now).await?;
    }
    let mut status = seen.status.clone();
    status.snapshot_id = Some(id.clone());
    status.resolved = Some(Box::new(ResolvedRestore { snapshot_id: Some(id), ..resolved }));
    (status.job_name, status.jobs, status.attempts) = (None, None, None);
    (status.report, status.error) = (None, None);
    write_status(context, &seen.request, status).await?;
    // The watch brings it back at once.
    Ok(Action::requeue(LOOK_AGAIN))
}

/// Writes the plan down. Its Job is done with.
async fn propose(
    seen: &Gathered,
    report: RestoreReport,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    if let Some(job) = &seen.status.job_name {
        release_job(context, &seen.identity.namespace, job, now).await?;
    }
    let status = proposed(seen.status.clone(), report, seen.request.metadata.generation, now);
    let object = write_status(context, &seen.request, status).await?;
    let note = object.status.and_then(|status| status.display).unwrap_or_default();
    publish(context, &seen.request, reasons::PLANNED, RestoreRequest::ACTION, note);
    // The watch brings it back at once.
    Ok(Action::requeue(LOOK_AGAIN))
}

/// It waits for an approval, until that is too late.
async fn await_approval(
    seen: &Gathered,
    why: &Failure,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let generation = seen.request.metadata.generation;
    let status = awaiting(seen.status.clone(), why, generation, now);
    write_status(context, &seen.request, status).await?;
    Ok(match seen.request.spec.valid_until {
        Some(time) => Action::requeue(until(time, now) + Duration::from_secs(1)),
        None => Action::await_change(),
    })
}

async fn finish(
    seen: &Gathered,
    end: Result<RestoreReport, Failure>,
    attempts: u32,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let request = run(seen, now).finish(&end, attempts, context).await?;
    let status = request.status.clone().unwrap_or_default();
    let done = Run { object: &request, status: &status, ..run(seen, now) };
    done.tidy(status.job_name.as_deref(), context).await
}
