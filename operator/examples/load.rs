//! Fills a cluster with objects as a large installation has them, and measures how soon a slot
//! becomes a Job: for `hack/bench/operator`. The operator must not run while it fills.
//!
//!     load fill SCHEDULES ACTIVE BACKUPS NAMESPACES SLOT   (RFC 3339: when the active ones fire)
//!     load watch ACTIVE SLOT

#![allow(clippy::print_stdout, reason = "its result goes there")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use dbbackup_crds::{Backup, BackupRepository, BackupSchedule};
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::object::HasStatus;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

type AnyError = Box<dyn Error + Send + Sync>;

/// Requests at once: what an API server on two cores takes.
const AT_ONCE: usize = 24;
/// The longest that Jobs may be late.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let client = Client::try_default().await?;
    match words[..] {
        ["fill", schedules, active, backups, namespaces, slot] => {
            let load = Load {
                schedules: schedules.parse()?,
                active: active.parse()?,
                backups: backups.parse()?,
                namespaces: namespaces.parse()?,
                slot: slot.parse()?,
            };
            load.fill(&client).await
        }
        ["watch", active, slot] => watch(&client, active.parse()?, slot.parse()?).await,
        _ => Err("fill SCHEDULES ACTIVE BACKUPS NAMESPACES SLOT, or watch ACTIVE SLOT".into()),
    }
}

#[derive(Clone, Copy)]
struct Load {
    schedules: usize,
    active: usize,
    backups: usize,
    namespaces: usize,
    slot: Timestamp,
}

impl Load {
    async fn fill(self, client: &Client) -> Result<(), AnyError> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        each(self.namespaces, |n| {
            let namespaces = &namespaces;
            async move {
                let json = json!({"metadata": {"name": space(n)}});
                namespaces.create(&PostParams::default(), &serde_json::from_value(json)?).await?;
                Ok(())
            }
        })
        .await?;
        each(self.namespaces, |n| {
            put::<BackupRepository>(client, space(n), repository(), repository_status())
        })
        .await?;
        each(self.backups, |n| {
            let (name, spec, status) = self.backup(n);
            let namespace = space(n % self.schedules % self.namespaces);
            put::<Backup>(client, namespace, object("Backup", &name, spec), status)
        })
        .await?;
        each(self.schedules, |n| {
            let (spec, status) = self.schedule(n);
            let name = format!("schedule-{n}");
            let namespace = space(n % self.namespaces);
            put::<BackupSchedule>(client, namespace, object("BackupSchedule", &name, spec), status)
        })
        .await
    }

    /// Most have a slot once a year: they stand for those that are not due now.
    fn schedule(self, n: usize) -> (Value, Value) {
        let slot = self.slot.to_zoned(jiff::tz::TimeZone::UTC);
        let line = match n < self.active {
            true => format!("{} {} * * *", slot.minute(), slot.hour()),
            false => "0 0 1 1 *".to_owned(),
        };
        let spec = json!({
            "repositoryRef": {"name": "main"}, "schedule": line,
            "source": {"postgresql": {"host": "db", "credentialsSecretRef": {"name": "db"}}},
            // No pod ever starts: what is measured is the operator.
            "job": {"nodeSelector": {"nowhere": "true"}},
        });
        let now = Timestamp::now();
        let since = json!({"schedule": line, "timeZone": "Etc/UTC", "time": now});
        let status = json!({
            "observedGeneration": 1, "lastSuccessfulTime": now, "slotsSince": since,
            "display": "last ok under 1h ago",
        });
        (spec, status)
    }

    /// Some that have succeeded, of every schedule the same number.
    fn backup(self, n: usize) -> (String, Value, Value) {
        let (schedule, age) = (n % self.schedules, (n / self.schedules) as i64);
        let ended = Timestamp::now() - SignedDuration::from_hours(24 * age + 1);
        let spec = json!({"scheduleRef": {"name": format!("schedule-{schedule}")}});
        let database = json!({"name": "shop", "outcome": "Succeeded", "bytes": 1_300_000_000_u64,
            "tables": 41, "rows": 9_123_456, "durationMilliseconds": 71_000});
        let status = json!({
            "observedGeneration": 1, "phase": "Succeeded", "display": "1 database, 1.3 GB in 1m11s",
            "startTime": ended, "completionTime": ended, "attempts": 1, "jobs": 1,
            "snapshotId": format!("k7m2qx4a-20261120t021500z-{schedule:016}-{age}"),
            "bytes": {"read": 1_300_000_000_u64, "new": 48_000_000, "stored": 16_000_000},
            "databaseCount": {"total": 1, "succeeded": 1, "failed": 0},
            "databases": [database],
            "conditions": (["Ready", "Complete"].map(|kind| json!({
                "type": kind, "status": "True", "reason": "Succeeded", "observedGeneration": 1,
                "message": "1 database, 1.3 GB in 1m11s", "lastTransitionTime": ended,
            }))),
        });
        (format!("schedule-{schedule}-{age}"), spec, status)
    }
}

