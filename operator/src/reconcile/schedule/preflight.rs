//! Looking whether a schedule's backups would work, before one is due: a Job for each
//! generation of the spec, and one when the last proof is a day old (ADR 53). Nothing waits for
//! it, and whatever it finds keeps no backup from being started.

use std::time::Duration;

use dbbackup_contract::{Action as TaskAction, Failure, Method, Outcome, PreflightAction, Reason};
use dbbackup_contract::{PreflightReport, Report, SubjectKind};
use dbbackup_crds::{
    BackupRepository, BackupSchedule, BackupScheduleStatus, LastPreflight, PreflightRun,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;

use super::attempt::{Attempt, AttemptTrouble};
use super::{Children, archiver};
use crate::cluster::{Ensured, delete_job, dismiss_job, ensure_job, observe, release_job};
use crate::context::{Context, Identity, ReconcileError, Surroundings, start_timeout};
use crate::events::warn;
use crate::job::{Errand, Mounts, Place, hooks_access, source_access};
use crate::names::{Purpose, job_name};
use crate::reconcile::LOOK_SOON;
use crate::reconcile::backup::hooks;
use crate::reconcile::one_shot::{another_action, until};
use crate::run::RunView;

/// So old is a proof when it is looked again.
const PROVES_FOR: SignedDuration = SignedDuration::from_hours(24);
/// So long after a look that failed it is looked again, within a day of a change of the spec:
/// what was wrong may lie outside of it, and whoever has corrected that waits.
const AFTER_A_FAILURE: SignedDuration = SignedDuration::from_hours(1);
/// For so long after a change of the spec a look that has missed something is repeated each
/// minute: in GitOps a Secret may come after what names it, and nobody else sees it come.
const MAY_COME_FOR: SignedDuration = SignedDuration::from_hours(1);
const WHILE_IT_MAY_COME: SignedDuration = SignedDuration::from_mins(1);
/// Most that run at once, and of one namespace: a thousand schedules may be applied at the
/// same time, and pods that do not start keep their places.
const AT_ONCE: usize = 20;
const OF_A_NAMESPACE: usize = 5;
/// One that has begun so long ago keeps nobody waiting: it has ended, or will not start.
const KEEPS_ITS_PLACE: SignedDuration = SignedDuration::from_mins(30);
/// How often one that waits looks whether there is a place, and how far these are spread.
const WAITS: (u64, u64) = (120, 120);

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing before this time, if ever.
    Rest(Option<Timestamp>),
    /// Create the Job.
    Begin,
    /// The Job is on its way.
    Watch(Attempt),
    /// It looks at a spec that is no more: away with it.
    Abandon,
    /// It has ended with a report.
    Finish(Box<PreflightReport>),
    /// It has ended without one.
    Fail(Failure),
}

/// Since when the present generation is known. Of one that was known before this was
/// written down nobody knows it.
pub(super) fn generation_time(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    if status.observed_generation == schedule.metadata.generation {
        status.generation_time
    } else {
        Some(now)
    }
}

/// The last look, if it was at the present spec.
pub(super) fn last<'a>(
    schedule: &BackupSchedule,
    status: &'a BackupScheduleStatus,
) -> Option<&'a LastPreflight> {
    let last = status.last_preflight.as_ref()?;
    (Some(last.generation) == schedule.metadata.generation).then_some(last)
}

/// Whether what a look has missed may come by itself: it is no mistake of the spec so soon
/// after that came.
pub(super) fn may_come(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    failed: &LastPreflight,
) -> bool {
    let is_missing = failed.error.as_ref().is_some_and(|error| is_missing(error.reason));
    is_missing && is_within(MAY_COME_FOR, schedule, status, failed)
}

/// What somebody else brings, and a look ahead finds once it is there.
fn is_missing(reason: Reason) -> bool {
    matches!(
        reason,
        // Of a ConfigMap, too.
        Reason::SecretNotFound | Reason::SecretKeyNotFound | Reason::DatabaseNotFound
    )
}

/// Whether a look ended so soon after the present generation came.
fn is_within(
    time: SignedDuration,
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    look: &LastPreflight,
) -> bool {
    let created = || schedule.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let since = status.generation_time.or_else(created);
    since.is_some_and(|since| look.time.duration_since(since) < time)
}

