//! Carries the planned steps out, then writes what became of them into the status.

use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{
    Backup, BackupRepository, BackupStatus, CopyPhase, CopyStatus, JobSpec, LocalRef,
};
use jiff::Timestamp;

use super::plan::{Step, plan_begun, plan_due, plan_unbegun};
use super::wanted::{Wanted, entries, source_snapshot, wanted};
use super::{Turn, status, task, turn};
use crate::cluster::{
    Ensured, delete_job, dismiss_job, ensure_job, find, observe, schedule_of, write_status,
};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::events::{publish, publish_with, warn};
use crate::reasons;
use crate::reconcile::backup::{repository_trouble, writing_trouble};
use crate::reconcile::one_shot::{until, while_starting};
use crate::reconcile::{LOOK_AGAIN, LOOK_SOON, WATCH_RUN};
use crate::run::RunView;

/// How soon a copy that others come before looks again, should the watch not wake it.
const IN_LINE: Duration = Duration::from_secs(600);
const ACTION: &str = "Copy";

/// Brings the copies of a backup that has ended forward by a step each. Gives when to look
/// again at the latest.
pub(crate) async fn reconcile(
    backup: &Backup,
    context: &Context,
    now: Timestamp,
) -> Result<Option<Duration>, ReconcileError> {
    let Some(status) = &backup.status else { return Ok(None) };
    let identity = Identity::of(backup)?;
    let must_know = !status.copies.is_empty();
    let schedule = schedule_of(backup, &identity, context, must_know).await?;
    let wanted = wanted(backup, schedule.as_ref());
    let listed = match source_snapshot(status) {
        Some(_) => entries(&status.copies, &wanted),
        None => status.copies.clone(),
    };
    if listed.is_empty() && status.copies.is_empty() {
        return Ok(None);
    }
    let mut round =
        Round { backup, identity, status, wanted, context, now, again: None, ends: Vec::new() };
    let mut copies = Vec::with_capacity(listed.len());
    for mut copy in listed {
        round.bring_forward(&mut copy).await?;
        copies.push(copy);
    }
    let written = write_status(context, backup, BackupStatus { copies, ..status.clone() }).await?;
    round.conclude(&written).await?;
    Ok(round.again)
}

/// One look at all copies of a backup.
struct Round<'a> {
    backup: &'a Backup,
    identity: Identity,
    status: &'a BackupStatus,
    wanted: Vec<Wanted>,
    context: &'a Context,
    now: Timestamp,
    /// When to look again.
    again: Option<Duration>,
    /// Copies that have ended, for when that is written down.
    ends: Vec<End>,
}

/// How a copy has ended.
struct End {
    /// Its Job, and what was seen of it.
    job: Option<(String, RunView)>,
    /// What is told.
    told: Result<String, Failure>,
}

