//! Metrics of schedules and repositories, computed when they are asked for.

use std::collections::BTreeMap;

use dbbackup_contract::{Outcome, Reason};
use dbbackup_crds::{Backup, CheckOutcome};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus::{GaugeVec, Opts, Registry};

use super::Stores;
use crate::conditions::holds;
use crate::context::Guarded;
use crate::reasons;

/// How each repository stands: there are few, one or two in a namespace.
pub(super) fn repository_metrics(stores: &[Stores]) -> Result<Registry, prometheus::Error> {
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

pub(super) fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

pub(super) fn seconds_of(time: jiff::Timestamp) -> f64 {
    float(u64::try_from(time.as_second()).unwrap_or(0))
}

/// How each schedule stands, from what the watches hold now.
pub(super) fn schedule_metrics(stores: &[Stores]) -> Result<Registry, prometheus::Error> {
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
