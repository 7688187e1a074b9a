//! What the queue answers, by what the watches show.

mod plain;

use std::num::NonZeroUsize;

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

/// The watches of all namespaces.
struct Cluster {
    repositories: Watch<Guarded<BackupRepository>>,
    backups: Watch<Guarded<Backup>>,
    queue: Arc<Queue>,
}

impl Cluster {
    fn with(limit: usize) -> Self {
        Self::with_limits(limit, 0)
    }

    fn with_limits(all: usize, of_namespace: usize) -> Self {
        let (mut repositories, mut backups) = (Watch::default(), Watch::default());
        let (all, of_namespace) = (NonZeroUsize::new(all), NonZeroUsize::new(of_namespace));
        let queue = Arc::new(Queue::new(Limits { all, of_namespace }));
        queue.follow(None, &mut repositories, &mut backups);
        Self { repositories, backups, queue }
    }

    fn repository(&mut self, namespace: &str, limit: Option<u16>) {
        let repository = DeserializeGuard(Ok(repository(namespace, limit)));
        self.repositories.take(Event::Apply(repository));
    }

    /// The watch shows a backup of the `minute` like this.
    fn shows(&mut self, namespace: &str, minute: u8, status: &Value) -> Vec<String> {
        let backup = backup(namespace, minute, status);
        self.backups.take(Event::Apply(DeserializeGuard(Ok(backup.clone()))));
        self.next_after(backup)
    }

    fn loses(&mut self, namespace: &str, minute: u8) -> Vec<String> {
        let backup = backup(namespace, minute, &running());
        self.backups.take(Event::Delete(DeserializeGuard(Ok(backup.clone()))));
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

fn repository(namespace: &str, limit: Option<u16>) -> BackupRepository {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupRepository",
        "metadata": {"name": "main", "namespace": namespace, "uid": namespace},
        "spec": {
            "storage": {"volume": {"claimName": "backups"}}, "encryption": {"none": {}},
            "maxConcurrentJobs": limit,
        },
    }))
    .unwrap()
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
fn a_namespace_has_some_of_the_places_however_long_its_backups_run() {
    let mut cluster = Cluster::with_limits(3, 2);
    assert_eq!(cluster.asks("big", 1), None);
    assert_eq!(cluster.asks("big", 2), None);
    let told = cluster.asks("big", 3).unwrap();
    assert_eq!(
        told,
        "as many backups run as the operator allows a namespace at once: 2 (maxConcurrentJobsPerNamespace)"
    );
    // One place is left, and not for it.
    assert!(cluster.shows("big", 1, &running()).is_empty());
    assert_eq!(cluster.shows("big", 3, &queued()), Vec::<String>::new());
    assert_eq!(cluster.asks("small", 30), None);
    assert!(cluster.asks("small", 31).unwrap().ends_with("the operator allows at once: 3"));
    assert_eq!(cluster.shows("big", 1, &ended()), ["big/at-3"]);
    // The limit of its repository is told of first: who has set it can raise it.
    cluster.repository("big", Some(1));
    assert!(cluster.asks("big", 3).unwrap().contains("spec.maxConcurrentJobs"));
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
    let again = backup("shop", 1, &kept);
    assert!(cluster.queue.admit(&again, "main").is_err());

    // It has its next turn, and until it is known that it could not begin no other has it.
    cluster.shows("shop", 2, &ended());
    assert_eq!(cluster.queue.admit(&again, "main"), Ok(()));
    assert!(cluster.asks("shop", 3).is_some());
    // Refused in the same words: the watch shows nothing new.
    cluster.queue.give_back(&again);
    assert_eq!(cluster.asks("shop", 3), None);
}

#[test]
fn who_asks_and_has_ended_or_is_gone_takes_no_place() {
    let mut cluster = Cluster::with(1);
    let asking = backup("shop", 1, &json!({}));
    assert!(cluster.queue.admit(&asking, "main").is_err(), "never seen");
    cluster.shows("shop", 1, &ended());
    assert!(cluster.queue.admit(&asking, "main").is_err());
    cluster.shows("shop", 1, &running());
    assert_eq!(cluster.queue.admit(&asking, "main"), Ok(()), "it has its place");
    cluster.loses("shop", 1);
    assert!(cluster.queue.admit(&asking, "main").is_err());
    assert_eq!(cluster.asks("shop", 2), None, "and nothing keeps one");
}

#[test]
fn without_limits_nobody_waits() {
    let mut cluster = Cluster::with(0);
    cluster.repository("shop", None);
    assert!((0..60).all(|minute| cluster.asks("shop", minute).is_none()));
}
