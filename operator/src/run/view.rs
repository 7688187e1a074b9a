//! What became of a run, as far as it can be seen: a pure function of its Job,
//! its pods and its report. Nothing but a report is ever read as a success.

use std::time::Duration;

use dbbackup_contract::{Failure, Outcome, Reason, Report};
use dbbackup_crds::RawReport;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::beside::completed;
use super::fit::fitted;
use super::pods::{ended_at, explain_end, explain_wait, newest, newest_ended, was_started};

/// A kubelet that answers has killed a pod so long after the end of its grace period.
const GONE_BY_NOW: SignedDuration = SignedDuration::from_secs(15);

/// What is seen.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Name of the Job that was created.
    pub job_name: &'a str,
    /// The Job, if it is there.
    pub job: Option<&'a Job>,
    /// Its pods.
    pub pods: &'a [Pod],
    /// What the runner said last over the report channel.
    pub report: Option<&'a RawReport>,
    /// Why no pod could be created, in the API server's words.
    pub rejection: Option<&'a str>,
    /// How long a pod may take to start.
    pub start_timeout: SignedDuration,
    /// A pod that was told to end and is not gone after so long sits on a lost node.
    pub lost_after: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

/// What became of the run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunView {
    /// No pod runs, and the next one is on its way.
    Waiting(Waiting),
    /// It goes on.
    Running {
        /// Pods that were begun.
        attempts: u32,
        /// What the attempt before failed with, if this is not the first.
        last_failure: Option<Failure>,
    },
    /// It has ended and said how.
    Reported(Box<Report>, u32),
    /// It has ended, and no runner ever ran.
    NeverStarted(Failure),
    /// It has ended, or its Job is gone, and nobody said how. What was seen stands in the failure.
    Unknown(Failure, u32),
    /// It will not end by itself: its pod sits on a lost node, or another
    /// attempt does not start. Its Job is to be ended.
    Lost(Failure, u32),
}

impl RunView {
    /// Whether its Job does not end by itself, since a pod of it never comes to run.
    #[must_use]
    pub fn hangs(&self) -> bool {
        matches!(self, Self::NeverStarted(_) | Self::Lost(..))
    }
}

/// A pod that is on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Which attempt it will be, from 1.
    pub attempt: u32,
    /// What the attempt before failed with, if it is not the first.
    pub last_failure: Option<Failure>,
    /// Why it waits, where that is known.
    pub cause: Option<Failure>,
    /// When it is given up.
    pub until: Timestamp,
    /// The setting that says so.
    pub limit: &'static str,
}

/// Judges what is seen.
#[must_use]
pub fn view(seen: &Observation<'_>) -> RunView {
    let attempts = attempts(seen);
    let channel = report_of_channel(seen);
    if let Some((report, uid)) = &channel
        && is_final(report)
    {
        let own = seen.pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(uid));
        return RunView::Reported(Box::new(completed(report.clone(), own)), attempts);
    }
    let Some(job) = seen.job else {
        let gone = format!("the Job {} is gone", seen.job_name);
        return RunView::Unknown(Failure::new(Reason::JobGone, gone), attempts);
    };
    if has_ended(job) {
        return ended(seen, channel, attempts);
    }
    let pod = newest(seen.pods);
    if let Some(pod) = pod.filter(|pod| is_lost(pod, seen)) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let limit = crate::display::duration(seen.lost_after);
        let message = format!(
            "the pod {name} was told to end {limit} ago and is still there: its node is lost"
        );
        return RunView::Lost(Failure::new(Reason::PodDisrupted, message), attempts);
    }
    let last_failure = last_failure(seen.pods, channel.as_ref());
    if let Some(silent) = pod.and_then(|pod| silent(pod, seen)) {
        let attempt = attempts.saturating_add(1);
        return RunView::Waiting(Waiting { attempt, last_failure, ..silent });
    }
    match pod {
        Some(pod) if is_up(pod) || (last_failure.is_none() && was_started(pod)) => {
            RunView::Running { attempts, last_failure }
        }
        pod => waiting(seen, job, pod, last_failure, attempts),
    }
}

