//! Carries the planned steps out, then writes what became of them into the status.

use std::time::{Duration, Instant};

use dbbackup_contract::{Failure, Outcome, Reason};
use dbbackup_crds::{Backup, BackupSchedule, BackupStatus, NotificationPhase, NotificationStatus};
use jiff::Timestamp;
use kube::ResourceExt;

use super::plan::{Step, failed, plan_begun, plan_unbegun};
use super::{due, status, task};
use crate::cluster::{
    Ensured, delete_job, dismiss_job, ensure_job, observe, schedule_of, write_status,
};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::events::{publish, warn};
use crate::reasons;
use crate::reconcile::one_shot::{until, while_starting};
use crate::reconcile::{LOOK_SOON, WATCH_RUN};
use crate::run::RunView;

const ACTION: &str = "Notify";
/// How soon one looks again for whom there was no place, in seconds, and how far apart the
/// many lie that look.
const WAITS: (u64, u64) = (15, 30);

/// Who is to be told of a backup that ends now.
pub(crate) async fn of_end(
    backup: &Backup,
    outcome: Outcome,
    context: &Context,
    now: Timestamp,
) -> Result<Vec<NotificationStatus>, ReconcileError> {
    let identity = Identity::of(backup)?;
    let schedule = schedule_of(backup, &identity, context, true).await?;
    let Some(schedule) = schedule.filter(|found| !found.spec.notifications.is_empty()) else {
        return Ok(Vec::new());
    };
    let known = context.backups_of.get(&identity.namespace, &schedule.name_any());
    let readable = known.iter().filter_map(|other| other.0.as_ref().ok());
    let before: Vec<&Backup> =
        readable.filter(|other| other.metadata.name != backup.metadata.name).collect();
    Ok(due(&schedule, outcome, &before, now))
}

/// Brings those forward by a step each who are to be told of a backup that has ended. Gives
/// the backup as it is then, and when to look again at the latest.
pub(crate) async fn reconcile(
    backup: Backup,
    context: &Context,
    now: Timestamp,
) -> Result<(Backup, Option<Duration>), ReconcileError> {
    let status = backup.status.clone().unwrap_or_default();
    if status.notifications.iter().all(|entry| entry.phase.is_settled()) {
        return Ok((backup, None));
    }
    let identity = Identity::of(&backup)?;
    let schedule = schedule_of(&backup, &identity, context, true).await?;
    let mut round =
        Round { backup: &backup, identity, schedule, context, now, again: None, ends: Vec::new() };
    let mut notifications = status.notifications.clone();
    for entry in &mut notifications {
        round.bring_forward(entry).await?;
    }
    let status = BackupStatus { notifications, ..status };
    let written = write_status(context, &backup, status).await?;
    round.conclude(&written).await?;
    let again = round.again;
    Ok((written, again))
}

/// One look at all who are to be told of a backup.
struct Round<'a> {
    backup: &'a Backup,
    identity: Identity,
    schedule: Option<BackupSchedule>,
    context: &'a Context,
    now: Timestamp,
    /// When to look again.
    again: Option<Duration>,
    /// What has ended, for when that is written down.
    ends: Vec<End>,
}

/// How an attempt has ended.
struct End {
    /// Its Job, and what was seen of it.
    job: Option<(String, RunView)>,
    /// What is told, if anything is.
    told: Option<Result<String, Failure>>,
}

