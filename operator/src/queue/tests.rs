use dbbackup_crds::BackupRepository;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

/// The watches of all namespaces.
struct Cluster {
    repositories: Writer<Guarded<BackupRepository>>,
    backups: Writer<Guarded<Backup>>,
    queue: Queue,
}

impl Cluster {
    fn with(limit: usize) -> Self {
        let (repositories, backups) = (Writer::new(()), Writer::new(()));
        let stores = Stores {
            repositories: repositories.as_reader(),
            schedules: empty(),
            backups: backups.as_reader(),
        };
        let queue = Queue::new(NonZeroUsize::new(limit));
        queue.watch(stores);
        Self { repositories, backups, queue }
    }

    fn repository(&mut self, namespace: &str, limit: Option<u16>) {
        let repository: BackupRepository = serde_json::from_value(json!({
            "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupRepository",
            "metadata": {"name": "main", "namespace": namespace, "uid": namespace},
            "spec": {
                "storage": {"volume": {"claimName": "backups"}}, "encryption": {"none": {}},
                "maxConcurrentJobs": limit,
            },
        }))
        .unwrap();
        self.repositories.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(repository))));
    }

    /// The watch shows a backup of the `minute` like this.
    fn shows(&mut self, namespace: &str, minute: u8, status: &Value) -> Vec<String> {
        let backup = backup(namespace, minute, status);
        let event = Event::Apply(DeserializeGuard(Ok(backup.clone())));
        self.backups.apply_watcher_event(&event);
        self.next_after(backup)
    }

    fn loses(&mut self, namespace: &str, minute: u8) -> Vec<String> {
        let backup = backup(namespace, minute, &running());
        let event = Event::Delete(DeserializeGuard(Ok(backup.clone())));
        self.backups.apply_watcher_event(&event);
        self.next_after(backup)
    }

    fn next_after(&self, backup: Backup) -> Vec<String> {
        if !self.queue.gives_way(&DeserializeGuard(Ok(backup))) {
            return Vec::new();
        }
        let next = self.queue.next().into_iter();
        next.map(|next| format!("{}/{}", next.namespace.unwrap(), next.name)).collect()
    }

    /// A new backup asks whether it may begin; what it is told, it writes down.
    fn asks(&mut self, namespace: &str, minute: u8) -> Option<String> {
        self.shows(namespace, minute, &json!({}));
        let asked = self.queue.admit(&backup(namespace, minute, &json!({})), "main").err()?;
        assert_eq!(asked.reason, Reason::Queued);
        self.shows(namespace, minute, &queued());
        Some(asked.message)
    }
}

fn empty<K>() -> Store<Guarded<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    Writer::new(()).as_reader()
}

fn backup(namespace: &str, minute: u8, status: &Value) -> Backup {
    let slot = format!("2026-11-23T02:{minute:02}:00Z");
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {
            "name": format!("at-{minute}"), "namespace": namespace, "uid": format!("{namespace}-{minute}"),
            "annotations": {crate::labels::SLOT: slot},
        },
        "spec": {"scheduleRef": {"name": "nightly"}}, "status": status,
    }))
    .unwrap()
}

fn queued() -> Value {
    let error = Failure::new(Reason::Queued, "not yet");
    json!({"phase": "Pending", "error": error, "repository": {"name": "main"}})
}

fn running() -> Value {
    json!({"phase": "Running", "repository": {"name": "main"}})
}

fn ended() -> Value {
    json!({"phase": "Succeeded", "repository": {"name": "main"}})
}

