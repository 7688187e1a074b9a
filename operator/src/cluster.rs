//! What is done to the API server: reading runs, creating and ending Jobs, writing statuses.

use std::fmt::Debug;

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{Backup, BackupSchedule};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event as CoreEvent, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::object::HasStatus;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::{Context, Identity, ReconcileError};
use crate::labels;
use crate::names::is_object_name;
use crate::placement::keep_together;
use crate::run::{Observation, RunView, ended_at, has_ended, newest, view, waits_since};

/// Seconds that a Job stays after its outcome was stored: time to read its log.
pub const LOG_SECONDS: i32 = 3600;
/// Seconds that a Job whose outcome is stored has to end by itself.
const END_SECONDS: i64 = 120;
/// A pod that has not started after so long is looked up in the events.
pub(crate) const ASK_EVENTS_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// Looks at a run: its Job and its pods, and the events where they say more.
///
/// # Errors
/// The API server cannot be read.
pub async fn observe(
    context: &Context,
    namespace: &str,
    job_name: &str,
    report: Option<&dbbackup_crds::RawReport>,
    start_timeout: SignedDuration,
    now: Timestamp,
) -> Result<RunView, ReconcileError> {
    let read = |what| move |error| ReconcileError::Read(what, Box::new(error));
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let job = jobs.get_opt(job_name).await.map_err(read("the Job"))?;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let selector =
        ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job_name}"));
    let pods = pods.list(&selector).await.map_err(read("the Job's pods"))?.items;
    let mut seen = Observation {
        job_name,
        job: job.as_ref(),
        pods: &pods,
        report,
        rejection: None,
        start_timeout,
        lost_after: context.lost_after,
        now,
    };
    let judged = view(&seen);
    // Why a pod does not start may stand nowhere but in the events.
    let is_unexplained = match &judged {
        RunView::Waiting(waiting) => waiting.cause.is_none(),
        RunView::NeverStarted(failure) | RunView::Lost(failure, _) => {
            failure.reason == Reason::StartTimeout
        }
        _ => false,
    };
    if !is_unexplained {
        return Ok(judged);
    }
    let Some(job) = &job else { return Ok(judged) };
    let last = newest(&pods);
    // A pod that waits tells it; where there is none, the Job does.
    let waits = last.filter(|pod| ended_at(pod).is_none());
    let uid = waits.map_or_else(|| job.uid(), ResourceExt::uid);
    let (Some(uid), Some(since)) = (uid, waits_since(job, last)) else { return Ok(judged) };
    if now.duration_since(since) < ASK_EVENTS_AFTER {
        return Ok(judged);
    }
    let words = newest_warning(context, namespace, &uid, since).await?;
    seen.rejection = words.as_deref();
    Ok(view(&seen))
}

/// The newest warning about an object since then.
async fn newest_warning(
    context: &Context,
    namespace: &str,
    uid: &str,
    since: Timestamp,
) -> Result<Option<String>, ReconcileError> {
    let events: Api<CoreEvent> = Api::namespaced(context.client.clone(), namespace);
    let fields = format!("involvedObject.uid={uid},type=Warning");
    let list = events
        .list(&ListParams::default().fields(&fields))
        .await
        .map_err(|error| ReconcileError::Read("events", Box::new(error)))?;
    let time = |event: &CoreEvent| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or_else(|| event.event_time.as_ref().map(|time| time.0))
    };
    // The clocks of the API server and of who writes events may differ a little.
    let since = since.checked_sub(SignedDuration::from_secs(5)).unwrap_or(since);
    let newest = list.items.into_iter().filter(|event| time(event) >= Some(since));
    Ok(newest.max_by_key(time).and_then(|event| event.message))
}

/// What became of a Job that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was created now.
    Created,
    /// It was created before.
    Adopted,
    /// The API server does not take it: a quota, a policy, a webhook.
    Refused(Failure),
    /// The namespace is being deleted, and the Job's object with it.
    Going,
}

