//! Metrics of the drills of schedules, computed when they are asked for.

use dbbackup_contract::DrillOutcome;
use kube::ResourceExt;
use prometheus::{GaugeVec, Opts, Registry};

use super::Stores;
use super::objects::{flag, float, seconds_of};

/// The gauges.
struct Drills {
    last: GaugeVec,
    passed: GaugeVec,
    success: GaugeVec,
    next: GaugeVec,
    recovery: GaugeVec,
    point: GaugeVec,
    phases: GaugeVec,
    failure: GaugeVec,
}

impl Drills {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let labels: Vec<_> = ["namespace", "schedule"].iter().chain(labels).copied().collect();
            let gauge = GaugeVec::new(Opts::new(name, help), &labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            last: gauge(
                "dbbackup_drill_last_timestamp_seconds",
                "When the last drill ended.",
                &[],
            )?,
            passed: gauge("dbbackup_drill_last_passed", "1 where the last drill has passed.", &[])?,
            success: gauge(
                "dbbackup_drill_last_success_timestamp_seconds",
                "When a drill last passed.",
                &[],
            )?,
            next: gauge(
                "dbbackup_drill_next_timestamp_seconds",
                "When the next drill begins.",
                &[],
            )?,
            recovery: gauge(
                "dbbackup_drill_last_recovery_seconds",
                "Seconds of the last drill until the recovered server took connections.",
                &[],
            )?,
            point: gauge(
                "dbbackup_drill_last_recovery_point_seconds",
                "How old the newest moment was that the last drill could recover.",
                &[],
            )?,
            phases: gauge(
                "dbbackup_drill_last_phase_seconds",
                "Seconds of the last drill, by phase.",
                &["phase"],
            )?,
            failure: gauge(
                "dbbackup_drill_last_failure",
                "1 where the last drill has failed, with its reason.",
                &["reason"],
            )?,
        })
    }
}

/// How the drills of each schedule stand. One that wants none any more has none.
pub(super) fn drill_metrics(stores: &[Stores]) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let gauges = Drills::register(&registry)?;
    for schedule in stores.iter().flat_map(|stores| stores.schedules.state()) {
        let Ok(schedule) = &schedule.0 else { continue };
        let wants = schedule.spec.verification.as_ref().is_some_and(|it| it.drill.is_some());
        let Some(status) = schedule.status.as_ref().filter(|_| wants) else { continue };
        let (namespace, name) = (schedule.namespace().unwrap_or_default(), schedule.name_any());
        let labels = [namespace.as_str(), name.as_str()];
        if let Some(time) = status.drill.as_ref().and_then(|drill| drill.last_passed_time) {
            gauges.success.with_label_values(&labels).set(seconds_of(time));
        }
        if let Some(time) = status.next_drill_time {
            gauges.next.with_label_values(&labels).set(seconds_of(time));
        }
        let Some(last) = &status.last_drill else { continue };
        gauges.last.with_label_values(&labels).set(seconds_of(last.time));
        let passed = last.outcome == DrillOutcome::Passed;
        gauges.passed.with_label_values(&labels).set(flag(passed));
        if let Some(error) = &last.error {
            let labels = [labels[0], labels[1], error.reason.as_str()];
            gauges.failure.with_label_values(&labels).set(1.0);
        }
        for (gauge, count) in [
            (&gauges.recovery, last.recovery_milliseconds),
            (&gauges.point, last.recovery_point_milliseconds),
        ] {
            if let Some(milliseconds) = count {
                gauge.with_label_values(&labels).set(float(milliseconds) / 1000.0);
            }
        }
        let times = &last.durations;
        for (phase, milliseconds) in [
            ("planning", times.planning_milliseconds),
            ("restoring", times.restoring_milliseconds),
            ("recovering", times.recovering_milliseconds),
            ("starting", times.starting_milliseconds),
            ("asserting", times.asserting_milliseconds),
        ] {
            let labels = [labels[0], labels[1], phase];
            gauges.phases.with_label_values(&labels).set(float(milliseconds) / 1000.0);
        }
    }
    Ok(registry)
}