fn space(n: usize) -> String {
    format!("load-{n:03}")
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "dbbackup.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
        "spec": spec})
}

fn repository() -> Value {
    object(
        "BackupRepository",
        "main",
        json!({
            "storage": {"volume": {"claimName": "backups"}}, "encryption": {"none": {}},
            "import": "None", "maintenance": {"schedule": "0 0 1 1 *"},
        }),
    )
}

fn repository_status() -> Value {
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Opened", "observedGeneration": 1,
        "message": "opened", "lastTransitionTime": Timestamp::now(),
    });
    json!({"observedGeneration": 1, "id": "5d0c0f4e7a1b2c3d", "conditions": [ready],
        "display": "1 snapshot", "snapshotCount": 1})
}

/// Does `work` for each number below `count`.
async fn each<F>(count: usize, work: impl Fn(usize) -> F) -> Result<(), AnyError>
where
    F: Future<Output = Result<(), AnyError>>,
{
    futures::stream::iter(0..count)
        .map(|n| Ok(work(n)))
        .try_buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Creates an object, and then its status.
async fn put<K>(
    client: &Client,
    namespace: String,
    object: Value,
    status: Value,
) -> Result<(), AnyError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + HasStatus
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(&name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Waits for the Jobs of the active schedules' backups, and tells how late they came.
async fn watch(client: &Client, active: usize, slot: Timestamp) -> Result<(), AnyError> {
    let jobs: Api<Job> = Api::all(client.clone());
    let found = jobs.list(&Default::default()).await?;
    let version = found.metadata.resource_version.unwrap_or_default();
    let mut events = jobs.watch(&WatchParams::default(), &version).await?.boxed();
    let mut late = BTreeMap::new();
    let seen = async {
        while let Some(event) = events.try_next().await? {
            let WatchEvent::Added(job) = event else { continue };
            let name = job.metadata.name.unwrap_or_default();
            let namespace = job.metadata.namespace.unwrap_or_default();
            if namespace.starts_with("load-") && name.contains("-backup-") {
                late.insert((namespace, name), Timestamp::now().duration_since(slot));
            }
            if late.len() == active {
                break;
            }
        }
        Ok::<_, kube::Error>(())
    };
    let until = Duration::try_from(slot.duration_since(Timestamp::now())).unwrap_or_default();
    let _ = tokio::time::timeout(until + PATIENCE, seen).await.map(|seen| seen.map_err(Box::new));
    let mut late: Vec<f64> = late.into_values().map(|late| late.as_secs_f64()).collect();
    late.sort_by(f64::total_cmp);
    let at = |share: usize| late.get((late.len().max(1) - 1) * share / 100).copied();
    let shown = |late: Option<f64>| late.map_or("none".to_owned(), |late| format!("{late:.2} s"));
    println!("| Jobs of {active} slots | {} |", late.len());
    println!("| from the slot to the Job, median | {} |", shown(at(50)));
    println!("| 99 of 100 | {} |", shown(at(99)));
    Ok(())
}
