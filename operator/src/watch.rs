//! One watch for each kind of ours, whoever listens.
//!
//! Who reconciles reads what the watch knows of other objects (a schedule its backups, a
//! backup its siblings). With a watch of its own for each listener, the news of a change can
//! come before the store has it: what follows is computed from the state before, and nothing
//! ever says it again. Here the store is written first, and then the news goes out, also of
//! what was deleted and of what a new list brings after a gap (`Controller::new` tells of
//! the objects of such a list before its store has them, and kube's shared streams tell of
//! no deletion: <https://github.com/kube-rs/kube/issues/1590>).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{Stream, StreamExt};
use kube::Resource;
use kube::api::{Api, ObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::index::Index;
use crate::labels;

/// Who takes each event.
type Follower<K> = Box<dyn FnMut(&Event<K>) + Send>;

/// The watch of one kind before it runs.
pub struct Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer: Writer<K>,
    indexes: Vec<Index<K>>,
    followers: Vec<Follower<K>>,
    listeners: Vec<UnboundedSender<Arc<K>>>,
}

impl<K> Default for Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// A watch that knows nothing yet.
    fn default() -> Self {
        Self {
            writer: Writer::new(()),
            indexes: Vec::new(),
            followers: Vec::new(),
            listeners: Vec::new(),
        }
    }
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// What the watch knows.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        self.writer.as_reader()
    }

    /// What the watch knows, by what the objects name in their namespace.
    pub fn index(&mut self, named: fn(&K) -> Option<&str>) -> Index<K> {
        let index = Index::new(self.store(), named);
        self.indexes.push(index.clone());
        index
    }

    /// Gives every event to `follower` before the store has it: what is kept of the events is
    /// never behind what the store shows.
    pub fn follow(&mut self, follower: impl FnMut(&Event<K>) + Send + 'static) {
        self.followers.push(Box::new(follower));
    }

    /// Every object that changes from now on, once the store has it as it is told here; a
    /// deleted one as it was last. What is not taken is kept: a controller takes all at once
    /// and remembers names alone.
    pub fn listen(&mut self) -> impl Stream<Item = Arc<K>> + Send + 'static {
        let (sender, receiver) = unbounded();
        self.listeners.push(sender);
        receiver
    }

    /// Watches until `stop`.
    pub async fn run(mut self, api: Api<K>, stop: CancellationToken) {
        let kind = K::kind(&());
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events.take_until(stop.cancelled()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(event),
                Err(error) => tracing::warn!(kind = &*kind, %error, "a watch has trouble"),
            }
        }
    }

    /// Takes what the API server says, and tells of it.
    pub fn take(&mut self, mut event: Event<K>) {
        if let Event::Apply(object) | Event::InitApply(object) = &mut event {
            forget(object.meta_mut());
        }
        let before = match event {
            Event::InitDone => self.store().state(),
            _ => Vec::new(),
        };
        self.followers.iter_mut().for_each(|follower| follower(&event));
        self.indexes.iter().for_each(|index| index.take(&event));
        self.writer.apply_watcher_event(&event);
        if matches!(event, Event::InitDone) {
            self.indexes.iter().for_each(Index::settle);
        }
        match event {
            Event::Apply(object) | Event::Delete(object) => self.tell(Arc::new(object)),
            Event::InitDone => {
                let store = self.store();
                let is_gone = |object: &Arc<K>| store.get(&ObjectRef::from_obj(object)).is_none();
                before.into_iter().filter(is_gone).for_each(|object| self.tell(object));
                store.state().into_iter().for_each(|object| self.tell(object));
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }

    fn tell(&self, object: Arc<K>) {
        for listener in &self.listeners {
            // One that has ended needs to hear of nothing.
            let _ = listener.unbounded_send(Arc::clone(&object));
        }
    }
}

/// Labels and annotations that are read of objects as a watch has them.
const READ: [&str; 2] = [labels::SLOT, labels::IMPORTED];
/// Longest value of those: a slot or a flag.
const LONGEST: usize = 64;

/// Forgets what nobody here asks for: who manages which field takes as much room as all the
/// rest, and what others write beside it (kubectl the whole object, in an annotation) up to a
/// megabyte an object, by anybody who may write objects.
///
/// The objects keep it: of them a status alone is written, as a patch (`write_status`), and the
/// chart's role allows no more.
fn forget(meta: &mut ObjectMeta) {
    *meta = ObjectMeta {
        annotations: meta.annotations.take().and_then(read_alone),
        creation_timestamp: meta.creation_timestamp.take(),
        deletion_timestamp: meta.deletion_timestamp.take(),
        finalizers: meta.finalizers.take().and_then(ours_alone),
        generation: meta.generation,
        labels: meta.labels.take().and_then(read_alone),
        name: meta.name.take(),
        namespace: meta.namespace.take(),
        resource_version: meta.resource_version.take(),
        uid: meta.uid.take(),
        ..ObjectMeta::default()
    };
}

fn read_alone(mut all: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    all.retain(|key, value| READ.contains(&key.as_str()) && value.len() <= LONGEST);
    // An empty map keeps its room.
    (!all.is_empty()).then_some(all)
}

/// Our finalizer, where it is there: whether others have theirs is not asked for.
fn ours_alone(all: Vec<String>) -> Option<Vec<String>> {
    all.iter()
        .any(|it| it == labels::SLOT_FINALIZER)
        .then(|| vec![labels::SLOT_FINALIZER.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Guarded;
    use dbbackup_crds::{Backup, BackupSchedule, ResolvedBackup};
    use futures::FutureExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};

    fn named(name: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object.metadata.namespace = Some("shop".to_owned());
        object
    }

    fn names(objects: &[Arc<ConfigMap>]) -> Vec<&str> {
        let mut names: Vec<&str> =
            objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect();
        names.sort_unstable();
        names
    }

    /// All that was told and not yet taken.
    fn told(news: &mut (impl Stream<Item = Arc<ConfigMap>> + Unpin)) -> Vec<Arc<ConfigMap>> {
        std::iter::from_fn(|| news.next().now_or_never().flatten()).collect()
    }

    #[test]
    fn the_store_is_written_before_anybody_is_told() {
        let mut watch = Watch::<ConfigMap>::default();
        let (mut one, mut other) = (watch.listen(), watch.listen());
        watch.take(Event::Init);
        watch.take(Event::InitApply(named("a")));
        watch.take(Event::InitApply(named("b")));
        // Not known yet, so not told.
        assert!(told(&mut one).is_empty());
        watch.take(Event::InitDone);
        assert_eq!(names(&watch.store().state()), ["a", "b"]);
        assert_eq!(names(&told(&mut one)), ["a", "b"]);
        assert_eq!(names(&told(&mut other)), ["a", "b"]);

        watch.take(Event::Apply(named("c")));
        assert_eq!(names(&told(&mut one)), ["c"]);
        watch.take(Event::Delete(named("a")));
        assert_eq!(names(&told(&mut one)), ["a"]);
        assert_eq!(names(&watch.store().state()), ["b", "c"]);
    }

    #[test]
    fn a_watch_keeps_of_what_others_wrote_what_is_read() {
        let slot = "2026-11-20T01:15:00Z";
        let mut object = named("a");
        object.metadata = ObjectMeta {
            annotations: Some(
                [
                    ("kubectl.kubernetes.io/last-applied-configuration", "x".repeat(250_000)),
                    ("dbbackup.dev/anything", "x".repeat(10_000)),
                    (labels::SLOT, slot.to_owned()),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
            ),
            labels: Some([(labels::SCHEDULE.to_owned(), "nightly".to_owned())].into()),
            finalizers: Some(["example.com/f", labels::SLOT_FINALIZER].map(str::to_owned).into()),
            generation: Some(3),
            managed_fields: Some(vec![ManagedFieldsEntry::default()]),
            owner_references: Some(vec![OwnerReference::default()]),
            resource_version: Some("7".to_owned()),
            uid: Some("u".to_owned()),
            ..object.metadata
        };
        let mut flooded = named("b");
        flooded.metadata.annotations =
            Some([(labels::SLOT.to_owned(), "x".repeat(250_000))].into());
        let kept = ObjectMeta {
            annotations: Some([(labels::SLOT.to_owned(), slot.to_owned())].into()),
            labels: None,
            finalizers: Some(vec![labels::SLOT_FINALIZER.to_owned()]),
            managed_fields: None,
            owner_references: None,
            ..object.metadata.clone()
        };
        let mut watch = Watch::<ConfigMap>::default();
        watch.take(Event::Init);
        watch.take(Event::InitApply(object.clone()));
        watch.take(Event::InitDone);
        watch.take(Event::Apply(flooded));
        let store = watch.store();
        let known = |name: &str| store.get(&ObjectRef::new(name).within("shop")).unwrap();
        assert_eq!(known("a").metadata, kept);
        assert_eq!(known("b").metadata.annotations, None);
        watch.take(Event::Apply(object));
        assert_eq!(known("a").metadata, kept);
    }

    #[test]
    fn an_object_takes_little_room_beside_its_texts() {
        // Of backups a large installation has 30,000: what few of them have is boxed.
        assert!(size_of::<Guarded<Backup>>() <= 1400);
        assert!(size_of::<ResolvedBackup>() <= 808);
        assert!(size_of::<Guarded<BackupSchedule>>() <= 2304);
    }

    #[test]
    fn a_new_list_after_a_gap_tells_also_of_what_is_gone() {
        let mut watch = Watch::<ConfigMap>::default();
        watch.take(Event::Init);
        watch.take(Event::InitApply(named("went")));
        watch.take(Event::InitApply(named("stays")));
        watch.take(Event::InitDone);
        let mut news = watch.listen();
        watch.take(Event::Init);
        watch.take(Event::InitApply(named("stays")));
        watch.take(Event::InitApply(named("came")));
        watch.take(Event::InitDone);
        assert_eq!(names(&told(&mut news)), ["came", "stays", "went"]);
        assert_eq!(names(&watch.store().state()), ["came", "stays"]);
    }

    #[test]
    fn an_index_follows_changes_deletions_and_new_lists() {
        let naming = |name: &str, what: &str| {
            let mut object = named(name);
            object.data = Some([("of".to_owned(), what.to_owned())].into());
            object
        };
        let mut watch = Watch::<ConfigMap>::default();
        let index = watch.index(|object| object.data.as_ref()?.get("of").map(String::as_str));
        let found = |of: &str| {
            index
                .get("shop", of)
                .iter()
                .map(|it| it.metadata.name.clone().unwrap())
                .collect::<Vec<_>>()
        };
        watch.take(Event::Init);
        watch.take(Event::InitApply(naming("b", "x")));
        watch.take(Event::InitApply(naming("a", "x")));
        watch.take(Event::InitApply(named("nobody's")));
        assert!(found("x").is_empty(), "not known yet");
        watch.take(Event::InitDone);
        assert_eq!(found("x"), ["a", "b"]);
        assert!(index.get("another", "x").is_empty());

        watch.take(Event::Apply(naming("a", "y")));
        watch.take(Event::Apply(naming("c", "y")));
        assert_eq!(
            (found("x"), found("y")),
            (vec!["b".to_owned()], vec!["a".to_owned(), "c".to_owned()])
        );
        watch.take(Event::Delete(naming("c", "y")));
        assert_eq!(found("y"), ["a"]);
        // After a gap: one is gone, one has come.
        watch.take(Event::Init);
        watch.take(Event::InitApply(naming("d", "x")));
        watch.take(Event::InitDone);
        assert_eq!((found("x"), found("y")), (vec!["d".to_owned()], Vec::new()));
    }

    #[test]
    fn a_listener_that_has_ended_keeps_nothing_from_the_others() {
        let mut watch = Watch::<ConfigMap>::default();
        drop(watch.listen());
        let mut news = watch.listen();
        watch.take(Event::Apply(named("a")));
        assert_eq!(names(&told(&mut news)), ["a"]);
    }
}
