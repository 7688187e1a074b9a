//! The archiving of a schedule's log: a Job without an end of its own, the next one when it ends
//! all the same, and a last one that drops the slot on the server (ADR 63).
//!
//! gather → plan → apply, as a part of the schedule's reconcile, which writes the status. A Job is
//! written down before it is created: what a crash leaves in between counts as one that is gone.

mod apply;
mod finalizer;
mod plan;
mod status;
mod task;
mod window;

use std::time::Duration;

use dbbackup_contract::{Failure, LogStatus};
use dbbackup_crds::{
    ArchiverTask, BackupRepository, BackupSchedule, BackupScheduleSpec, BackupScheduleStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::controller::Action;

use self::finalizer::Held;
use self::plan::{Seen, Step, Wanted, plan};
pub use self::status::LogOutlook;
pub(super) use self::status::condition;
pub(crate) use self::status::lag;
use self::status::{Facts, is_archived, outlook};
pub use self::window::Base;
pub(super) use self::window::bases;
use crate::cluster::{is_there, observe, write_status};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::labels::has_slot;
use crate::reconcile::backup::{repository_trouble, writing_trouble};

/// A first base waits so long for the archiver to begin: one that begins before the log does
/// cannot be brought forward with it.
const BASE_WAITS: SignedDuration = SignedDuration::from_mins(5);

/// Whether a schedule's log is to be archived.
#[must_use]
pub(super) fn is_wanted(spec: &BackupScheduleSpec) -> bool {
    spec.point_in_time_recovery.as_ref().is_some_and(|wanted| wanted.enabled)
}

/// Whether a first base is to wait for the archiver, which is about to begin.
#[must_use]
pub(super) fn is_about_to_begin(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    now: Timestamp,
) -> bool {
    let created = schedule.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let is_new = created.is_some_and(|created| now.duration_since(created) < BASE_WAITS);
    let begins = status.log.as_ref().is_none_or(|log| log.unbroken_since.is_none());
    is_wanted(&schedule.spec) && is_new && begins
}

/// Sets the finalizer where the log is to be archived, before anything else is done for it. Gives
/// the object where it was written, and why it could not be.
pub(super) async fn hold(
    schedule: &BackupSchedule,
    identity: &Identity,
    context: &Context,
) -> Result<(Option<Box<BackupSchedule>>, Option<Failure>), ReconcileError> {
    if !is_wanted(&schedule.spec) || has_slot(schedule) {
        return Ok((None, None));
    }
    Ok(match finalizer::hold(identity, true, context).await? {
        Held::Yes(written) => (written, None),
        Held::Refused(why) => (None, Some(why)),
        Held::Gone => (None, None),
    })
}

/// A schedule that is going: its slot goes first.
///
/// # Errors
/// The API server refuses something; it is tried again.
pub(super) async fn let_go(
    schedule: &BackupSchedule,
    context: &Context,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let identity = &Identity::of(schedule)?;
    let mut status = schedule.status.clone().unwrap_or_default();
    let archiver = Archiver { schedule, identity, repository: None, barred: None, context, now };
    let after = archiver.go_on(&mut status, &[]).await?;
    if let Some(outlook) = &after.outlook {
        status.display = Some(crate::display::shortened(outlook.words.clone()));
        let generation = schedule.metadata.generation;
        status.conditions = condition(status.conditions, Some(outlook), generation, now);
    }
    let object = write_status(context, schedule, status.clone()).await?;
    let again = archiver.finish(&object, status, after).await?;
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// A schedule whose server's log is archived.
pub(super) struct Archiver<'a> {
    pub(super) schedule: &'a BackupSchedule,
    pub(super) identity: &'a Identity,
    /// As the watch has it.
    pub(super) repository: Option<&'a BackupRepository>,
    /// Why the finalizer could not be set.
    pub(super) barred: Option<Failure>,
    pub(super) context: &'a Context,
    pub(super) now: Timestamp,
}

/// What is left to do once the status is written, and what is to be told.
#[derive(Default)]
pub(super) struct After {
    /// The Job that is written down, and to be created now.
    create: Option<Box<Job>>,
    /// When to look again at the latest.
    pub(super) again: Option<Duration>,
    /// How the archiving stands.
    pub(super) outlook: Option<LogOutlook>,
}

impl Archiver<'_> {
    fn is_going(&self) -> Option<Timestamp> {
        self.schedule.metadata.deletion_timestamp.as_ref().map(|time| time.0)
    }

    /// Brings it forward by one step; the status is the caller's to write, and then
    /// [`Self::finish`] to be called.
    pub(super) async fn go_on(
        &self,
        status: &mut BackupScheduleStatus,
        bases: &[Base],
    ) -> Result<After, ReconcileError> {
        if status.archiver.is_none() && !is_wanted(&self.schedule.spec) {
            (status.log, status.recovery_window) = (None, None);
            return Ok(After::default());
        }
        let wanted = self.wanted();
        let seen = self.see(status).await?;
        self.note(status, bases).await;
        let was_archived = status.log.as_ref().is_some_and(|log| log.position.is_some());
        let known = status.archiver.as_deref();
        let step = plan(&wanted, known, seen.as_ref(), was_archived, self.now);
        tracing::debug!(?step, "planned");
        let goes_on = matches!(step, Step::Watch);
        let (create, again) = self.apply(status, step, &wanted, seen.as_ref()).await?;
        let lag = self.schedule.spec.point_in_time_recovery.as_ref().map(|it| it.max_lag());
        let outlook = outlook(&Facts {
            wanted: &wanted,
            status,
            seen: seen.as_ref().filter(|_| goes_on),
            bases,
            max_lag: lag.unwrap_or_default(),
            now: self.now,
        });
        Ok(After { create: create.map(Box::new), again, outlook })
    }

    fn wanted(&self) -> Wanted {
        let spec = &self.schedule.spec;
        if self.is_going().is_some() || !is_wanted(spec) {
            return Wanted::Dropped(self.is_going());
        }
        if let Some(why) = &self.barred {
            return Wanted::Held { why: why.clone(), stops: false };
        }
        let name = &spec.repository_ref.name;
        if let Some(why) = repository_trouble(name, self.repository) {
            return Wanted::Held { why, stops: false };
        }
        if let Some(why) = writing_trouble(name, self.repository) {
            return Wanted::Held { why, stops: true };
        }
        match self.job(ArchiverTask::Archive, String::new()) {
            Ok(job) => Wanted::Archived(task::digest(&job, &spec.job)),
            Err(why) => Wanted::Held { why, stops: false },
        }
    }

    fn job(&self, task: ArchiverTask, name: String) -> Result<Job, Failure> {
        let subject = (self.schedule, self.identity);
        task::job(subject, &self.context.surroundings(), self.repository, task, name)
    }

    /// What became of the Job that was begun last. One that spoke a moment ago is not looked at.
    async fn see(&self, status: &BackupScheduleStatus) -> Result<Option<Seen>, ReconcileError> {
        let Some(known) = &status.archiver else { return Ok(None) };
        let Some(job) = &known.job_name else { return Ok(None) };
        let namespace = &self.identity.namespace;
        if let Some(told) = known.stop_time {
            // One that sits on a lost node is waited for no longer: what it may still write the
            // next one fences off.
            let is_lost = self.now.duration_since(told) > self.context.lost_after;
            let goes = !is_lost && is_there(self.context, namespace, job).await?;
            return Ok(Some(if goes { Seen::Ending } else { Seen::Gone }));
        }
        if known.report.is_none() && is_archived(known, status.log.as_deref(), self.now) {
            return Ok(Some(Seen::Speaks));
        }
        let timeout = start_timeout(&self.schedule.spec.job);
        let report = known.report.as_ref();
        let run = observe(self.context, namespace, job, report, timeout, self.now).await?;
        Ok(Some(Seen::Run(run)))
    }

    /// Does what was to wait until the status is written: creates the Job that stands there, or
    /// lets the object go. Gives when to look again at the latest.
    pub(super) async fn finish(
        &self,
        object: &BackupSchedule,
        status: BackupScheduleStatus,
        after: After,
    ) -> Result<Option<Duration>, ReconcileError> {
        if let Some(job) = after.create {
            return self.create(object, status, &job).await;
        }
        let is_done = status.archiver.is_none()
            && (self.is_going().is_some() || !is_wanted(&self.schedule.spec));
        if is_done && has_slot(self.schedule) {
            finalizer::hold(self.identity, false, self.context).await?;
        }
        Ok(after.again)
    }
}

/// How many gaps there are, as the archiver said it.
fn gap_count(log: Option<&LogStatus>) -> u32 {
    log.map_or(0, |log| log.gap_count)
}
