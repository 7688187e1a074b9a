//! Carries a planned step out, then writes what became of it into the status.

use dbbackup_contract::{BackupReport, Failure, Outcome, Reason};
use dbbackup_crds::{Backup, BackupPhase, RepositoryStatusRef, ResolvedBackup};
use jiff::Timestamp;
use kube::runtime::controller::Action;

use super::gather::{Gathered, Resolution, inspection_name};
use super::{LOOK_AGAIN, Step, WATCH_RUN, status, task};
use crate::cluster::{Ensured, delete_job, ensure_job, publish, release_job, warn, write_status};
use crate::conditions::{Standing, Verdict, ended, sentence};
use crate::context::{Context, ReconcileError};
use crate::display;
use crate::names::{Purpose, job_name};
use crate::reasons;
use crate::run::{RunView, Waiting};

pub(super) async fn apply(
    seen: &Gathered,
    step: Step,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let generation = seen.backup.metadata.generation;
    let running = |verdict: Verdict, display: String| {
        status::running(seen.status.clone(), &verdict, display, generation, now)
    };
    match step {
        Step::Nothing => tidy(seen, context, now).await,
        Step::Wait(failure) => {
            let status = status::waiting(seen.status.clone(), &failure, generation, now);
            write_status(context, &seen.backup, status).await?;
            Ok(Action::requeue(LOOK_AGAIN))
        }
        Step::Begin(resolved) => begin(seen, &resolved, context, now).await,
        Step::Start(waiting) => {
            let (verdict, words) = starting(&waiting);
            write_status(context, &seen.backup, running(verdict, words)).await?;
            Ok(Action::requeue(until(waiting.until, now).min(LOOK_AGAIN)))
        }
        Step::Run { attempts, last_failure } => {
            let so_far = seen.status.progress.as_ref();
            let words = display::attempt(attempts, last_failure.as_ref(), so_far);
            let verdict = match &last_failure {
                Some(failure) => Verdict::of_failure(Standing::Reconciling, failure),
                None => Verdict::new(Standing::Reconciling, reasons::RUNNING, "the backup runs"),
            };
            let mut status = running(verdict, words);
            status.attempts = Some(attempts);
            status.error = last_failure;
            write_status(context, &seen.backup, status).await?;
            Ok(Action::requeue(WATCH_RUN))
        }
        Step::Ask { cause, attempts, number } => {
            ask(seen, cause, attempts, number, context, now).await
        }
        Step::Await { cause, trouble, again } => {
            let_inspection_go(seen, context).await?;
            let mut message = format!("{}; the repository is being asked", cause.message);
            if let Some(trouble) = &trouble {
                message = format!(
                    "{}; the repository could not be asked: {}",
                    cause.message,
                    sentence(trouble)
                );
            }
            let reason = Reason::OutcomeUnknown.as_str();
            let verdict = Verdict::new(Standing::Reconciling, reason, message.clone());
            let mut status = running(verdict, format!("outcome unknown: {message}"));
            status.next_inspection_time = again;
            write_status(context, &seen.backup, status).await?;
            Ok(Action::requeue(again.map_or(LOOK_AGAIN, |again| until(again, now))))
        }
        Step::Finish(report, attempts) => finish(seen, Ok(*report), attempts, context, now).await,
        Step::Fail(failure, attempts) => finish(seen, Err(failure), attempts, context, now).await,
    }
}

/// First what the run is made from is written down, then the Job is created,
/// then its name is written down: a crash in between finds the same Job again.
async fn begin(
    seen: &Gathered,
    resolved: &ResolvedBackup,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let Some(repository) = &seen.repository else { return Ok(Action::requeue(LOOK_AGAIN)) };
    let generation = seen.backup.metadata.generation;
    let jobs = seen.status.jobs.unwrap_or(0).saturating_add(1);
    let name = job_name(&seen.identity.name, &seen.identity.uid, Purpose::Backup, jobs);
    let job =
        match task::backup_job(&context.surroundings(), seen, resolved, repository, name.clone()) {
            Ok(job) => job,
            Err(failure) => return finish(seen, Err(failure), 0, context, now).await,
        };
    let mut status = seen.status.clone();
    status.phase = Some(status.phase.unwrap_or(BackupPhase::Pending));
    status.resolved = Some(resolved.clone());
    status.series = Some(task::series(&context.cluster, seen, resolved));
    status.repository = Some(RepositoryStatusRef {
        name: resolved.repository_ref.name.clone(),
        id: repository.status.as_ref().and_then(|status| status.id.clone()),
    });
    let backup = write_status(context, &seen.backup, status.clone()).await?;
    match ensure_job(context, &job).await? {
        Ensured::Created => {
            publish(
                context,
                &backup,
                reasons::EVENT_JOB_CREATED,
                "Begin",
                format!("created the Job {name}"),
            )
            .await;
        }
        Ensured::Adopted => {}
        Ensured::Refused(failure) => {
            let status = status::waiting(status, &failure, generation, now);
            write_status(context, &backup, status).await?;
            return Ok(Action::requeue(LOOK_AGAIN));
        }
    }
    status.job_name = Some(name);
    status.jobs = Some(jobs);
    status.start_time = status.start_time.or(Some(now));
    status.inspections = None;
    status.next_inspection_time = None;
    status.error = None;
    status.report = None;
    let verdict =
        Verdict::new(Standing::Reconciling, reasons::STARTING, "the Job's pod is starting");
    let status = status::running(status, &verdict, "starting".to_owned(), generation, now);
    write_status(context, &backup, status).await?;
    Ok(Action::requeue(LOOK_AGAIN))
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
        let status =
            status::waiting(seen.status.clone(), &failure, seen.backup.metadata.generation, now);
        write_status(context, &seen.backup, status).await?;
        return Ok(Action::requeue(LOOK_AGAIN));
    };
    // A pod on a lost node holds its Job back: the repository fences it, so it may go.
    if let (Some(RunView::Unknown(..)), Some(job)) = (&seen.run, &seen.status.job_name)
        && cause.reason == Reason::PodDisrupted
    {
        delete_job(context, &seen.identity.namespace, job).await?;
    }
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
    match ensure_job(context, &job).await? {
        Ensured::Created => {
            let note = format!("{}; the Job {name} asks the repository", cause.message);
            publish(context, &seen.backup, reasons::EVENT_INSPECTING, "Inspect", note).await;
        }
        Ensured::Adopted => {}
        Ensured::Refused(failure) => {
            let words = format!("outcome unknown: {}", failure.message);
            let verdict = Verdict::of_failure(Standing::Reconciling, &failure);
            let generation = seen.backup.metadata.generation;
            let status = status::running(seen.status.clone(), &verdict, words, generation, now);
            write_status(context, &seen.backup, status).await?;
            return Ok(Action::requeue(LOOK_AGAIN));
        }
    }
    let verdict = Verdict::new(
        Standing::Reconciling,
        Reason::OutcomeUnknown.as_str(),
        format!("{}; the repository is being asked", cause.message),
    );
    let mut status = seen.status.clone();
    status.resolved = Some(resolved.as_ref().clone());
    status.series = Some(task::series(&context.cluster, seen, resolved));
    status.inspections = Some(number);
    status.next_inspection_time = None;
    status.attempts = Some(attempts);
    let words = format!("outcome unknown: {}; the repository is being asked", cause.message);
    status.error = Some(cause);
    let generation = seen.backup.metadata.generation;
    let status = status::running(status, &verdict, words, generation, now);
    write_status(context, &seen.backup, status).await?;
    Ok(Action::requeue(LOOK_AGAIN))
}

