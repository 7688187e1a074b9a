//! Metrics of archived logs, computed when they are asked for.

use dbbackup_contract::Reason;
use kube::ResourceExt;
use prometheus::{GaugeVec, Opts, Registry};

use super::Stores;
use super::objects::{flag, float, seconds_of};
use crate::reasons::LOG_ARCHIVED_TYPE;
use crate::reconcile::schedule::log_lag;

/// How the log of each schedule's server is archived, where that is wanted.
pub(super) fn log_metrics(stores: &[Stores]) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str| {
        let gauge = GaugeVec::new(Opts::new(name, help), &["namespace", "schedule"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok::<_, prometheus::Error>(gauge)
    };
    let archived =
        gauge("dbbackup_log_archived", "1 where the log of the schedule's server is archived.")?;
    let bytes = gauge(
        "dbbackup_log_behind_bytes",
        "Bytes of the log that the server has written and that are not archived.",
    )?;
    let seconds = gauge(
        "dbbackup_log_behind_seconds",
        "How old what is not archived of the log is, as the archiver said last.",
    )?;
    let gaps = gauge("dbbackup_log_gaps", "How often the log is missing.")?;
    let earliest = gauge(
        "dbbackup_recovery_window_earliest_timestamp_seconds",
        "The earliest moment that the server can be recovered to.",
    )?;
    let latest = gauge(
        "dbbackup_recovery_window_latest_timestamp_seconds",
        "The latest moment that the server can be recovered to.",
    )?;
    for schedule in stores.iter().flat_map(|stores| stores.schedules.state()) {
        let Ok(schedule) = &schedule.0 else { continue };
        let Some(status) = &schedule.status else { continue };
        let found = status.conditions.iter().find(|found| found.type_ == LOG_ARCHIVED_TYPE);
        let Some(found) = found else { continue };
        let (namespace, name) = (schedule.namespace().unwrap_or_default(), schedule.name_any());
        let labels = [namespace.as_str(), name.as_str()];
        // A gap is of the past: what comes is archived.
        let is_archived = found.status == "True" || found.reason == Reason::LogMissing.as_str();
        archived.with_label_values(&labels).set(flag(is_archived));
        if let Some(log) = &status.log {
            bytes.with_label_values(&labels).set(float(log.behind_bytes));
            gaps.with_label_values(&labels).set(float(u64::from(log.gap_count)));
            if let Some(lag) = log_lag(log) {
                seconds.with_label_values(&labels).set(lag.as_secs_f64());
            }
        }
        let window = status.recovery_window.as_ref();
        if let Some(time) = window.and_then(|window| window.earliest) {
            earliest.with_label_values(&labels).set(seconds_of(time));
        }
        if let Some(time) = window.and_then(|window| window.latest) {
            latest.with_label_values(&labels).set(seconds_of(time));
        }
    }
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use dbbackup_crds::{Backup, BackupRepository, BackupSchedule};
    use kube::core::DeserializeGuard;
    use kube::runtime::{reflector, watcher};
    use serde_json::json;

    use super::*;
    use crate::context::Guarded;
    use crate::metrics::Metrics;

    #[test]
    fn a_log_has_metrics_where_it_is_archived_and_none_where_it_is_not() {
        let metrics = Metrics::new().unwrap();
        let (backups, _) = reflector::store::<Guarded<Backup>>();
        let (repositories, _) = reflector::store::<Guarded<BackupRepository>>();
        let (schedules, mut write) = reflector::store::<Guarded<BackupSchedule>>();
        metrics.watch(Stores { repositories, schedules, backups });
        let schedule = |name: &str, status: serde_json::Value| {
            let json = json!({
                "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"repositoryRef": {"name": "main"}, "source": {}, "schedule": "@daily"},
                "status": status,
            });
            DeserializeGuard(Ok(serde_json::from_value(json).unwrap()))
        };
        let condition = |status: &str, reason: &str| {
            json!([{"type": "LogArchived", "status": status, "reason": reason, "message": "x",
                "lastTransitionTime": "2026-11-20T05:00:00Z"}])
        };
        let log = json!({"state": "Streaming", "behindBytes": 4096, "gapCount": 2,
            "time": "2026-11-20T05:00:09Z", "keptTime": "2026-11-20T05:00:06.5Z"});
        let window = json!({"earliest": "1970-01-01T00:01:00Z", "latest": "1970-01-01T01:00:00Z"});
        for (name, status) in [
            ("plain", json!({})),
            (
                "fine",
                json!({"conditions": condition("True", "Streaming"), "log": log,
                "recoveryWindow": window}),
            ),
            ("gap", json!({"conditions": condition("False", "LogMissing")})),
            ("down", json!({"conditions": condition("False", "WrongPassword")})),
        ] {
            write.apply_watcher_event(&watcher::Event::Apply(schedule(name, status)));
        }
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for (name, schedule, value) in [
            ("dbbackup_log_archived", "fine", "1"),
            ("dbbackup_log_archived", "gap", "1"),
            ("dbbackup_log_archived", "down", "0"),
            ("dbbackup_log_behind_bytes", "fine", "4096"),
            ("dbbackup_log_behind_seconds", "fine", "2.5"),
            ("dbbackup_log_gaps", "fine", "2"),
            ("dbbackup_recovery_window_earliest_timestamp_seconds", "fine", "60"),
            ("dbbackup_recovery_window_latest_timestamp_seconds", "fine", "3600"),
        ] {
            let line = format!("{name}{{namespace=\"shop\",schedule=\"{schedule}\"}} {value}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(!text.contains("dbbackup_log_archived{namespace=\"shop\",schedule=\"plain\"}"));
    }
}