/// Creates a Job, or adopts the one that an earlier attempt created.
///
/// # Errors
/// The API server cannot be reached, or the name belongs to another object.
pub async fn ensure_job(context: &Context, job: &Job) -> Result<Ensured, ReconcileError> {
    let job = &keep_together(job, context).await;
    let namespace = job.namespace().ok_or(ReconcileError::Incomplete("namespace"))?;
    let name = job.name_any();
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let params =
        PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    let error = match jobs.create(&params, job).await {
        Ok(_) => return Ok(Ensured::Created),
        Err(error) => error,
    };
    if is_going(&error) {
        return Ok(Ensured::Going);
    }
    if let Some(why) = rejection(&error) {
        let message = format!("the Job {name} could not be created: {why}");
        return Ok(Ensured::Refused(Failure::new(Reason::PodRejected, message)));
    }
    if !is_conflict(&error) {
        return Err(ReconcileError::Create(format!("the Job {name}"), Box::new(error)));
    }
    let existing =
        jobs.get(&name).await.map_err(|error| ReconcileError::Read("the Job", Box::new(error)))?;
    let owner = |job: &Job| job.owner_references().first().map(|owner| owner.uid.clone());
    if owner(&existing) == owner(job) {
        Ok(Ensured::Adopted)
    } else {
        Err(ReconcileError::NotOurs(name))
    }
}

/// Ends a Job and its pods. One that is gone already is fine.
///
/// # Errors
/// The API server refuses.
pub async fn delete_job(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<(), ReconcileError> {
    delete(context, namespace, name, &DeleteParams::background()).await
}

/// Ends a Job and its pods. It is there until they are gone, so that the next one of its kind can
/// wait for that.
///
/// # Errors
/// The API server refuses.
pub async fn end_job(context: &Context, namespace: &str, name: &str) -> Result<(), ReconcileError> {
    delete(context, namespace, name, &DeleteParams::foreground()).await
}

/// Whether a Job is there, or is going and its pods are.
///
/// # Errors
/// The API server cannot be read.
pub async fn is_there(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<bool, ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let job = jobs.get_opt(name).await;
    job.map(|job| job.is_some()).map_err(|error| ReconcileError::Read("the Job", Box::new(error)))
}

async fn delete(
    context: &Context,
    namespace: &str,
    name: &str,
    how: &DeleteParams,
) -> Result<(), ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    match jobs.delete(name, how).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(ReconcileError::Change(format!("the Job {name}"), Box::new(error))),
    }
}

/// Lets a Job go an hour after its end, now that its outcome is stored. One that
/// has not ended has two minutes left: nobody would ever end it otherwise.
///
/// # Errors
/// The API server refuses.
pub async fn release_job(
    context: &Context,
    namespace: &str,
    name: &str,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let job = jobs
        .get_opt(name)
        .await
        .map_err(|error| ReconcileError::Read("the Job", Box::new(error)))?;
    let Some(patch) = job.as_ref().and_then(|job| release_patch(job, now)) else { return Ok(()) };
    match jobs.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(ReconcileError::Change(format!("the Job {name}"), Box::new(error))),
    }
}

/// Lets the Job of a run go whose outcome is stored: one that hangs is ended.
///
/// # Errors
/// The API server refuses.
pub async fn dismiss_job(
    context: &Context,
    namespace: &str,
    name: &str,
    run: Option<&RunView>,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    if run.is_some_and(RunView::hangs) {
        delete_job(context, namespace, name).await
    } else {
        release_job(context, namespace, name, now).await
    }
}

/// What releases a Job; `None` where it is released already.
fn release_patch(job: &Job, now: Timestamp) -> Option<serde_json::Value> {
    if job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished.is_some()) {
        return None;
    }
    let mut patch = json!({"spec": {"ttlSecondsAfterFinished": LOG_SECONDS}});
    if !has_ended(job) {
        // Counted from its start; it may have none yet.
        let start = job.status.as_ref().and_then(|status| status.start_time.as_ref());
        let age = start.map_or(0, |start| now.duration_since(start.0).as_secs().max(0));
        patch["spec"]["activeDeadlineSeconds"] = (age + END_SECONDS).into();
    }
    Some(patch)
}

/// Reads an object that a spec refers to.
///
/// # Errors
/// The API server cannot be read.
pub async fn find<K>(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<Option<K>, ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    // An object of such a name does not exist.
    if !is_object_name(name) {
        return Ok(None);
    }
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    api.get_opt(name)
        .await
        .map_err(|error| ReconcileError::Read("an object of the spec", Box::new(error)))
}

