//! Metrics: what the reconcilers do, and how each schedule stands. Only
//! schedules are labels; what is per schedule is computed when it is asked for,
//! so that a deleted schedule leaves nothing behind.

mod api;
mod drill;
mod log;
mod objects;

use std::sync::Mutex;

use dbbackup_crds::{Backup, BackupRepository, BackupSchedule};
use kube::runtime::reflector::Store;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use self::drill::drill_metrics;
use self::log::log_metrics;
use self::objects::{repository_metrics, schedule_metrics};
use crate::context::Guarded;

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
    /// Requests to the API server, by method and resource.
    api_requests: IntCounterVec,
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
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let reconciliations =
            counter("dbbackup_reconciliations_total", "Reconciles by kind.", &["kind"])?;
        let reconcile_errors = counter(
            "dbbackup_reconcile_errors_total",
            "Reconciles that failed, by kind.",
            &["kind"],
        )?;
        let reports = counter(
            "dbbackup_reports_total",
            "Messages of runners, by what became of them.",
            &["result"],
        )?;
        let failures = counter(
            "dbbackup_failures_total",
            "Failures that were told, by kind and reason.",
            &["kind", "reason"],
        )?;
        let reconcile_seconds = HistogramVec::new(
            HistogramOpts::new("dbbackup_reconcile_duration_seconds", "Seconds of a reconcile."),
            &["kind"],
        )?;
        registry.register(Box::new(reconcile_seconds.clone()))?;
        let leader = IntGauge::new("dbbackup_leader", "1 where this replica leads.")?;
        registry.register(Box::new(leader.clone()))?;
        let api_requests = counter(
            "dbbackup_api_requests_total",
            "Requests to the API server, by method and resource; a watch is one.",
            &["method", "resource"],
        )?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            registry,
            reconciliations,
            reconcile_errors,
            reconcile_seconds,
            reports,
            failures,
            leader,
            api_requests,
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
        families.extend(drill_metrics(&stores)?.gather());
        families.extend(repository_metrics(&stores)?.gather());
        families.extend(log_metrics(&stores)?.gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use dbbackup_contract::{Failure, Reason};
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
            resolved: Some(Box::new(crate::reconcile::fixtures::resolved_backup())),
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

    /// What defines the metrics.
    fn code() -> String {
        let own = include_str!("mod.rs").split("#[cfg(test)]").next().unwrap();
        let log = include_str!("log.rs").split("#[cfg(test)]").next().unwrap();
        format!("{own}{log}{}{}", include_str!("drill.rs"), include_str!("objects.rs"))
    }

    /// What alerts and the dashboard ask for is there to be asked for.
    #[test]
    fn alerts_and_dashboard_name_metrics_that_there_are() {
        let code = code();
        for file in [
            include_str!("../../../charts/dbbackup/files/monitoring/alerts.yaml"),
            include_str!("../../../charts/dbbackup/files/monitoring/dashboard.json"),
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
        let page = include_str!("../../../docs/monitoring.md");
        let code = code();
        let names: Vec<_> = code.split("\"dbbackup_").skip(1).collect();
        assert!(names.len() > 20, "{}", names.len());
        for name in names {
            let name = format!("`dbbackup_{}`", name.split('"').next().unwrap());
            assert!(page.contains(&name), "docs/monitoring.md lacks {name}");
        }
    }
}
