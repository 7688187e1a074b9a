//! Carries a planned step out, then writes what became of it into the status.

use std::time::Duration;

use dbbackup_contract::{BackupReport, Failure, Outcome, Reason};
use dbbackup_crds::{Backup, BackupStatus, ResolvedBackup};
use jiff::Timestamp;
use kube::runtime::controller::Action;

use super::gather::{Gathered, Resolution, inspection_name};
use super::status::{asking, beginning, could_not_ask, unknown};
use super::{Step, hooks, task};
use crate::cluster::{Ensured, delete_job, dismiss_job, ensure_job, release_job, write_status};
use crate::context::{Context, ReconcileError, status_ref};
use crate::events::{publish, warn};
use crate::names::{Purpose, job_name};
use crate::reasons;
use crate::reconcile::one_shot::{Begun, NextJob, Run, has_ended_lately, seen_by, until};
use crate::reconcile::{LOOK_AGAIN, RunReport, copies, notifications};
use crate::run::RunView;

/// How soon one looks again that waits for its turn. It is told when that comes, but for a
/// turn that came free in a namespace which another watch sees.
const TURN_MISSED: Duration = Duration::from_secs(120);

pub(super) async fn apply(
    seen: &Gathered,
    step: Step,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let run = run(seen, now);
    match step {
        Step::Nothing => tidy(seen, context, now).await,
        Step::Wait(failure) => run.wait(&failure, context).await,
        Step::Begin(resolved) => begin(seen, &resolved, context, now).await,
        Step::Start(waiting) => run.start(&waiting, context).await,
        Step::Run { attempts, last_failure } => {
            run.go_on(attempts, last_failure.as_ref(), context).await
        }
        Step::Ask { cause, attempts, number } => {
            ask(seen, cause, attempts, number, context, now).await
        }
        // What stands in the status still holds.
        Step::Await { trouble: None, again: Some(again), .. } => {
            Ok(Action::requeue(until(again, now).min(LOOK_AGAIN)))
        }
        Step::Await { cause, trouble, again } => {
            let_inspection_go(seen, context, now).await?;
            let doing = match &trouble {
                None => "the repository is being asked".to_owned(),
                Some(trouble) => could_not_ask(trouble),
            };
            let generation = seen.backup.metadata.generation;
            let mut status = unknown(seen.status.clone(), &cause, &doing, generation, now);
            status.next_inspection_time = again;
            write_status(context, &seen.backup, status).await?;
            Ok(Action::requeue(again.map_or(LOOK_AGAIN, |again| until(again, now))))
        }
        Step::Finish(report, attempts) => finish(seen, Ok(*report), attempts, context, now).await,
        Step::Fail(failure, attempts) => finish(seen, Err(failure), attempts, context, now).await,
    }
}

fn run(seen: &Gathered, now: Timestamp) -> Run<'_, Backup> {
    Run {
        object: &seen.backup,
        identity: &seen.identity,
        status: &seen.status,
        job: seen.status.job_name.as_deref().zip(seen.run.as_ref()),
        now,
    }
}

async fn begin(
    seen: &Gathered,
    resolved: &ResolvedBackup,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let Some(repository) = &seen.repository else { return Ok(Action::requeue(LOOK_AGAIN)) };
    let written_to = status_ref(&resolved.repository_ref.name, Some(repository));
    // One that was begun has had its turn.
    if seen.status.jobs.is_none()
        && let Err(queued) = context.queue.admit(&seen.backup, &written_to.name)
    {
        let status = BackupStatus { repository: Some(written_to), ..seen.status.clone() };
        Run { status: &status, ..run(seen, now) }.wait(&queued, context).await?;
        return Ok(Action::requeue(TURN_MISSED));
    }
    let number = seen.status.jobs.unwrap_or(0).saturating_add(1);
    let name = job_name(&seen.identity.name, &seen.identity.uid, Purpose::Backup, number);
    let around = context.surroundings();
    let job = match task::backup_job(&around, seen, resolved, repository, name.clone()) {
        Ok(job) => job,
        Err(failure) => return finish(seen, Err(failure), 0, context, now).await,
    };
    // Before their names are forgotten; all that they told is written down.
    end_job(seen, context).await?;
    let_jobs_go(seen, context, now).await?;
    let mut status = beginning(seen.status.clone());
    status.resolved = Some(Box::new(resolved.clone()));
    status.series = Some(task::series(&context.cluster, seen, resolved));
    status.repository = Some(written_to);
    let next = NextJob { job, name, number, why: String::new() };
    let begun = run(seen, now).begin(status, next, context).await?;
    if begun != Begun::Yes {
        context.queue.give_back(&seen.backup);
    }
    Ok(begun.look())
}

