//! Carries a planned step out, then writes what became of it into the status.

use dbbackup_contract::{Failure, Reason, RecoverReport};
use dbbackup_crds::{PitrRestore, ResolvedPitr};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;

use super::gather::Gathered;
use super::status::{Recovered, claimed, looking, noted};
use super::{Step, task};
use crate::cluster::{delete_job, is_conflict, is_going, rejection, release_job, write_status};
use crate::context::{Context, ReconcileError, status_ref};
use crate::display;
use crate::events::{publish, publish_with};
use crate::labels;
use crate::names::job_name;
use crate::reasons;
use crate::reconcile::one_shot::{NextJob, Run};
use crate::reconcile::{LOOK_AGAIN, LOOK_SOON, OneShot as _, WATCH_RUN};

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
        Step::Look(resolved, cause) => begin(seen, resolved, None, cause, context, now).await,
        Step::Note(report) => note(seen, &report, context, now).await,
        Step::MakeClaim(claim) => make_claim(seen, &claim, context, now).await,
        Step::Recover { resolved, claim, cause } => {
            begin(seen, resolved, Some(claim), cause, context, now).await
        }
        Step::Start(waiting) => run.start(&waiting, context).await,
        Step::Run { attempts, last_failure } if seen.status.base.is_none() => {
            look_on(seen, attempts, last_failure.as_ref(), context, now).await
        }
        Step::Run { attempts, last_failure } => {
            run.go_on(attempts, last_failure.as_ref(), context).await
        }
        Step::Finish(report, attempts) => {
            let end = Ok(Recovered::of(seen, *report));
            finish(seen, end, attempts, context, now).await
        }
        Step::Fail(failure, attempts) => finish(seen, Err(failure), attempts, context, now).await,
    }
}

fn run(seen: &Gathered, now: Timestamp) -> Run<'_, PitrRestore> {
    Run {
        object: &seen.request,
        identity: &seen.identity,
        status: &seen.status,
        job: seen.status.job_name.as_deref().zip(seen.run.as_ref()),
        now,
    }
}

/// Begins the look, or the recovery onto a claim.
async fn begin(
    seen: &Gathered,
    resolved: ResolvedPitr,
    claim: Option<String>,
    cause: Option<Failure>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let Some(repository) = &seen.repository else { return Ok(Action::requeue(LOOK_AGAIN)) };
    // The Job before may have a pod on a lost node.
    if let (Some(_), Some(before)) = (&cause, &seen.status.job_name) {
        delete_job(context, &seen.identity.namespace, before).await?;
    }
    let number = seen.status.jobs.unwrap_or(0).saturating_add(1);
    let purpose = task::purpose(claim.as_deref());
    let name = job_name(&seen.identity.name, &seen.identity.uid, purpose, number);
    let around = context.surroundings();
    let job = task::job(&around, seen, &resolved, repository, claim.as_deref(), name.clone());
    let job = match job {
        Ok(job) => job,
        Err(failure) => return finish(seen, Err(failure), 0, context, now).await,
    };
    let mut status = seen.status.clone();
    status.repository = Some(status_ref(&resolved.repository_ref.name, Some(repository)));
    status.resolved = Some(resolved);
    if claim.is_some() {
        status.volume_claim_name = claim;
    }
    let why = cause.map_or_else(String::new, |cause| format!(" again: {}", cause.message));
    let next = NextJob { job, name, number, why };
    Ok(run(seen, now).begin(status, next, context).await?.look())
}

/// The look goes on.
async fn look_on(
    seen: &Gathered,
    attempts: u32,
    last_failure: Option<&Failure>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let generation = seen.request.metadata.generation;
    let status = looking(seen.status.clone(), attempts, last_failure, generation, now);
    write_status(context, &seen.request, status).await?;
    Ok(Action::requeue(WATCH_RUN))
}

/// Writes down what the look has found. Its Job is done with.
async fn note(
    seen: &Gathered,
    report: &RecoverReport,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    if let Some(job) = &seen.status.job_name {
        release_job(context, &seen.identity.namespace, job, now).await?;
    }
    let status = noted(seen.status.clone(), report, seen.request.metadata.generation, now);
    let object = write_status(context, &seen.request, status).await?;
    let words = display::found(report);
    publish(context, &object, reasons::TARGET_FOUND, PitrRestore::ACTION, words);
    // The watch brings it back at once.
    Ok(Action::requeue(LOOK_AGAIN))
}

/// Makes the claim. A crash before that is written down finds it again, by the UID on it.
async fn make_claim(
    seen: &Gathered,
    claim: &PersistentVolumeClaim,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let name = claim.name_any();
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &seen.identity.namespace);
    let params =
        PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    match claims.create(&params, claim).await {
        Ok(claim) => {
            let words = format!("created the PersistentVolumeClaim {name}");
            let (reason, action) = (reasons::CLAIM_CREATED, PitrRestore::ACTION);
            publish_with(context, &seen.request, &claim, reason, action, words);
        }
        Err(error) if is_going(&error) => return Ok(Action::await_change()),
        // It came to be meanwhile: whose it is, is looked at next.
        Err(error) if is_conflict(&error) => return Ok(Action::requeue(LOOK_SOON)),
        Err(error) => {
            let Some(why) = rejection(&error) else {
                let what = format!("the PersistentVolumeClaim {name}");
                return Err(ReconcileError::Create(what, Box::new(error)));
            };
            let message = format!("the PersistentVolumeClaim {name} could not be created: {why}");
            let failure = Failure::new(Reason::PodRejected, message);
            return run(seen, now).wait(&failure, context).await;
        }
    }
    let status = claimed(seen.status.clone(), &name, seen.request.metadata.generation, now);
    write_status(context, &seen.request, status).await?;
    // The watch brings it back at once.
    Ok(Action::requeue(LOOK_AGAIN))
}

async fn finish(
    seen: &Gathered,
    end: Result<Recovered, Failure>,
    attempts: u32,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let request = run(seen, now).finish(&end, attempts, context).await?;
    let status = request.status.clone().unwrap_or_default();
    let done = Run { object: &request, status: &status, ..run(seen, now) };
    done.tidy(status.job_name.as_deref(), context).await
}
