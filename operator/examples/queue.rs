//! What a question to the queue costs with 30,000 backups, or as many as are said, in 300
//! namespaces: `cargo run --release -p dbbackup-operator --example queue`.

#![allow(clippy::print_stdout, reason = "its result goes there")]
#![allow(clippy::expect_used, reason = "its objects are its own")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use dbbackup_crds::{Backup, BackupRepository};
use dbbackup_operator::context::Guarded;
use dbbackup_operator::queue::{Limits, Queue};
use dbbackup_operator::watch::Watch;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use serde_json::json;

const NAMESPACES: usize = 300;
const QUESTIONS: u32 = 200;

fn backup(number: usize, phase: &str) -> Backup {
    serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup",
        "metadata": {
            "name": format!("nightly-{number}"), "uid": number.to_string(),
            "namespace": format!("team-{}", number % NAMESPACES),
            "creationTimestamp": "2026-11-23T02:00:00Z",
        },
        "spec": {"scheduleRef": {"name": "nightly"}},
        "status": {
            "phase": phase, "repository": {"name": "main"},
            "error": (phase == "Pending").then(|| json!({
                "class": "Retryable", "reason": "Queued", "message": "not yet", "hint": "It begins when its turn comes.",
            })),
        },
    }))
    .expect("a backup")
}

fn main() {
    let count: usize =
        std::env::args().nth(1).map_or(30_000, |text| text.parse().expect("a number"));
    let limits = Limits { all: NonZeroUsize::new(100), of_namespace: NonZeroUsize::new(25) };
    let queue = Arc::new(Queue::new(limits));
    let mut repositories = Watch::<Guarded<BackupRepository>>::default();
    let mut backups = Watch::<Guarded<Backup>>::default();
    queue.follow(None, &mut repositories, &mut backups);
    repositories.take(Event::Init);
    repositories.take(Event::InitDone);
    backups.take(Event::Init);
    for number in 0..count {
        let phase = if number < 100 { "Running" } else { "Pending" };
        backups.take(Event::InitApply(DeserializeGuard(Ok(backup(number, phase)))));
    }
    backups.take(Event::InitDone);
    let asks: Vec<Backup> =
        (0..QUESTIONS as usize).map(|n| backup(count - 1 - n * 7, "Pending")).collect();
    let begun = Instant::now();
    let waiting = asks.iter().filter(|ask| queue.admit(ask, "main").is_err()).count();
    println!("all places taken: {:?} a question, {waiting} wait", begun.elapsed() / QUESTIONS);
    backups.take(Event::Apply(DeserializeGuard(Ok(backup(0, "Succeeded")))));
    let begun = Instant::now();
    let waiting = asks.iter().filter(|ask| queue.admit(ask, "main").is_err()).count();
    println!("one place free: {:?} a question, {waiting} wait", begun.elapsed() / QUESTIONS);
    let begun = Instant::now();
    let next = queue.next().len();
    println!("whose turn it is: {:?}, {next} may begin", begun.elapsed());
}