impl Round<'_> {
    fn look_again(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |again| again.min(wait)));
    }

    fn job_spec(&self) -> JobSpec {
        self.status.resolved.as_ref().map(|resolved| resolved.job.clone()).unwrap_or_default()
    }

    async fn bring_forward(&mut self, copy: &mut CopyStatus) -> Result<(), ReconcileError> {
        if copy.phase == CopyPhase::Running
            && let Some(job) = &copy.job_name
        {
            let namespace = &self.identity.namespace;
            let timeout = start_timeout(&self.job_spec());
            let report = copy.report.as_ref();
            let run = observe(self.context, namespace, job, report, timeout, self.now).await?;
            let step = plan_begun(&run);
            tracing::debug!(copy = copy.name, ?step, "planned");
            self.apply(copy, step, Some(run));
            return Ok(());
        }
        let is_wanted = self.wanted.iter().any(|wanted| wanted.is(copy));
        match plan_unbegun(copy, self.status, is_wanted, self.now) {
            Step::Look => self.look(copy).await,
            step => {
                self.apply(copy, step, None);
                Ok(())
            }
        }
    }

    /// It is due: it begins if it is its turn and both repositories are ready.
    async fn look(&mut self, copy: &mut CopyStatus) -> Result<(), ReconcileError> {
        let place = Wanted { name: copy.name.clone(), repository: copy.repository.name.clone() };
        let turn = self.turn(&place);
        let (mut source, mut destination) = (None, None);
        let from = self.status.repository.clone().unwrap_or_default().name;
        if turn == Turn::Now {
            let namespace = &self.identity.namespace;
            source = find::<BackupRepository>(self.context, namespace, &from).await?;
            destination = find(self.context, namespace, &place.repository).await?;
        }
        let from = repository_trouble(&from, source.as_ref());
        let to = writing_trouble(&place.repository, destination.as_ref());
        let step = plan_due(copy, turn, from, to);
        tracing::debug!(copy = copy.name, ?step, "planned");
        match (step, source, destination) {
            (Step::Begin(attempt), Some(source), Some(destination)) => {
                self.begin(copy, attempt, &source, &destination).await
            }
            (step, ..) => {
                self.apply(copy, step, None);
                Ok(())
            }
        }
    }

    fn turn(&self, place: &Wanted) -> Turn {
        // Those of other namespaces and schedules are none of its siblings, however many there are.
        let schedule = self.backup.spec.schedule_ref.as_ref();
        let of_schedule =
            |name: &LocalRef| self.context.backups_of.get(&self.identity.namespace, &name.name);
        let backups = schedule.map(of_schedule).unwrap_or_default();
        let others = backups.iter().filter_map(|backup| backup.0.as_ref().ok());
        turn(self.backup, place, others, self.now)
    }

    /// Creates the Job of an attempt. Its name is the attempt's, so that a crash makes no
    /// second one.
    async fn begin(
        &mut self,
        copy: &mut CopyStatus,
        attempt: u32,
        source: &BackupRepository,
        destination: &BackupRepository,
    ) -> Result<(), ReconcileError> {
        let Some(snapshot) = source_snapshot(self.status) else { return Ok(()) };
        let name = task::copy_job_name(&self.identity, copy, attempt);
        let around = self.context.surroundings();
        let (subject, job) = ((self.backup, &self.identity), self.job_spec());
        let between = (source, destination);
        let built = task::copy_job(&around, subject, snapshot, between, &job, name.clone());
        // At most one Job of a copy is there: a quota may count those that have ended.
        if let Some(before) = copy.job_name.take().filter(|before| *before != name) {
            delete_job(self.context, &self.identity.namespace, &before).await?;
        }
        let ensured = match &built {
            Ok(job) => ensure_job(self.context, job).await?,
            Err(failure) => Ensured::Refused(failure.clone()),
        };
        let id = destination.status.as_ref().and_then(|status| status.id.clone());
        match ensured {
            Ensured::Created | Ensured::Adopted => {
                if let (Ensured::Created, Ok(job)) = (&ensured, &built) {
                    let note = format!("created the Job {name}");
                    let reason = reasons::EVENT_JOB_CREATED;
                    publish_with(self.context, self.backup, job, reason, ACTION, note);
                }
                status::begun(copy, name, attempt, id, self.now);
                self.look_again(LOOK_SOON);
            }
            Ensured::Refused(failure) => {
                copy.attempts = Some(attempt);
                self.apply(copy, Step::Fail(failure), None);
            }
            Ensured::Going => {}
        }
        Ok(())
    }

    /// Notes a step in the copy's entry, and what is left to do once that is written.
    fn apply(&mut self, copy: &mut CopyStatus, step: Step, run: Option<RunView>) {
        match step {
            Step::Rest | Step::Look | Step::Begin(_) => {}
            Step::RestUntil(next) => self.look_again(until(next, self.now)),
            Step::Queue { is_next } => {
                status::queued(copy);
                self.look_again(if is_next { LOOK_SOON } else { IN_LINE });
            }
            Step::Wait(failure) => {
                status::waiting(copy, failure);
                self.look_again(LOOK_AGAIN);
            }
            Step::Defer(failure) => {
                status::deferred(copy, failure, self.now);
                self.look_again(status::SOURCE_PAUSE.unsigned_abs());
            }
            Step::Watch { waiting, last_failure } => {
                copy.error = last_failure;
                let wait = waiting.map(|waiting| while_starting(&waiting, self.now));
                self.look_again(wait.unwrap_or(WATCH_RUN));
            }
            Step::Finish(report) => {
                status::done(copy, &report);
                let (to, id) = (&copy.repository.name, copy.snapshot_id.as_deref());
                let note = format!("copied to the BackupRepository {to} as {}", id.unwrap_or("?"));
                self.end(copy, run, Ok(note));
            }
            Step::Fail(failure) => {
                status::failed(copy, failure.clone(), self.now);
                if let Some(next) = copy.next_attempt_time {
                    self.look_again(until(next, self.now));
                }
                self.end(copy, run, Err(failure));
            }
            Step::GiveUp(failure) => {
                status::given_up(copy, failure.clone(), self.now);
                self.end(copy, run, Err(failure));
            }
        }
    }

    fn end(&mut self, copy: &CopyStatus, run: Option<RunView>, told: Result<String, Failure>) {
        let job = copy.job_name.clone().zip(run);
        let told = told.map_err(|failure| Failure {
            message: format!("the copy {}: {}", copy.name, failure.message),
            ..failure
        });
        self.ends.push(End { job, told });
    }

    /// What is to be done once the ends are written down: a Job that goes before takes the
    /// reason along.
    async fn conclude(&self, written: &Backup) -> Result<(), ReconcileError> {
        let namespace = &self.identity.namespace;
        for End { job, told } in &self.ends {
            if let Some((job, run)) = job {
                dismiss_job(self.context, namespace, job, Some(run), self.now).await?;
            }
            match told {
                Ok(note) => {
                    publish(self.context, written, reasons::COPIED, ACTION, note.clone());
                }
                Err(failure) if failure.reason == Reason::SnapshotForgotten => {
                    publish(
                        self.context,
                        written,
                        failure.reason.as_str(),
                        ACTION,
                        failure.message.clone(),
                    );
                }
                Err(failure) => warn(self.context, written, ACTION, failure).await,
            }
        }
        Ok(())
    }
}