impl Round<'_> {
    fn look_again(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |again| again.min(wait)));
    }

    fn place(&self, entry: &NotificationStatus) -> String {
        format!("{}/{}", self.identity.uid, entry.name)
    }

    async fn bring_forward(
        &mut self,
        entry: &mut NotificationStatus,
    ) -> Result<(), ReconcileError> {
        let namespace = &self.identity.namespace;
        if entry.phase == NotificationPhase::Running
            && let Some(job) = &entry.job_name
        {
            let timeout = self.schedule.as_ref().map(|schedule| schedule.spec.job.clone());
            let timeout = start_timeout(&timeout.unwrap_or_default());
            let report = entry.report.as_ref();
            let run = observe(self.context, namespace, job, report, timeout, self.now).await?;
            self.context.places.keep(&self.place(entry), namespace, Instant::now());
            let step = plan_begun(entry, &run);
            tracing::debug!(notification = entry.name, ?step, "planned");
            self.apply(entry, step, Some(run));
            return Ok(());
        }
        match plan_unbegun(entry, self.now) {
            Step::Begin(attempt) => self.begin(entry, attempt).await,
            step => {
                self.apply(entry, step, None);
                Ok(())
            }
        }
    }

    /// Creates the Job of an attempt. Its name is the attempt's, so that a crash makes no
    /// second one.
    async fn begin(
        &mut self,
        entry: &mut NotificationStatus,
        attempt: u32,
    ) -> Result<(), ReconcileError> {
        let named = |schedule: &BackupSchedule| {
            schedule.spec.notifications.iter().find(|spec| spec.name == entry.name).cloned()
        };
        let spec = self.schedule.as_ref().and_then(named);
        let (Some(schedule), Some(spec)) = (&self.schedule, spec) else {
            let message = "the schedule has no notification of this name any more";
            let failure = Failure::new(Reason::ReferenceNotFound, message);
            self.apply(entry, Step::GiveUp(failure), None);
            return Ok(());
        };
        let namespace = &self.identity.namespace;
        if !self.context.places.take(&self.place(entry), namespace, Instant::now()) {
            let (least, spread) = WAITS;
            let behind = self.identity.uid.bytes().fold(0, |sum, byte| sum + u64::from(byte));
            self.look_again(Duration::from_secs(least + behind % spread));
            return Ok(());
        }
        let name = task::notify_job_name(&self.identity, entry, attempt);
        let (around, subject) = (self.context.surroundings(), (self.backup, &self.identity));
        let built = task::notify_job(&around, subject, (schedule, &spec), entry, name.clone());
        // At most one Job of a message is there: a quota may count those that have ended.
        if let Some(before) = entry.job_name.take().filter(|before| *before != name) {
            delete_job(self.context, namespace, &before).await?;
        }
        entry.attempts = Some(attempt);
        let step = match built {
            Err(failure) => Step::GiveUp(failure),
            Ok(job) => match ensure_job(self.context, &job).await? {
                Ensured::Created | Ensured::Adopted => {
                    status::begun(entry, name, attempt);
                    self.look_again(LOOK_SOON);
                    return Ok(());
                }
                Ensured::Refused(failure) => failed(entry, failure, true),
                Ensured::Going => return Ok(()),
            },
        };
        self.apply(entry, step, None);
        Ok(())
    }

    /// Notes a step in the entry, and what is left to do once that is written.
    fn apply(&mut self, entry: &mut NotificationStatus, step: Step, run: Option<RunView>) {
        let told = match step {
            Step::Rest | Step::Begin(_) => return,
            Step::RestUntil(next) => return self.look_again(until(next, self.now)),
            Step::Watch(waiting) => {
                let wait = waiting.map(|waiting| while_starting(&waiting, self.now));
                return self.look_again(wait.unwrap_or(WATCH_RUN));
            }
            Step::Finish => {
                status::sent(entry, self.now);
                Some(Ok(format!("told {}: {:?}", entry.name, entry.event)))
            }
            Step::Retry(failure) => {
                status::failed(entry, failure, self.now);
                if let Some(next) = entry.next_attempt_time {
                    self.look_again(until(next, self.now));
                }
                None
            }
            Step::GiveUp(failure) => {
                status::given_up(entry, failure.clone(), self.now);
                let message = format!("the notification {}: {}", entry.name, failure.message);
                Some(Err(Failure { message, ..failure }))
            }
        };
        self.context.places.free(&self.place(entry));
        self.ends.push(End { job: entry.job_name.clone().zip(run), told });
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
                None => {}
                Some(Ok(note)) => {
                    publish(self.context, written, reasons::NOTIFIED, ACTION, note.clone());
                }
                Some(Err(failure)) => warn(self.context, written, ACTION, failure).await,
            }
        }
        Ok(())
    }
}