/// The schedule of a backup, as the watch has it. Where it has none and `must_know`, the API
/// server is asked: the watch may not have seen it yet.
///
/// # Errors
/// The API server cannot be read.
pub async fn schedule_of(
    backup: &Backup,
    identity: &Identity,
    context: &Context,
    must_know: bool,
) -> Result<Option<BackupSchedule>, ReconcileError> {
    let Some(reference) = &backup.spec.schedule_ref else { return Ok(None) };
    let key = ObjectRef::new(&reference.name).within(&identity.namespace);
    if let Some(known) = context.schedules.get(&key) {
        return Ok(known.0.as_ref().ok().cloned());
    }
    if must_know { find(context, &identity.namespace, &reference.name).await } else { Ok(None) }
}

/// Writes a status where it differs. The object's version goes with it: what
/// somebody else wrote meanwhile is never overwritten.
///
/// # Errors
/// The API server refuses, or the object has changed.
pub async fn write_status<K>(
    context: &Context,
    object: &K,
    status: K::Status,
) -> Result<K, ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + HasStatus
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
    K::Status: PartialEq,
{
    if object.status() == Some(&status) {
        return Ok(object.clone());
    }
    put_status(&context.client, object, status).await
}

/// As a patch of the status alone, by the version that it was made from. An update with the
/// object as the watch has it, which lacks most of its metadata, would leave that in place; but
/// who had set those labels and annotations would lose them in `managedFields`, and a tool that
/// applies could not take them back any more.
async fn put_status<K>(client: &Client, object: &K, status: K::Status) -> Result<K, ReconcileError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + HasStatus
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let namespace = object.namespace().ok_or(ReconcileError::Incomplete("namespace"))?;
    let version = object.resource_version().ok_or(ReconcileError::Incomplete("version"))?;
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let mut changed = object.clone();
    *changed.status_mut() = Some(status);
    let operations = |changed: serde_json::Value| {
        serde_json::from_value(serde_json::json!([
            // Another version is a conflict.
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": changed["status"]},
        ]))
    };
    let patch = serde_json::to_value(&changed)
        .and_then(operations)
        .map_err(|error| ReconcileError::Status(Box::new(kube::Error::SerdeError(error))))?;
    let params =
        PatchParams { field_manager: Some(labels::MANAGER.to_owned()), ..Default::default() };
    api.patch_status(&object.name_any(), &params, &Patch::Json::<()>(patch))
        .await
        .map_err(|error| ReconcileError::Status(Box::new(error)))
}

/// Whether the namespace is being deleted: what is in it goes, and nothing new comes.
#[must_use]
pub fn is_going(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes.unwrap_or_default().iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Why the API server does not let a new object in: a quota, a policy, a webhook.
#[must_use]
pub fn rejection(error: &kube::Error) -> Option<&str> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Some(&status.message),
        _ => None,
    }
}

/// Whether an object of this name exists already, or has changed meanwhile.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Whether an object does not exist.
#[must_use]
pub fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;

    #[tokio::test]
    async fn a_status_is_written_to_its_subresource_and_nowhere_else() {
        let api = tower::service_fn(|request: Request<Body>| async move {
            assert_eq!(request.method(), "PATCH");
            let path = "/apis/dbbackup.dev/v1alpha1/namespaces/shop/backups/shop-1/status";
            assert_eq!(request.uri().path(), path);
            let sent = request.into_body().collect_bytes().await.unwrap();
            let operations: Vec<serde_json::Value> = serde_json::from_slice(&sent).unwrap();
            let paths: Vec<_> = operations.iter().map(|it| it["path"].as_str().unwrap()).collect();
            assert_eq!(paths, ["/metadata/resourceVersion", "/status"]);
            assert_eq!(operations[0]["value"], "7");
            let mut backup = serde_json::json!(crate::reconcile::fixtures::backup());
            backup["status"] = operations[1]["value"].clone();
            Ok::<_, std::convert::Infallible>(Response::new(Body::from(
                backup.to_string().into_bytes(),
            )))
        });
        let mut backup = crate::reconcile::fixtures::backup();
        backup.metadata.name = Some("shop-1".to_owned());
        backup.metadata.resource_version = Some("7".to_owned());
        let status = dbbackup_crds::BackupStatus { attempts: Some(1), ..Default::default() };
        let client = Client::new(api, "default");
        let written = put_status(&client, &backup, status.clone()).await.unwrap();
        assert_eq!(written.status, Some(status));
    }
}