/// Whether a pod's runner was started and its pod has not ended.
fn is_up(pod: &Pod) -> bool {
    was_started(pod) && ended_at(pod).is_none()
}

/// What the newest attempt that has ended failed with: in its own words where
/// there are some, else as it is seen from outside.
fn last_failure(pods: &[Pod], channel: Option<&(Report, String)>) -> Option<Failure> {
    let said = |(report, _): &(Report, String)| report.error().cloned();
    let is_of = |pod: &Pod, (_, uid): &(Report, String)| pod.metadata.uid.as_ref() == Some(uid);
    let Some(pod) = newest_ended(pods) else {
        // A pod may have said how its attempt failed, and not be able to end: that is no
        // attempt before.
        return channel.filter(|own| !pods.iter().any(|pod| is_of(pod, own))).and_then(said);
    };
    let own = channel.filter(|own| is_of(pod, own)).map(|(report, _)| report.clone());
    match own.or_else(|| termination_report(pod)) {
        Some(report) => completed(report, Some(pod)).error().cloned(),
        None => Some(explain_end(pod)),
    }
}

/// A report that no further attempt will change.
fn is_final(report: &Report) -> bool {
    report.outcome() != Outcome::Failed || report.error().is_some_and(|error| !error.is_retryable())
}

fn report_of_channel(seen: &Observation<'_>) -> Option<(Report, String)> {
    let raw = seen.report.filter(|raw| raw.job_name == seen.job_name)?;
    let report = serde_json::from_value(raw.content.clone()).ok()?;
    Some((fitted(report), raw.pod_uid.clone()))
}

fn ended(seen: &Observation<'_>, channel: Option<(Report, String)>, attempts: u32) -> RunView {
    let last = newest(seen.pods);
    // A failure of an earlier attempt says nothing about the last one. A success
    // does, and was taken for the end already.
    let is_of_last =
        |uid: &str| last.map_or(attempts <= 1, |pod| pod.metadata.uid.as_deref() == Some(uid));
    if let Some((report, pod_uid)) = channel
        && is_of_last(&pod_uid)
    {
        return RunView::Reported(Box::new(completed(report, last)), attempts);
    }
    if let Some(report) = last.and_then(termination_report) {
        return RunView::Reported(Box::new(completed(report, last)), attempts);
    }
    let cause = last.map_or_else(
        || {
            let name = seen.job_name;
            Failure::new(Reason::PodFailed, format!("the Job {name} ended and its pods are gone"))
        },
        |pod| explain_wait(pod).unwrap_or_else(|| explain_end(pod)),
    );
    // Pods that are gone may have done something.
    let is_all_seen = attempts as usize <= seen.pods.len();
    if !seen.pods.is_empty() && is_all_seen && !seen.pods.iter().any(was_started) {
        return RunView::NeverStarted(cause);
    }
    RunView::Unknown(cause, attempts)
}

/// The summary that the runner left in the pod's status.
fn termination_report(pod: &Pod) -> Option<Report> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let message = statuses
        .iter()
        .find_map(|container| container.state.as_ref()?.terminated.as_ref()?.message.as_deref())?;
    serde_json::from_str(message).ok().map(fitted)
}

fn waiting(
    seen: &Observation<'_>,
    job: &Job,
    newest: Option<&Pod>,
    last_failure: Option<Failure>,
    attempts: u32,
) -> RunView {
    let pod = newest.filter(|pod| ended_at(pod).is_none());
    let since = waits_since(job, newest).unwrap_or(seen.now);
    let until = since.checked_add(seen.start_timeout).unwrap_or(Timestamp::MAX);
    let cause = match (pod, seen.rejection) {
        (Some(pod), words) => explain_wait(pod).or_else(|| {
            let message = format!("the pod has not started: {}", words?);
            Some(Failure::new(Reason::StartTimeout, message))
        }),
        (None, Some(words)) => Some(rejected(words)),
        (None, None) => None,
    };
    if seen.now < until {
        // A pod that is not there yet is no attempt yet.
        let attempt = if pod.is_some() { attempts.max(1) } else { attempts.saturating_add(1) };
        let limit = "job.startTimeout";
        return RunView::Waiting(Waiting { attempt, last_failure, cause, until, limit });
    }
    let limit = crate::display::duration(seen.start_timeout);
    let failure = match cause.filter(|cause| cause.reason != Reason::StartTimeout) {
        Some(cause) => {
            let message = format!("{}; it was given up after {limit}", cause.message);
            Failure { message, ..cause }
        }
        None => {
            let words = seen.rejection.map_or_else(String::new, |words| format!(": {words}"));
            let message = format!("the pod has not started within {limit}{words}");
            Failure::new(Reason::StartTimeout, message)
        }
    };
    // Earlier pods of this Job may have done something.
    if attempts > 1 || seen.pods.iter().any(was_started) {
        RunView::Lost(failure, attempts)
    } else {
        RunView::NeverStarted(failure)
    }
}