/// How long after a look that failed it is looked again.
fn pause(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    failed: &LastPreflight,
) -> SignedDuration {
    if may_come(schedule, status, failed) {
        WHILE_IT_MAY_COME
    } else if is_within(PROVES_FOR, schedule, status, failed) {
        AFTER_A_FAILURE
    } else {
        PROVES_FOR
    }
}

/// When it was last proved that backups of the present spec work: by one, or by a look.
pub(super) fn proved(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    children: &Children,
) -> Option<Timestamp> {
    let by_backup = match status.generation_time {
        None => children.last_success.max(status.last_successful_time),
        // One that began before was of another spec, whenever it ended.
        Some(since) => children.proof.filter(|(began, _)| since <= *began).map(|(_, ended)| ended),
    };
    let by_look = last(schedule, status).filter(|last| last.outcome == Outcome::Succeeded);
    by_backup.max(by_look.map(|last| last.time))
}

/// Plans the next step.
pub(super) fn plan(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    children: &Children,
    run: Option<&RunView>,
    now: Timestamp,
) -> Step {
    if let (Some(running), Some(run)) = (&status.preflight, run) {
        if Some(running.generation) != schedule.metadata.generation {
            return Step::Abandon;
        }
        return match run {
            RunView::Waiting(waiting) => Step::Watch(Attempt::Starts(waiting.clone())),
            RunView::Running { attempts, last_failure } => {
                Step::Watch(Attempt::Runs(*attempts, last_failure.clone()))
            }
            RunView::Reported(report, _) => match report.as_ref() {
                Report::Preflight(report) => Step::Finish(report.clone()),
                _ => Step::Fail(another_action()),
            },
            RunView::NeverStarted(failure)
            | RunView::Unknown(failure, _)
            | RunView::Lost(failure, _) => Step::Fail(failure.clone()),
        };
    }
    // A backup that runs proves more; one that is not to run, nothing.
    if schedule.spec.suspend || !children.active.is_empty() {
        return Step::Rest(None);
    }
    let failed = last(schedule, status).filter(|last| last.outcome != Outcome::Succeeded);
    let proof = proved(schedule, status, children);
    let due = match (proof, failed) {
        (proof, Some(failed)) if proof.is_none_or(|proof| proof < failed.time) => {
            failed.time.saturating_add(pause(schedule, status, failed))
        }
        (Some(proof), _) => proof.saturating_add(PROVES_FOR),
        (None, _) => Ok(now),
    };
    match due {
        Ok(due) if due > now => Step::Rest(Some(due)),
        _ => Step::Begin,
    }
}

/// A schedule whose backups are looked at ahead.
pub(super) struct Ahead<'a> {
    pub(super) schedule: &'a BackupSchedule,
    pub(super) identity: &'a Identity,
    /// Where it can be used.
    pub(super) repository: Option<&'a BackupRepository>,
    pub(super) context: &'a Context,
    pub(super) now: Timestamp,
}