async fn finish(
    seen: &Gathered,
    end: Result<BackupReport, Failure>,
    attempts: u32,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    // A Job whose pods never started would wait for ever.
    if let (Some(RunView::NeverStarted(_)), Some(job)) = (&seen.run, &seen.status.job_name) {
        delete_job(context, &seen.identity.namespace, job).await?;
    }
    let generation = seen.backup.metadata.generation;
    let status = status::finished(seen.status.clone(), &end, attempts, generation, now);
    let attempts = status.attempts.unwrap_or(attempts);
    let backup: Backup = write_status(context, &seen.backup, status).await?;
    match &end {
        Ok(report) if report.outcome == Outcome::Succeeded => {
            let note = display::backup(report);
            publish(context, &backup, reasons::SUCCEEDED, "Backup", note).await;
        }
        Ok(report) => {
            let failure = report
                .error
                .clone()
                .unwrap_or_else(|| Failure::new(Reason::DatabaseFailed, display::backup(report)));
            let is_partial = report.outcome == Outcome::PartiallyFailed;
            let told = if is_partial { failure } else { ended(&failure, attempts) };
            warn(context, &backup, "Backup", &told).await;
        }
        Err(failure) => warn(context, &backup, "Backup", &ended(failure, attempts)).await,
    }
    let mut done = seen.clone();
    done.status = backup.status.unwrap_or_default();
    tidy(&done, context, now).await
}

/// An inspection that gave no answer: one whose pod never ran would wait for ever.
async fn let_inspection_go(seen: &Gathered, context: &Context) -> Result<(), ReconcileError> {
    let (Some(number), None) = (seen.status.inspections, seen.status.next_inspection_time) else {
        return Ok(());
    };
    let namespace = &seen.identity.namespace;
    let name = inspection_name(&seen.identity, seen.status.jobs.unwrap_or(0), number);
    match &seen.inspection {
        Some(RunView::NeverStarted(_)) => delete_job(context, namespace, &name).await,
        Some(RunView::Unknown(..) | RunView::Reported(..)) => {
            release_job(context, namespace, &name).await
        }
        _ => Ok(()),
    }
}

/// Lets the Jobs of a run that has ended go. Only for a while after the end: a
/// restart of the operator does not look at every Backup there is.
async fn tidy(
    seen: &Gathered,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let ended = seen.status.completion_time.unwrap_or(Timestamp::MIN);
    if now.duration_since(ended).as_hours() >= 1 {
        return Ok(Action::await_change());
    }
    let namespace = &seen.identity.namespace;
    if let Some(name) = &seen.status.job_name {
        release_job(context, namespace, name).await?;
    }
    if let Some(number) = seen.status.inspections {
        let name = inspection_name(&seen.identity, seen.status.jobs.unwrap_or(0), number);
        release_job(context, namespace, &name).await?;
    }
    Ok(Action::await_change())
}

/// Verdict and words of a pod that has not started.
pub(crate) fn starting(waiting: &Waiting) -> (Verdict, String) {
    match &waiting.cause {
        Some(failure) => (
            Verdict::of_failure(Standing::Reconciling, failure),
            format!("starting: {}", failure.message),
        ),
        None => (
            Verdict::new(Standing::Reconciling, reasons::STARTING, "the Job's pod is starting"),
            "starting".to_owned(),
        ),
    }
}

/// From now until `time`, at least a second.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(time.duration_since(now))
        .unwrap_or_default()
        .max(std::time::Duration::from_secs(1))
}