/// Since when the next pod is waited for: since it was created, or since the
/// Job's controller should have created it.
#[must_use]
pub(crate) fn waits_since(job: &Job, newest: Option<&Pod>) -> Option<Timestamp> {
    let created = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|time| time.0);
    let Some(pod) = newest else { return created(&job.metadata) };
    let Some(ended) = ended_at(pod) else { return created(&pod.metadata) };
    // It lets time pass between two attempts: ten seconds, doubled each time.
    let failed = job.status.as_ref().and_then(|status| status.failed).unwrap_or(1);
    let pause = crate::backoff::delay(
        u32::try_from(failed).unwrap_or(1),
        Duration::from_secs(10),
        Duration::from_secs(600),
    );
    SignedDuration::try_from(pause).ok().and_then(|pause| ended.checked_add(pause).ok())
}

/// A pod that the API server does not take, in its words. Those of each try
/// differ by the pod's name, which would make the status flap.
fn rejected(words: &str) -> Failure {
    let words = words.strip_prefix("(combined from similar events): ").unwrap_or(words);
    let words = words.strip_prefix("Error creating: ").unwrap_or(words);
    let why = words.split_once("is forbidden: ").map_or(words, |(_, why)| why);
    Failure::new(Reason::PodRejected, format!("the API server does not let the pod in: {why}"))
}

/// Pods that were begun, those that are gone included.
fn attempts(seen: &Observation<'_>) -> u32 {
    let counted = seen.job.and_then(|job| job.status.as_ref()).map_or(0, |status| {
        let sum =
            status.failed.unwrap_or(0) + status.succeeded.unwrap_or(0) + status.active.unwrap_or(0);
        u32::try_from(sum).unwrap_or(0)
    });
    counted.max(u32::try_from(seen.pods.len()).unwrap_or(0))
}

/// Whether the Job has ended for good.
#[must_use]
pub(crate) fn has_ended(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })
}

fn is_lost(pod: &Pod, seen: &Observation<'_>) -> bool {
    should_be_gone(pod).is_some_and(|time| seen.now.duration_since(time) > seen.lost_after)
}

/// The next pod waits for one whose node does not answer, until that is taken for lost.
fn silent(pod: &Pod, seen: &Observation<'_>) -> Option<Waiting> {
    let time = should_be_gone(pod).filter(|time| seen.now.duration_since(*time) > GONE_BY_NOW)?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    // No time that passes: the status would change at each look.
    let message =
        format!("the pod {name} should have ended and is still there: the node {node} is silent");
    let hint = format!(
        "See: kubectl describe node {node}. If it does not come back, kubectl delete node {node} \
         lets its pods go within a minute."
    );
    Some(Waiting {
        attempt: 0,
        last_failure: None,
        cause: Some(Failure::new(Reason::PodDisrupted, message).with_hint(hint)),
        until: time.checked_add(seen.lost_after).unwrap_or(Timestamp::MAX),
        limit: "lostNodeTimeout of the chart",
    })
}

/// When a pod that was told to end should have been gone at the latest: the API server
/// writes down the end of its grace period.
fn should_be_gone(pod: &Pod) -> Option<Timestamp> {
    let time = pod.metadata.deletion_timestamp.as_ref()?;
    ended_at(pod).is_none().then_some(time.0)
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
