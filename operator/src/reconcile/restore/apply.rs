//! Carries a planned step out, then writes what became of it into the status.

use dbbackup_contract::{
    Action as TaskAction, Failure, Outcome, Reason, RestoreAction, RestoreDatabase, RestoreReport,
    SnapshotSelector, Subject, SubjectKind, Task,
};
use dbbackup_crds::{
    BackupRepository, RepositoryStatusRef, ResolvedRestore, RestorePhase, RestoreRequest,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::Resource;
use kube::runtime::controller::Action;

use super::gather::Gathered;
use super::{Step, status};
use crate::cluster::{Ensured, delete_job, ensure_job, publish, release_job, warn, write_status};
use crate::conditions::{Standing, Verdict, ended};
use crate::context::{
    Context, ReconcileError, Surroundings, claim_of, stall_seconds, task_defaults,
};
use crate::display;
use crate::job::{JobRequest, Mounts, build_job, postgresql_access, repository_access};
use crate::names::{Purpose, job_name};
use crate::reasons;
use crate::reconcile::backup::{LOOK_AGAIN, WATCH_RUN, starting, until};
use crate::run::RunView;

pub(super) async fn apply(
    seen: &Gathered,
    step: Step,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let generation = seen.request.metadata.generation;
    match step {
        Step::Nothing => tidy(seen, context, now).await,
        Step::Wait(failure) => {
            let status = status::waiting(seen.status.clone(), &failure, generation, now);
            write_status(context, &seen.request, status).await?;
            Ok(Action::requeue(LOOK_AGAIN))
        }
        Step::Begin(resolved, cause) => begin(seen, &resolved, cause, context, now).await,
        Step::Start(waiting) => {
            let (verdict, words) = starting(&waiting);
            let status = status::running(seen.status.clone(), &verdict, words, generation, now);
            write_status(context, &seen.request, status).await?;
            Ok(Action::requeue(until(waiting.until, now).min(LOOK_AGAIN)))
        }
        Step::Run { attempts, last_failure } => {
            let so_far = seen.status.progress.as_ref();
            let words = display::attempt(attempts, last_failure.as_ref(), so_far);
            let verdict = match &last_failure {
                Some(failure) => Verdict::of_failure(Standing::Reconciling, failure),
                None => Verdict::new(Standing::Reconciling, reasons::RUNNING, "the restore runs"),
            };
            let mut status = status::running(seen.status.clone(), &verdict, words, generation, now);
            status.attempts = Some(attempts);
            status.error = last_failure;
            write_status(context, &seen.request, status).await?;
            Ok(Action::requeue(WATCH_RUN))
        }
        Step::Finish(report, attempts) => finish(seen, Ok(*report), attempts, context, now).await,
        Step::Fail(failure, attempts) => finish(seen, Err(failure), attempts, context, now).await,
    }
}

/// First what the restore is made from is written down, then the Job is
/// created, then its name is written down: a crash in between finds the same Job again.
async fn begin(
    seen: &Gathered,
    resolved: &ResolvedRestore,
    cause: Option<Failure>,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let Some(repository) = &seen.repository else { return Ok(Action::requeue(LOOK_AGAIN)) };
    let generation = seen.request.metadata.generation;
    let namespace = &seen.identity.namespace;
    // The Job before may have a pod on a lost node; the restore's own lock fences it.
    if let (Some(_), Some(before)) = (&cause, &seen.status.job_name) {
        delete_job(context, namespace, before).await?;
    }
    let jobs = seen.status.jobs.unwrap_or(0).saturating_add(1);
    let name = job_name(&seen.identity.name, &seen.identity.uid, Purpose::Restore, jobs);
    let job = match restore_job(&context.surroundings(), seen, resolved, repository, name.clone()) {
        Ok(job) => job,
        Err(failure) => return finish(seen, Err(failure), 0, context, now).await,
    };
    let mut status = seen.status.clone();
    status.phase = Some(status.phase.unwrap_or(RestorePhase::Pending));
    status.resolved = Some(resolved.clone());
    status.snapshot_id.clone_from(&resolved.snapshot_id);
    status.repository = Some(RepositoryStatusRef {
        name: resolved.repository_ref.name.clone(),
        id: repository.status.as_ref().and_then(|status| status.id.clone()),
    });
    let request = write_status(context, &seen.request, status.clone()).await?;
    match ensure_job(context, &job).await? {
        Ensured::Created => {
            let why = cause.map_or_else(String::new, |cause| format!(" again: {}", cause.message));
            let note = format!("created the Job {name}{why}");
            publish(context, &request, reasons::EVENT_JOB_CREATED, "Begin", note).await;
        }
        Ensured::Adopted => {}
        Ensured::Refused(failure) => {
            let status = status::waiting(status, &failure, generation, now);
            write_status(context, &request, status).await?;
            return Ok(Action::requeue(LOOK_AGAIN));
        }
    }
    status.job_name = Some(name);
    status.jobs = Some(jobs);
    status.start_time = status.start_time.or(Some(now));
    status.error = None;
    status.report = None;
    let verdict =
        Verdict::new(Standing::Reconciling, reasons::STARTING, "the Job's pod is starting");
    let status = status::running(status, &verdict, "starting".to_owned(), generation, now);
    write_status(context, &request, status).await?;
    Ok(Action::requeue(LOOK_AGAIN))
}

pub(super) fn restore_job(
    around: &Surroundings,
    seen: &Gathered,
    resolved: &ResolvedRestore,
    repository: &BackupRepository,
    name: String,
) -> Result<Job, Failure> {
    let invalid = |message: String| Failure::new(Reason::InvalidSpec, message);
    let spec = &seen.request.spec;
    let mut mounts = Mounts::default();
    let target = resolved
        .target
        .postgresql
        .as_ref()
        .ok_or_else(|| invalid("spec.target names no server".to_owned()))?;
    let target = postgresql_access(target, &mut mounts);
    let repository_name = repository.metadata.name.clone().unwrap_or_default();
    let id = repository.status.as_ref().and_then(|status| status.id.as_deref());
    let access = repository_access(&repository_name, &repository.spec, id, &mut mounts)
        .ok_or_else(|| invalid(format!("the BackupRepository {repository_name} names no place")))?;
    let snapshot = match (&resolved.snapshot_id, &resolved.series) {
        (Some(id), _) => SnapshotSelector::Id(id.clone()),
        (None, Some(series)) => {
            SnapshotSelector::Latest { series: series.clone(), before: resolved.before }
        }
        (None, None) => return Err(invalid("spec.from names no backup".to_owned())),
    };
    let (version, workers) = task_defaults();
    let task = Task {
        version,
        subject: Subject {
            kind: SubjectKind::RestoreRequest,
            namespace: seen.identity.namespace.clone(),
            name: seen.identity.name.clone(),
            uid: seen.identity.uid.clone(),
        },
        report: Some(around.endpoint.clone()),
        repository: access,
        action: TaskAction::Restore(RestoreAction {
            request_uid: seen.identity.uid.clone(),
            snapshot,
            target,
            databases: spec
                .databases
                .iter()
                .map(|database| RestoreDatabase {
                    name: database.name.clone(),
                    as_name: database.as_name.clone(),
                })
                .collect(),
            globals: spec.globals,
            strategy: spec.strategy,
        }),
        stall_timeout_seconds: stall_seconds(&spec.job),
        workers,
    };
    let owner = seen
        .request
        .controller_owner_ref(&())
        .ok_or_else(|| Failure::new(Reason::Internal, "the object has no UID"))?;
    let request = JobRequest {
        name,
        owner,
        purpose: Purpose::Restore,
        task: &task,
        mounts: &mounts,
        claim: claim_of(&repository.spec),
        job: &spec.job,
    };
    build_job(&request, &around.runner).map_err(|error| invalid(error.to_string()))
}

async fn finish(
    seen: &Gathered,
    end: Result<RestoreReport, Failure>,
    attempts: u32,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    // A Job whose pods never started would wait for ever.
    if let (Some(RunView::NeverStarted(_)), Some(job)) = (&seen.run, &seen.status.job_name) {
        delete_job(context, &seen.identity.namespace, job).await?;
    }
    let generation = seen.request.metadata.generation;
    let status = status::finished(seen.status.clone(), &end, attempts, generation, now);
    let attempts = status.attempts.unwrap_or(attempts);
    let request: RestoreRequest = write_status(context, &seen.request, status).await?;
    match &end {
        Ok(report) if report.outcome == Outcome::Succeeded => {
            let note = display::restore(report);
            publish(context, &request, reasons::SUCCEEDED, "Restore", note).await;
        }
        Ok(report) => {
            let failure = report
                .error
                .clone()
                .unwrap_or_else(|| Failure::new(Reason::DatabaseFailed, display::restore(report)));
            let is_partial = report.outcome == Outcome::PartiallyFailed;
            let told = if is_partial { failure } else { ended(&failure, attempts) };
            warn(context, &request, "Restore", &told).await;
        }
        Err(failure) => warn(context, &request, "Restore", &ended(failure, attempts)).await,
    }
    let mut done = seen.clone();
    done.status = request.status.unwrap_or_default();
    tidy(&done, context, now).await
}

/// Lets the Job of a restore that has ended go; see `backup`.
async fn tidy(
    seen: &Gathered,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let ended = seen.status.completion_time.unwrap_or(Timestamp::MIN);
    if now.duration_since(ended).as_hours() < 1
        && let Some(name) = &seen.status.job_name
    {
        release_job(context, &seen.identity.namespace, name).await?;
    }
    Ok(Action::await_change())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