impl Ahead<'_> {
    /// Brings it forward by one step; the status is the caller's to write. Gives when to look
    /// again at the latest, and what is to be told of a look that goes on.
    pub(super) async fn go_on(
        &self,
        status: &mut BackupScheduleStatus,
        children: &Children,
    ) -> Result<(Option<Duration>, Option<AttemptTrouble>), ReconcileError> {
        let run = match &status.preflight {
            Some(PreflightRun { job_name, .. }) => {
                let timeout = start_timeout(&self.schedule.spec.job);
                let report = status.preflight_report.as_ref();
                let namespace = &self.identity.namespace;
                Some(observe(self.context, namespace, job_name, report, timeout, self.now).await?)
            }
            None => {
                // Of one that was begun and forgotten.
                status.preflight_report = None;
                None
            }
        };
        let step = plan(self.schedule, status, children, run.as_ref(), self.now);
        tracing::debug!(?step, "planned");
        let again = match step {
            Step::Rest(next) => next.map(|next| until(next, self.now)),
            Step::Begin => self.begin(status).await?,
            Step::Watch(attempt) => {
                let soon = attempt.next_look(status.preflight_report.is_some(), self.now);
                return Ok((Some(soon), attempt.trouble()));
            }
            Step::Abandon => {
                if let Some(run) = status.preflight.take() {
                    delete_job(self.context, &self.identity.namespace, &run.job_name).await?;
                }
                status.preflight_report = None;
                Some(Duration::from_secs(1))
            }
            Step::Finish(report) => self.finish(status, &report).await?,
            Step::Fail(failure) => self.fail(status, &failure, run.as_ref()).await?,
        };
        Ok((again, None))
    }

    fn has_a_place(&self) -> bool {
        let known = self.context.schedules.state();
        let mut running = (0, 0);
        for schedule in known.iter().filter_map(|schedule| schedule.0.as_ref().ok()) {
            let run = schedule.status.as_ref().and_then(|status| status.preflight.as_ref());
            let lately =
                |run: &&PreflightRun| self.now.duration_since(run.start_time) < KEEPS_ITS_PLACE;
            if run.filter(lately).is_some() {
                running.0 += 1;
                let ours = schedule.metadata.namespace.as_ref() == Some(&self.identity.namespace);
                running.1 += usize::from(ours);
            }
        }
        running.0 < AT_ONCE && running.1 < OF_A_NAMESPACE
    }

    async fn begin(
        &self,
        status: &mut BackupScheduleStatus,
    ) -> Result<Option<Duration>, ReconcileError> {
        // A repository that is not ready says so itself, and is waited for.
        let Some(repository) = self.repository else { return Ok(None) };
        if !self.has_a_place() {
            let (least, spread) = WAITS;
            let behind = self.identity.uid.bytes().fold(0, |sum, byte| sum + u64::from(byte));
            return Ok(Some(Duration::from_secs(least + behind % spread)));
        }
        let generation = self.schedule.metadata.generation.unwrap_or_default();
        // The same for the same look, so that a crash makes no second one.
        let number = status.last_preflight.as_ref().map_or(0, |last| last.time.as_second());
        let look = format!("{}/{generation}/{number}", self.identity.uid);
        let name = job_name(&self.identity.name, &look, Purpose::Preflight, 1);
        let run = PreflightRun { job_name: name.clone(), generation, start_time: self.now };
        let job = match self.job(&self.context.surroundings(), repository, name) {
            Ok(job) => job,
            Err(failure) => {
                status.preflight = Some(run);
                return self.fail(status, &failure, None).await;
            }
        };
        // Of looks that are repeated each minute one Job is kept: a quota may count them.
        let before = last(self.schedule, status)
            .filter(|failed| may_come(self.schedule, status, failed))
            .and_then(|failed| failed.job_name.as_deref())
            .filter(|before| *before != run.job_name);
        if let Some(before) = before {
            delete_job(self.context, &self.identity.namespace, before).await?;
        }
        match ensure_job(self.context, &job).await? {
            Ensured::Created | Ensured::Adopted => {}
            Ensured::Going => return Ok(Some(LOOK_SOON)),
            Ensured::Refused(failure) => {
                status.preflight = Some(run);
                return self.fail(status, &failure, None).await;
            }
        }
        status.preflight = Some(run);
        Ok(Some(LOOK_SOON))
    }

    /// It runs as the backups do, with what they mount: what keeps their pods from starting
    /// keeps its pod, too.
    fn job(
        &self,
        around: &Surroundings,
        repository: &BackupRepository,
        name: String,
    ) -> Result<Job, Failure> {
        let spec = &self.schedule.spec;
        let mut mounts = Mounts::default();
        let place = Place::new("source.postgresql", "BackupSchedule", &self.identity.name);
        let source = source_access(&spec.source, &place, &mut mounts)
            .ok_or_else(|| Failure::new(Reason::InvalidSpec, "spec.source names no server"))?;
        let place = Place::new("", "BackupSchedule", &self.identity.name);
        let hooks = hooks_access(spec.hooks.as_ref(), &place, &mut mounts)?;
        let errand = Errand {
            kind: SubjectKind::BackupSchedule,
            identity: self.identity,
            purpose: Purpose::Preflight,
            name,
            action: TaskAction::Preflight(PreflightAction {
                source,
                method: spec.method,
                archives_log: archiver::is_wanted(spec),
                hooks,
            }),
            mounts,
            repository: Some(repository),
            destination: None,
            job: &spec.job,
        };
        errand.job_of(self.schedule, around)
    }

    async fn finish(
        &self,
        status: &mut BackupScheduleStatus,
        report: &PreflightReport,
    ) -> Result<Option<Duration>, ReconcileError> {
        let job = status.preflight.as_ref().map(|run| run.job_name.clone());
        ended(status, Ok(report), self.now);
        if let Some(job) = job {
            release_job(self.context, &self.identity.namespace, &job, self.now).await?;
        }
        if let Some(failure) = report.error.clone().or_else(|| hooks::trouble(&report.hooks)) {
            warn(self.context, self.schedule, "Preflight", &failure).await;
        }
        Ok(Some(self.until_next(status)))
    }

    async fn fail(
        &self,
        status: &mut BackupScheduleStatus,
        failure: &Failure,
        run: Option<&RunView>,
    ) -> Result<Option<Duration>, ReconcileError> {
        let job = status.preflight.as_ref().map(|run| run.job_name.clone());
        ended(status, Err(failure), self.now);
        if let Some(job) = job {
            dismiss_job(self.context, &self.identity.namespace, &job, run, self.now).await?;
        }
        warn(self.context, self.schedule, "Preflight", failure).await;
        Ok(Some(self.until_next(status)))
    }

    /// How long after a look that has just ended the next one may be due.
    fn until_next(&self, status: &BackupScheduleStatus) -> Duration {
        let failed = last(self.schedule, status).filter(|last| last.outcome != Outcome::Succeeded);
        let pause = failed.map_or(PROVES_FOR, |failed| pause(self.schedule, status, failed));
        until(self.now.saturating_add(pause).unwrap_or(self.now), self.now)
    }
}

