//! Carries out the steps that both kinds have, and writes what became of them into the status.

use std::time::Duration;

use dbbackup_contract::Failure;
use dbbackup_crds::Condition;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::core::object::HasStatus;
use kube::runtime::controller::Action;

use super::{
    OneShot, ReportOf, RunStatus, Stage, Told, finished, running, seen_by, starting, waiting,
};
use crate::cluster::{Ensured, delete_job, ensure_job, release_job, write_status};
use crate::conditions::{Standing, Verdict};
use crate::context::{Context, Identity, ReconcileError};
use crate::display;
use crate::events::{publish, publish_with, warn};
use crate::reasons::{self, COMPLETE, FAILED};
use crate::reconcile::{LOOK_AGAIN, LOOK_SOON, WATCH_RUN};
use crate::run::{RunView, Waiting};

/// The run that a step is carried out for.
pub(crate) struct Run<'a, K: HasStatus> {
    /// The object.
    pub(crate) object: &'a K,
    /// Its identity.
    pub(crate) identity: &'a Identity,
    /// Its status, as the step found it.
    pub(crate) status: &'a K::Status,
    /// The Job that was begun last, and what is seen of it.
    pub(crate) job: Option<(&'a str, &'a RunView)>,
    /// The time.
    pub(crate) now: Timestamp,
}

/// The Job that a run begins.
pub(crate) struct NextJob {
    /// The Job.
    pub(crate) job: Job,
    /// Its name.
    pub(crate) name: String,
    /// The how manyth of its run it is, from 1.
    pub(crate) number: u32,
    /// Why it is not the first one, for the event: empty, or ` again: ...`.
    pub(crate) why: String,
}

/// What became of the Job that was to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is there.
    Yes,
    /// The cluster does not take it, for now.
    Refused,
    /// Its namespace is going.
    Going,
}

impl Begun {
    /// When its object is looked at again.
    pub(crate) fn look(self) -> Action {
        match self {
            Self::Yes => Action::requeue(LOOK_SOON),
            Self::Refused => Action::requeue(LOOK_AGAIN),
            Self::Going => Action::await_change(),
        }
    }
}

impl<K: OneShot> Run<'_, K> {
    fn generation(&self) -> Option<i64> {
        self.object.meta().generation
    }

    /// It waits for something that others must do.
    pub(crate) async fn wait(
        &self,
        failure: &Failure,
        context: &Context,
    ) -> Result<Action, ReconcileError> {
        let status = waiting(self.status.clone(), failure, self.generation(), self.now);
        write_status(context, self.object, status).await?;
        Ok(Action::requeue(LOOK_AGAIN))
    }

    /// Begins its next Job. `status` has what the run is made from: that is
    /// written down first, then the Job is created, then its name is written
    /// down. A crash in between finds the same Job again.
    pub(crate) async fn begin(
        &self,
        status: K::Status,
        next: NextJob,
        context: &Context,
    ) -> Result<Begun, ReconcileError> {
        let mut status = status;
        status.enter(Stage::AsBefore);
        let object = write_status(context, self.object, status.clone()).await?;
        match ensure_job(context, &next.job).await? {
            Ensured::Created => {
                let (name, why) = (&next.name, &next.why);
                let note = format!("created the Job {name}{why}");
                let reason = reasons::EVENT_JOB_CREATED;
                publish_with(context, &object, &next.job, reason, "Begin", note);
            }
            Ensured::Adopted => {}
            Ensured::Refused(failure) => {
                let status = waiting(status, &failure, self.generation(), self.now);
                write_status(context, &object, status).await?;
                return Ok(Begun::Refused);
            }
            Ensured::Going => return Ok(Begun::Going),
        }
        status.begin(next.name, next.number, self.now);
        let common = status.common();
        (*common.error, *common.report, *common.progress) = (None, None, None);
        let verdict =
            Verdict::new(Standing::Reconciling, reasons::STARTING, "the Job's pod is starting");
        let words = "starting".to_owned();
        let status = running(status, &verdict, words, self.generation(), self.now);
        write_status(context, &object, status).await?;
        Ok(Begun::Yes)
    }

    /// The pod of its first or next attempt has not started.
    pub(crate) async fn start(
        &self,
        waiting: &Waiting,
        context: &Context,
    ) -> Result<Action, ReconcileError> {
        let status = starting(self.status.clone(), waiting, self.generation(), self.now);
        write_status(context, self.object, status).await?;
        Ok(Action::requeue(while_starting(waiting, self.now)))
    }

    /// Its Job runs.
    pub(crate) async fn go_on(
        &self,
        attempts: u32,
        last_failure: Option<&Failure>,
        context: &Context,
    ) -> Result<Action, ReconcileError> {
        let mut status = self.status.clone();
        let words = display::attempt(attempts, last_failure, status.common().progress.as_ref());
        let verdict = Verdict::of_attempt(K::RUN, attempts, last_failure);
        let mut status = running(status, &verdict, words, self.generation(), self.now);
        *status.common().attempts = Some(attempts);
        *status.common().error = last_failure.cloned();
        write_status(context, self.object, status).await?;
        Ok(Action::requeue(WATCH_RUN))
    }

    /// It has ended: the status is written, its Job is ended where it has not,
    /// the outcome is told. Gives the object as it is then.
    pub(crate) async fn finish(
        &self,
        end: &Result<ReportOf<K>, Failure>,
        attempts: u32,
        context: &Context,
    ) -> Result<K, ReconcileError> {
        let (status, end) =
            finished(self.status.clone(), end, attempts, self.generation(), self.now);
        let object = write_status(context, self.object, status).await?;
        // Only now: a Job that goes before its outcome is stored takes the reason along.
        if let Some((job, _)) = self.job.filter(|(_, run)| run.hangs()) {
            delete_job(context, &self.identity.namespace, job).await?;
        }
        match &end.told {
            Told::Success(note) => {
                publish(context, &object, reasons::SUCCEEDED, K::ACTION, note.clone());
            }
            Told::Failure(failure) => warn(context, &object, K::ACTION, failure).await,
        }
        Ok(object)
    }

    /// It has ended: the Job that the status names is let go, for a while after the end, and what
    /// still changes of the spec is seen, since it is of no use any more.
    pub(crate) async fn tidy(
        &self,
        job: Option<&str>,
        context: &Context,
    ) -> Result<Action, ReconcileError> {
        let mut status = self.status.clone();
        if let Some(job) = job
            && has_ended_lately(status.common().conditions, self.now)
        {
            release_job(context, &self.identity.namespace, job, self.now).await?;
        }
        write_status(context, self.object, seen_by(status, self.generation())).await?;
        Ok(Action::await_change())
    }
}

/// Whether the end was written down within the last hour: only so long are the Jobs of a
/// run looked at that has ended, lest a restart of the operator look at all there are.
/// When the run itself ended says nothing of that: the operator may have been away for days.
pub(crate) fn has_ended_lately(conditions: &[Condition], now: Timestamp) -> bool {
    let ends = |condition: &&Condition| {
        matches!(condition.type_.as_str(), COMPLETE | FAILED) && condition.status == "True"
    };
    let end = conditions.iter().find(ends);
    end.is_some_and(|end| now.duration_since(end.last_transition_time.0).as_hours() < 1)
}

/// From now until `time`, at least a second.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default().max(Duration::from_secs(1))
}

/// How long to let a pod be that has not started: until it is given up at the latest.
pub(crate) fn while_starting(waiting: &Waiting, now: Timestamp) -> Duration {
    let soon = if waiting.cause.is_some() { LOOK_AGAIN } else { LOOK_SOON };
    until(waiting.until, now).min(soon)
}
