//! Metrics: what the reconcilers do, and how each schedule stands. Only
//! schedules are labels; what is per schedule is computed when it is asked for,
//! so that a deleted schedule leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Mutex;

use dbbackup_contract::Outcome;
use dbbackup_contract::Reason;
use dbbackup_crds::{Backup, BackupRepository, BackupSchedule, CheckOutcome};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::conditions::holds;
use crate::context::Guarded;
use crate::reasons;

/// The operator's metrics.
pub struct Metrics {
    registry: Registry,
    /// Reconciles by kind.
    pub reconciliations: IntCounterVec,
    /// Reconciles that failed, by kind.
    pub reconcile_errors: IntCounterVec,
    /// How long reconciles take, by kind.
    pub reconcile_seconds: HistogramVec,
    /// Messages on the report channel, by what became of them.
    pub reports: IntCounterVec,
    /// Failures that were told, by kind and reason.
    pub failures: IntCounterVec,
    /// Whether this replica leads.
    pub leader: IntGauge,
    stores: Mutex<Vec<Stores>>,
}

/// What the watches hold.
#[derive(Clone)]
pub struct Stores {
    /// All repositories.
    pub repositories: Store<Guarded<BackupRepository>>,
    /// All schedules.
    pub schedules: Store<Guarded<BackupSchedule>>,
    /// All backups.
    pub backups: Store<Guarded<Backup>>,
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Two metrics have one name: a fault of this program.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let reconciliations =
            counter("dbbackup_reconciliations_total", "Reconciles by kind.", "kind")?;
        let reconcile_errors =
            counter("dbbackup_reconcile_errors_total", "Reconciles that failed, by kind.", "kind")?;
        let reports = counter(
            "dbbackup_reports_total",
            "Messages of runners, by what became of them.",
            "result",
        )?;
        let failures = IntCounterVec::new(
            Opts::new("dbbackup_failures_total", "Failures that were told, by kind and reason."),
            &["kind", "reason"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("dbbackup_reconcile_duration_seconds", "Seconds of a reconcile."),
            &["kind"],
        )?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        let leader = IntGauge::new("dbbackup_leader", "1 where this replica leads.")?;
        registry.register(Box::new(leader.clone()))?;
        Ok(Self {
            registry,
            reconciliations,
            reconcile_errors,
            reconcile_seconds,
            reports,
            failures,
            leader,
            stores: Mutex::new(Vec::new()),
        })
    }