#[test]
fn a_repository_lets_as_many_run_as_it_says_and_then_the_one_that_is_due_the_longest() {
    let mut cluster = Cluster::with(0);
    cluster.repository("shop", Some(2));
    assert_eq!(cluster.asks("shop", 10), None);
    assert_eq!(cluster.asks("shop", 11), None);
    let told = cluster.asks("shop", 13).unwrap();
    assert_eq!(
        told,
        "as many backups run as the BackupRepository main allows at once: 2 (spec.maxConcurrentJobs)"
    );
    assert!(cluster.asks("shop", 12).is_some());
    // Another namespace's repository of the same name has its own limit, here none.
    cluster.repository("crm", None);
    assert_eq!(cluster.asks("crm", 10), None);

    // The watch comes after what was begun, and nobody slips in between.
    assert!(cluster.shows("shop", 10, &running()).is_empty());
    assert_eq!(cluster.asks("shop", 14).unwrap(), told);
    assert_eq!(cluster.shows("shop", 10, &ended()), ["shop/at-12"]);
    assert_eq!(cluster.asks("shop", 12), None);
    assert_eq!(cluster.asks("shop", 12), None, "asking again is no second one");
    assert!(cluster.asks("shop", 13).is_some());
    // One whose outcome is being asked for has no Job that writes any more.
    let asked = json!({"phase": "Running", "repository": {"name": "main"}, "inspections": 1});
    assert_eq!(cluster.shows("shop", 11, &asked), ["shop/at-13"]);
    assert_eq!(cluster.asks("shop", 13), None);
    // One whose node was lost may begin again, and keeps its place until that is known.
    let lost = Failure::new(Reason::PodDisrupted, "the node is gone");
    let lost = json!({"phase": "Running", "repository": {"name": "main"}, "inspections": 1, "error": lost});
    assert_eq!(cluster.shows("shop", 12, &lost), Vec::<String>::new());
    // One that is deleted while it runs.
    cluster.shows("shop", 12, &running());
    assert_eq!(cluster.loses("shop", 12), ["shop/at-14"]);
}

#[test]
fn namespaces_take_turns_under_the_operators_limit() {
    let mut cluster = Cluster::with(2);
    assert_eq!(cluster.asks("big", 1), None);
    assert_eq!(cluster.asks("big", 2), None);
    for minute in 3..=9 {
        let told = cluster.asks("big", minute).unwrap();
        assert_eq!(told, "as many backups run as the operator allows at once: 2");
    }
    assert!(cluster.asks("small", 30).is_some());
    cluster.shows("big", 1, &running());
    cluster.shows("big", 2, &running());
    assert_eq!(cluster.shows("big", 1, &ended()), ["small/at-30"], "though it is due later");
    assert_eq!(cluster.asks("small", 30), None);
    cluster.shows("small", 30, &running());
    assert_eq!(cluster.shows("small", 30, &ended()), ["big/at-3"]);
}

#[test]
fn one_that_waits_for_its_repository_keeps_nobody_else_back() {
    let mut cluster = Cluster::with(2);
    cluster.repository("shop", Some(1));
    assert_eq!(cluster.asks("shop", 1), None);
    assert!(cluster.asks("shop", 2).unwrap().contains("maxConcurrentJobs"));
    assert_eq!(cluster.asks("crm", 3), None);
    assert!(cluster.asks("crm", 4).unwrap().contains("the operator"));
}

#[test]
fn one_that_may_begin_and_cannot_gives_its_place_to_the_next() {
    let mut cluster = Cluster::with(1);
    assert_eq!(cluster.asks("shop", 1), None);
    assert!(cluster.asks("shop", 2).is_some());
    let rejected = Failure::new(Reason::PodRejected, "exceeded quota");
    let kept = json!({"phase": "Pending", "error": rejected, "repository": {"name": "main"}});
    assert_eq!(cluster.shows("shop", 1, &kept), ["shop/at-2"]);
    assert_eq!(cluster.asks("shop", 2), None);
    assert!(cluster.asks("shop", 1).is_some());
}

#[test]
fn without_limits_nobody_waits() {
    let mut cluster = Cluster::with(0);
    cluster.repository("shop", None);
    assert!((0..60).all(|minute| cluster.asks("shop", minute).is_none()));
}
