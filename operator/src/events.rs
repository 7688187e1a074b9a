//! Events about objects: what happened, for whoever looks at them.

use dbbackup_contract::Failure;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::mpsc;

use crate::cluster::is_going;
use crate::context::Context;

/// Events that wait to be published: some 1 kB each.
const MAX_WAITING: usize = 1000;

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    waiting: mpsc::Sender<(ObjectReference, Event)>,
}

impl Events {
    /// Events of this reporter. Those that may wait are published one after the other, beside
    /// the work: the Jobs of a hundred slots must not wait for what is told of them.
    #[must_use]
    pub fn new(recorder: Recorder) -> Self {
        let (waiting, mut next) = mpsc::channel(MAX_WAITING);
        let beside = recorder.clone();
        tokio::spawn(async move {
            while let Some((about, event)) = next.recv().await {
                publish_now(&beside, &about, &event).await;
            }
        });
        Self { recorder, waiting }
    }

    fn later(&self, about: ObjectReference, event: Event) {
        let reason = event.reason.clone();
        if self.waiting.try_send((about, event)).is_err() {
            tracing::warn!(reason, "an event was lost: too many wait");
        }
    }
}

async fn publish_now(recorder: &Recorder, about: &ObjectReference, event: &Event) {
    let reason = event.reason.as_str();
    match recorder.publish(event, about).await {
        Ok(()) => {}
        Err(error) if is_going(&error) => tracing::debug!(reason, "an event has no namespace"),
        Err(error) => tracing::warn!(%error, reason, "an event was lost"),
    }
}

/// Publishes an event about `object`, soon. An event that is lost loses nothing else.
pub fn publish<K>(context: &Context, object: &K, reason: &str, action: &str, note: String)
where
    K: Resource<DynamicType = ()>,
{
    let event = event(EventType::Normal, reason, action, note);
    context.events.later(object.object_ref(&()), event);
}

/// Publishes an event about an object that tells of another one, such as its Job, soon.
pub fn publish_with<K, R>(
    context: &Context,
    object: &K,
    related: &R,
    reason: &str,
    action: &str,
    note: String,
) where
    K: Resource<DynamicType = ()>,
    R: Resource<DynamicType = ()>,
{
    let event = event_with(related, reason, action, note);
    context.events.later(object.object_ref(&()), event);
}

/// Publishes a failure as a warning, at once.
pub async fn warn<K>(context: &Context, object: &K, action: &str, failure: &Failure)
where
    K: Resource<DynamicType = ()>,
{
    let note = crate::conditions::sentence(failure);
    let labels = [&*K::kind(&()), failure.reason.as_str()];
    context.metrics.failures.with_label_values(&labels).inc();
    warn_as(context, object, failure.reason.as_str(), action, note).await;
}

/// Publishes a warning that is no failure of a run, at once.
pub async fn warn_as<K>(context: &Context, object: &K, reason: &str, action: &str, note: String)
where
    K: Resource<DynamicType = ()>,
{
    let event = event(EventType::Warning, reason, action, note);
    publish_now(&context.events.recorder, &object.object_ref(&()), &event).await;
}

fn event(type_: EventType, reason: &str, action: &str, mut note: String) -> Event {
    // The API server takes 1 kB.
    note.truncate(note.floor_char_boundary(1000));
    let (reason, action) = (reason.to_owned(), action.to_owned());
    Event { type_, reason, note: Some(note), action, secondary: None }
}

/// Events of the same reason and action are counted as one, under the first one's note, unless
/// what they relate to differs: each Job that is created has an event of its own.
fn event_with<R>(related: &R, reason: &str, action: &str, note: String) -> Event
where
    R: Resource<DynamicType = ()>,
{
    let secondary = Some(related.object_ref(&()));
    Event { secondary, ..event(EventType::Normal, reason, action, note) }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;

    use super::*;

    #[test]
    fn the_events_of_two_jobs_of_one_object_are_not_counted_as_one() {
        let created = |name: &str| {
            let mut job = Job::default();
            job.metadata.name = Some(name.to_owned());
            job.metadata.namespace = Some("shop".to_owned());
            event_with(&job, "JobCreated", "Begin", format!("created the Job {name}"))
        };
        let related = ["look-find-1", "look-restore-1"].map(|name| created(name).secondary);
        let names = related.clone().map(|related| related.and_then(|related| related.name));
        assert_eq!(names, [Some("look-find-1".to_owned()), Some("look-restore-1".to_owned())]);
        assert_eq!(related[0].as_ref().and_then(|related| related.kind.as_deref()), Some("Job"));
    }

    #[test]
    fn a_note_is_cut_to_what_the_api_server_takes() {
        let note = event(EventType::Warning, "X", "Y", "é".repeat(1000)).note;
        assert_eq!(note.map(|note| note.len()), Some(1000));
    }
}