    /// Adds what the schedules' metrics are computed from.
    pub fn watch(&self, stores: Stores) {
        self.stores.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(stores);
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A metric cannot be written.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let stores = self.stores.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut families = self.registry.gather();
        families.extend(schedule_metrics(&stores)?.gather());
        families.extend(repository_metrics(&stores)?.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// How each repository stands: there are few, one or two in a namespace.
fn repository_metrics(stores: &[Stores]) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str| {
        let gauge = GaugeVec::new(Opts::new(name, help), &["namespace", "repository"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok::<_, prometheus::Error>(gauge)
    };
    let ready = gauge("dbbackup_repository_ready", "1 where the repository can be used.")?;
    let intact = gauge(
        "dbbackup_repository_intact",
        "0 where the last check found damage, or a snapshot is missing.",
    )?;
    let snapshots = gauge("dbbackup_repository_snapshots", "Snapshots in the repository.")?;
    let stored = gauge("dbbackup_repository_stored_bytes", "Bytes that the repository takes.")?;
    let logical = gauge(
        "dbbackup_repository_logical_bytes",
        "Bytes of all snapshots as they would be restored.",
    )?;
    let maintained = gauge(
        "dbbackup_repository_last_maintenance_timestamp_seconds",
        "When the last maintenance ended.",
    )?;
    let well = gauge(
        "dbbackup_repository_last_maintenance_succeeded",
        "1 where the last maintenance did all that it should.",
    )?;
    let checked =
        gauge("dbbackup_repository_last_check_timestamp_seconds", "When the last check ended.")?;
    let passed =
        gauge("dbbackup_repository_last_check_passed", "1 where the last check found no damage.")?;
    for repository in stores.iter().flat_map(|stores| stores.repositories.state()) {
        let Ok(repository) = &repository.0 else { continue };
        let Some(status) = &repository.status else { continue };
        let (namespace, name) = (repository.namespace().unwrap_or_default(), repository.name_any());
        let labels = [namespace.as_str(), name.as_str()];
        let is_ready = holds(&status.conditions, reasons::READY, repository.metadata.generation);
        ready.with_label_values(&labels).set(flag(is_ready));
        // What was found holds until the next check, whatever the spec says since.
        let found = status.conditions.iter().find(|found| found.type_ == reasons::INTACT);
        if let Some(found) = found {
            intact.with_label_values(&labels).set(flag(found.status == "True"));
        }
        if let Some(count) = status.snapshot_count {
            snapshots.with_label_values(&labels).set(float(count));
        }
        if let Some(bytes) = &status.bytes {
            stored.with_label_values(&labels).set(float(bytes.stored));
            logical.with_label_values(&labels).set(float(bytes.logical));
        }
        if let Some(last) = &status.last_maintenance {
            maintained.with_label_values(&labels).set(seconds_of(last.time));
            well.with_label_values(&labels).set(flag(last.outcome == Outcome::Succeeded));
        }
        if let Some(last) = &status.last_check {
            checked.with_label_values(&labels).set(seconds_of(last.time));
            passed.with_label_values(&labels).set(flag(last.outcome == CheckOutcome::Passed));
        }
    }
    Ok(registry)
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

fn seconds_of(time: jiff::Timestamp) -> f64 {
    float(u64::try_from(time.as_second()).unwrap_or(0))
}

/// How each schedule stands, from what the watches hold now.
fn schedule_metrics(stores: &[Stores]) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str| {
        let gauge = GaugeVec::new(Opts::new(name, help), &["namespace", "schedule"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok::<_, prometheus::Error>(gauge)
    };
    let last_success = gauge(
        "dbbackup_backup_last_success_timestamp_seconds",
        "When a backup of the schedule last succeeded.",
    )?;
    let next = gauge(
        "dbbackup_schedule_next_timestamp_seconds",
        "When the schedule's next backup starts.",
    )?;
    let ready = gauge("dbbackup_schedule_ready", "1 where the schedule is Ready.")?;
    let suspended = gauge("dbbackup_schedule_suspended", "1 where the schedule is suspended.")?;
    let active = gauge("dbbackup_backups_active", "Backups of the schedule that have not ended.")?;
    let queued = gauge(
        "dbbackup_backups_queued",
        "Of those, backups that wait for their turn: so many run at once.",
    )?;
    let succeeded = gauge(
        "dbbackup_backup_last_succeeded",
        "1 where the newest backup that ended has succeeded, 0 where it has not.",
    )?;
    let seconds =
        gauge("dbbackup_backup_last_duration_seconds", "Seconds of the newest backup that ended.")?;
    let read =
        gauge("dbbackup_backup_last_read_bytes", "Bytes that the newest backup that ended read.")?;
    let stored = gauge(
        "dbbackup_backup_last_stored_bytes",
        "Bytes that the newest backup that ended stored.",
    )?;
    let failure = GaugeVec::new(
        Opts::new(
            "dbbackup_backup_last_failure",
            "1 where the newest backup that ended has failed, with its reason.",
        ),
        &["namespace", "schedule", "reason"],
    )?;
    registry.register(Box::new(failure.clone()))?;
    let copies = |name: &str, help: &str| {
        let gauge = GaugeVec::new(Opts::new(name, help), &["namespace", "schedule", "copy"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok::<_, prometheus::Error>(gauge)
    };
    let copied = copies(
        "dbbackup_copy_last_success_timestamp_seconds",
        "When a backup of the schedule was last copied to this place.",
    )?;
    let missing = copies(
        "dbbackup_copy_missing_backups",
        "Backups of the schedule that are not copied to this place yet.",
    )?;
    for store in stores {
        let newest = newest_ended(&store.backups);
        let waiting = queued_backups(&store.backups);
        for schedule in store.schedules.state() {
            let Ok(schedule) = &schedule.0 else { continue };
            let (namespace, name) = (schedule.namespace().unwrap_or_default(), schedule.name_any());
            let labels = [namespace.as_str(), name.as_str()];
            let status = schedule.status.clone().unwrap_or_default();
            if let Some(time) = status.last_successful_time {
                last_success.with_label_values(&labels).set(time.as_duration().as_secs_f64());
            }
            if let Some(time) = status.next_schedule_time {
                next.with_label_values(&labels).set(time.as_duration().as_secs_f64());
            }
            let is_ready = holds(&status.conditions, reasons::READY, schedule.metadata.generation);
            ready.with_label_values(&labels).set(flag(is_ready));
            suspended.with_label_values(&labels).set(flag(schedule.spec.suspend));
            active
                .with_label_values(&labels)
                .set(float(u64::try_from(status.active.len()).unwrap_or(0)));
            let waiting = waiting.get(&(namespace.clone(), name.clone())).copied();
            queued.with_label_values(&labels).set(float(waiting.unwrap_or(0)));
            for copy in &status.copies {
                let labels = [labels[0], labels[1], copy.name.as_str()];
                if let Some(time) = copy.last_successful_time {
                    copied.with_label_values(&labels).set(seconds_of(time));
                }
                missing.with_label_values(&labels).set(float(u64::from(copy.missing)));
            }
            let Some(last) = newest.get(&(namespace.clone(), name.clone())) else { continue };
            succeeded.with_label_values(&labels).set(flag(last.succeeded));
            if let Some(reason) = &last.failure {
                failure.with_label_values(&[labels[0], labels[1], reason]).set(1.0);
            }
            seconds.with_label_values(&labels).set(last.seconds);
            read.with_label_values(&labels).set(float(last.read));
            stored.with_label_values(&labels).set(float(last.stored));
        }
    }
    Ok(registry)
}

struct Ended {
    time: jiff::Timestamp,
    succeeded: bool,
    /// The reason, where it has not succeeded.
    failure: Option<String>,
    seconds: f64,
    read: u64,
    stored: u64,
}

fn newest_ended(backups: &Store<Guarded<Backup>>) -> BTreeMap<(String, String), Ended> {
    let mut newest: BTreeMap<(String, String), Ended> = BTreeMap::new();
    for backup in backups.state() {
        let Ok(backup) = &backup.0 else { continue };
        let Some(status) = &backup.status else { continue };
        let schedule = status.resolved.as_ref().and_then(|resolved| resolved.schedule.clone());
        let (Some(schedule), Some(time), Some(phase)) =
            (schedule, status.completion_time, status.phase)
        else {
            continue;
        };
        let key = (backup.namespace().unwrap_or_default(), schedule);
        if newest.get(&key).is_some_and(|known| known.time >= time) {
            continue;
        }
        let bytes = status.bytes.clone().unwrap_or_default();
        use dbbackup_crds::BackupPhase::{Expired, Succeeded};
        let succeeded = matches!(phase, Succeeded | Expired);
        let error = status.error.as_ref().filter(|_| !succeeded);
        let ended = Ended {
            time,
            succeeded,
            failure: error.map(|error| error.reason.as_str().to_owned()),
            seconds: status
                .start_time
                .map_or(0.0, |start| time.duration_since(start).as_secs_f64()),
            read: bytes.read,
            stored: bytes.stored,
        };
        newest.insert(key, ended);
    }
    newest
}

/// How many backups of each schedule wait for their turn, by namespace and name.
fn queued_backups(backups: &Store<Guarded<Backup>>) -> BTreeMap<(String, String), u64> {
    let mut queued = BTreeMap::new();
    for backup in backups.state() {
        let Ok(backup) = &backup.0 else { continue };
        let Some(status) = &backup.status else { continue };
        let waits = status.error.as_ref().is_some_and(|error| error.reason == Reason::Queued);
        if waits && let Some(schedule) = &backup.spec.schedule_ref {
            let key = (backup.namespace().unwrap_or_default(), schedule.name.clone());
            *queued.entry(key).or_default() += 1;
        }
    }
    queued
}

#[cfg(test)]
mod tests {
    use dbbackup_contract::Failure;
    use dbbackup_crds::{BackupPhase, BackupStatus};
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    use super::*;

    fn backup(
        name: &str,
        ended: &str,
        phase: BackupPhase,
        reason: Option<Reason>,
    ) -> Guarded<Backup> {
        let mut backup = crate::reconcile::fixtures::backup();
        backup.metadata.name = Some(name.into());
        backup.status = Some(BackupStatus {
            phase: Some(phase),
            completion_time: Some(ended.parse().unwrap()),
            resolved: Some(crate::reconcile::fixtures::resolved_backup()),
            error: reason.map(|reason| Failure::new(reason, "x")),
            ..BackupStatus::default()
        });
        kube::core::DeserializeGuard(Ok(backup))
    }

    #[test]
    fn the_newest_backup_that_ended_tells_its_reason_until_one_succeeds() {
        let metrics = Metrics::new().unwrap();
        let (backups, mut write_backup) = reflector::store::<Guarded<Backup>>();
        let (schedules, mut write_schedule) = reflector::store::<Guarded<BackupSchedule>>();
        let (repositories, mut write_repository) = reflector::store::<Guarded<BackupRepository>>();
        metrics.watch(Stores { repositories, schedules, backups });
        let mut repository = crate::reconcile::fixtures::repository();
        let status = repository.status.get_or_insert_default();
        status.snapshot_count = Some(412);
        status.conditions = serde_json::from_value(json!([{
            "type": "Intact", "status": "False", "reason": "SnapshotsMissing", "message": "x",
            "lastTransitionTime": "2026-11-20T05:00:00Z",
        }]))
        .unwrap();
        let told = kube::core::DeserializeGuard(Ok(repository));
        write_repository.apply_watcher_event(&watcher::Event::Apply(told));
        let schedule = serde_json::from_value(json!({
            "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "shop-nightly", "namespace": "shop"},
            "spec": {"repositoryRef": {"name": "main"}, "source": {}, "schedule": "@daily"},
            "status": {"copies": [{"name": "far", "missing": 2}]},
        }))
        .unwrap();
        write_schedule.apply_watcher_event(&watcher::Event::Apply(kube::core::DeserializeGuard(
            Ok(schedule),
        )));
        let mut shown = |backup| {
            write_backup.apply_watcher_event(&watcher::Event::Apply(backup));
            String::from_utf8(metrics.render().unwrap()).unwrap()
        };
        let line = "dbbackup_backup_last_failure{namespace=\"shop\",reason=\"WrongPassword\",schedule=\"shop-nightly\"} 1";
        let (early, late) = ("2026-11-20T01:00:00Z", "2026-11-21T01:00:00Z");
        let failed = backup("a", early, BackupPhase::Failed, Some(Reason::WrongPassword));
        let text = shown(failed);
        let counted = "dbbackup_repository_snapshots{namespace=\"shop\",repository=\"main\"} 412";
        assert!(text.contains(counted), "{text}");
        let damaged = "dbbackup_repository_intact{namespace=\"shop\",repository=\"main\"} 0";
        assert!(text.contains(damaged), "{text}");
        let behind = "dbbackup_copy_missing_backups{copy=\"far\",namespace=\"shop\",schedule=\"shop-nightly\"} 2";
        assert!(text.contains(behind), "{text}");
        assert!(text.contains(line), "{text}");
        let text = shown(backup("b", late, BackupPhase::Succeeded, None));
        assert!(!text.contains("dbbackup_backup_last_failure{"), "{text}");
    }

    /// What alerts and the dashboard ask for is there to be asked for.
    #[test]
    fn alerts_and_dashboard_name_metrics_that_there_are() {
        let code = include_str!("metrics.rs").split("#[cfg(test)]").next().unwrap();
        for file in [
            include_str!("../../charts/dbbackup/files/monitoring/alerts.yaml"),
            include_str!("../../charts/dbbackup/files/monitoring/dashboard.json"),
        ] {
            let names: Vec<_> = file
                .split(|c: char| !c.is_ascii_lowercase() && c != '_')
                .filter(|word| word.starts_with("dbbackup_"))
                .collect();
            assert!(names.len() > 5, "{}", names.len());
            for name in names {
                let name = name.strip_suffix("_bucket").unwrap_or(name);
                assert!(code.contains(&format!("\"{name}\"")), "there is no {name}");
            }
        }
    }

    /// Every name in this file stands in the page that people read.
    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/monitoring.md");
        let code = include_str!("metrics.rs").split("#[cfg(test)]").next().unwrap();
        let names: Vec<_> = code.split("\"dbbackup_").skip(1).collect();
        assert!(names.len() > 20, "{}", names.len());
        for name in names {
            let name = format!("`dbbackup_{}`", name.split('"').next().unwrap());
            assert!(page.contains(&name), "docs/monitoring.md lacks {name}");
        }
    }
}