async fn ask(
    seen: &Gathered,
    cause: Failure,
    attempts: u32,
    number: u32,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let (Resolution::Known(resolved), Some(repository)) = (&seen.resolved, &seen.repository) else {
        let name = "the repository of this run does not exist";
        let failure = Failure::new(Reason::ReferenceNotFound, format!("{}; {name}", cause.message));
        return run(seen, now).wait(&failure, context).await;
    };
    let name = inspection_name(&seen.identity, seen.status.jobs.unwrap_or(0), number);
    let job = match task::inspect_job(
        &context.surroundings(),
        seen,
        resolved,
        repository,
        name.clone(),
    ) {
        Ok(job) => job,
        Err(failure) => return finish(seen, Err(failure), attempts, context, now).await,
    };
    let refused = match ensure_job(context, &job).await? {
        Ensured::Created => {
            let note = format!("{}; the Job {name} asks the repository", cause.message);
            publish(context, &seen.backup, reasons::EVENT_INSPECTING, "Inspect", note);
            None
        }
        Ensured::Adopted => None,
        Ensured::Refused(failure) => Some(failure),
        Ensured::Going => return Ok(Action::await_change()),
    };
    let (told, generation) = ((&cause, attempts), seen.backup.metadata.generation);
    let mut status = asking(seen.status.clone(), told, number, refused.as_ref(), generation, now);
    status.resolved = Some(resolved.clone());
    status.series = Some(task::series(&context.cluster, seen, resolved));
    write_status(context, &seen.backup, status).await?;
    // Only now: a Job that goes before what was seen of it is stored takes that along.
    end_job(seen, context).await?;
    Ok(Action::requeue(LOOK_AGAIN))
}

/// Ends the run's Job where it does not end by itself. What a lost pod may still do is
/// fenced by the repository.
async fn end_job(seen: &Gathered, context: &Context) -> Result<(), ReconcileError> {
    match (&seen.run, &seen.status.job_name) {
        (Some(run), Some(job)) if run.hangs() => {
            delete_job(context, &seen.identity.namespace, job).await
        }
        _ => Ok(()),
    }
}

async fn finish(
    seen: &Gathered,
    end: Result<BackupReport, Failure>,
    attempts: u32,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    // Who is told is decided with the end, once: what is written down then is sent, whatever
    // happens to this process, and nothing of a backup that ended before.
    let outcome = end.as_ref().map_or(Outcome::Failed, RunReport::outcome);
    let notifications = notifications::of_end(&seen.backup, outcome, context, now).await?;
    let status = BackupStatus { notifications, ..seen.status.clone() };
    let run = Run { status: &status, ..run(seen, now) };
    let backup = run.finish(&end, attempts, context).await?;
    let told = backup.status.as_ref().map_or(&[][..], |status| &status.hooks);
    if let Some(failure) = hooks::trouble(told) {
        warn(context, &backup, "Hooks", &failure).await;
    }
    let mut done = seen.clone();
    done.status = backup.status.clone().unwrap_or_default();
    done.backup = backup;
    tidy(&done, context, now).await
}

/// An inspection that gave no answer: one whose pod never ran would wait for ever.
async fn let_inspection_go(
    seen: &Gathered,
    context: &Context,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let (Some(number), None) = (seen.status.inspections, seen.status.next_inspection_time) else {
        return Ok(());
    };
    let namespace = &seen.identity.namespace;
    let name = inspection_name(&seen.identity, seen.status.jobs.unwrap_or(0), number);
    match &seen.inspection {
        None | Some(RunView::Waiting(_) | RunView::Running { .. }) => Ok(()),
        ended => dismiss_job(context, namespace, &name, ended.as_ref(), now).await,
    }
}

/// Lets the Jobs of a run that has ended go, for a while after its end, looks after who is
/// told of it, and after its copies.
async fn tidy(
    seen: &Gathered,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    if has_ended_lately(&seen.status.conditions, now) {
        let_jobs_go(seen, context, now).await?;
    }
    // What may still change of the spec (pinned, retainFor, erase) is maintenance's.
    let status = seen_by(seen.status.clone(), seen.backup.metadata.generation);
    let backup = write_status(context, &seen.backup, status).await?;
    let (backup, told) = notifications::reconcile(backup, context, now).await?;
    let copied = copies::reconcile(&backup, context, now).await?;
    let again = told.into_iter().chain(copied).min();
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Lets the Jobs that the status names go: nobody looks at them any more.
async fn let_jobs_go(
    seen: &Gathered,
    context: &Context,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let jobs = seen.status.jobs.unwrap_or(0);
    let inspection =
        seen.status.inspections.map(|number| inspection_name(&seen.identity, jobs, number));
    for name in seen.status.job_name.iter().cloned().chain(inspection) {
        release_job(context, &seen.identity.namespace, &name, now).await?;
    }
    Ok(())
}