/// What came of a look, in the status.
pub(super) fn ended(
    status: &mut BackupScheduleStatus,
    end: Result<&PreflightReport, &Failure>,
    now: Timestamp,
) {
    status.preflight_report = None;
    let Some(run) = status.preflight.take() else { return };
    let nothing = LastPreflight {
        time: now,
        generation: run.generation,
        outcome: Outcome::Failed,
        job_name: Some(run.job_name),
        server: None,
        database_count: dbbackup_contract::DatabaseCount::default(),
        databases: Vec::new(),
        hooks: Vec::new(),
        error: None,
    };
    status.last_preflight = Some(match end {
        Ok(report) => LastPreflight {
            outcome: report.outcome,
            server: report.server.clone(),
            database_count: report.database_count,
            databases: report.databases.clone(),
            hooks: report.hooks.clone(),
            error: report.error.clone(),
            ..nothing
        },
        Err(failure) => LastPreflight { error: Some(failure.clone()), ..nothing },
    });
}

/// What is to be told once the status is written, which a reconcile that has seen an older one does
/// not come to: that a look has passed, unless the one before it had, of the same spec.
pub(super) fn passed(schedule: &BackupSchedule, status: &BackupScheduleStatus) -> Option<String> {
    let known = schedule.status.as_ref();
    let before = known.and_then(|status| last(schedule, status));
    let now = last(schedule, status).filter(|now| Some(now.time) != before.map(|it| it.time))?;
    let is_well = now.error.is_none() && hooks::trouble(&now.hooks).is_none();
    let is_new = before.map(|before| before.outcome) != Some(now.outcome);
    (is_well && is_new).then(|| words(now, schedule.spec.method))
}

fn words(looked: &LastPreflight, method: Method) -> String {
    let databases = crate::display::databases(looked.database_count);
    let how = how(method);
    match &looked.server {
        Some(server) => {
            format!("{databases} of PostgreSQL {} can be backed up{how}", server.version)
        }
        None => format!("{databases} can be backed up{how}"),
    }
}

/// How it is done, where it is not done as SQL.
pub(super) const fn how(method: Method) -> &'static str {
    match method {
        Method::Logical => "",
        Method::Physical => ", Physical by the replication protocol",
    }
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
