//! A report comes from a server's answers: what is too long for the status would be refused for ever.

use dbbackup_contract::{
    BackupReport, DatabaseReport, DrillDurations, DrillReport, Failure, HookReport, ImportReport,
    LeftOut, LogStatus, MAX_ASSERTION_MESSAGE, MAX_DRILL_ASSERTIONS, MAX_FOUND_SNAPSHOTS,
    MAX_LEFT_OUT, MAX_LEFT_OUT_BYTES, MAX_LISTED_GAPS, MAX_NAMED_OWNERS, MAX_NAMED_SNAPSHOTS,
    MAX_REPORTED_DATABASES, MAX_WARNING_BYTES, MAX_WARNINGS, MaintainReport, RecoverReport, Report,
    RestorePlan, ServerReport,
};

use crate::names::slot_of_snapshot;

/// The report with all texts cut to the lengths that the CRDs allow.
pub(super) fn fitted(mut report: Report) -> Report {
    match &mut report {
        Report::Init(report) => fit_failure(&mut report.error),
        Report::Backup(report) => fit_backup(report),
        Report::Find(report) => fit_failure(&mut report.error),
        Report::Restore(report) => {
            fit_server(&mut report.server);
            if let Some(globals) = &mut report.globals {
                fit_warnings(&mut globals.warnings);
            }
            fit_databases(&mut report.databases);
            report.plan.iter_mut().for_each(fit_plan);
            fit_failure(&mut report.error);
        }
        Report::Inspect(report) => {
            if let Some(backup) = &mut report.backup {
                fit_backup(backup);
            }
            fit_failure(&mut report.error);
        }
        Report::Maintain(report) => fit_maintenance(report),
        Report::Copy(report) => {
            if let Some(id) = &mut report.snapshot_id {
                cut(id, 128);
            }
            fit_failure(&mut report.error);
        }
        Report::Import(report) => fit_import(report),
        Report::Notify(report) => fit_failure(&mut report.error),
        Report::Archive(report) => fit_failure(&mut report.error),
        Report::Retire(report) => fit_failure(&mut report.error),
        Report::Recover(report) => fit_recovery(report),
        Report::Drill(report) => fit_drill(report),
        Report::Preflight(report) => {
            fit_server(&mut report.server);
            fit_databases(&mut report.databases);
            fit_hooks(&mut report.hooks);
            fit_failure(&mut report.error);
        }
    }
    report
}

fn fit_import(report: &mut ImportReport) {
    report.found.truncate(MAX_FOUND_SNAPSHOTS);
    let found = std::mem::take(&mut report.found).into_iter();
    let found = found.filter(|found| slot_of_snapshot(&found.id).is_some());
    report.found = found.map(|found| found.bounded(MAX_REPORTED_DATABASES)).collect();
    for count in [&mut report.more, &mut report.unreadable] {
        *count = (*count).min(i64::MAX.unsigned_abs());
    }
    fit_failure(&mut report.error);
}

fn fit_maintenance(report: &mut MaintainReport) {
    if let Some(check) = &mut report.check {
        check.damaged.truncate(MAX_NAMED_SNAPSHOTS);
        for damaged in &mut check.damaged {
            cut(&mut damaged.id, 128);
            damaged.databases.truncate(MAX_NAMED_OWNERS);
            damaged.databases.iter_mut().for_each(|name| cut(name, 256));
        }
    }
    if let Some(plan) = &mut report.waiting_plan {
        cut(plan, 128);
    }
    fit_failure(&mut report.error);
}

fn fit_backup(report: &mut BackupReport) {
    if let Some(method) = &mut report.method {
        cut(&mut method.reason, 512);
    }
    fit_server(&mut report.server);
    for position in report.position.iter_mut().chain(&mut report.log_start) {
        cut(&mut position.lsn, 32);
    }
    fit_databases(&mut report.databases);
    fit_hooks(&mut report.hooks);
    fit_failure(&mut report.error);
}

fn fit_recovery(report: &mut RecoverReport) {
    for id in report.base.iter_mut().map(|base| &mut base.snapshot_id) {
        cut(id, 128);
    }
    if let Some(point) = &mut report.resolved_target {
        fit_position(&mut point.lsn, &mut point.timeline);
    }
    if let Some(point) = &mut report.reached {
        fit_position(&mut point.lsn, &mut point.timeline);
    }
    if let Some(window) = &mut report.recovery_window {
        window.gap_count = window.gap_count.min(i32::MAX.unsigned_abs());
        window.gaps.truncate(MAX_LISTED_GAPS);
        for gap in &mut window.gaps {
            cut(&mut gap.end, 32);
            fit_position(&mut gap.start, &mut gap.timeline);
        }
    }
    let times = &mut report.durations;
    for count in [
        &mut report.needed_bytes,
        &mut report.restored_bytes,
        &mut times.planning_milliseconds,
        &mut times.restoring_milliseconds,
        &mut times.recovering_milliseconds,
    ] {
        *count = (*count).min(i64::MAX.unsigned_abs());
    }
    fit_server(&mut report.server);
    fit_warnings(&mut report.warnings);
    fit_failure(&mut report.error);
}

fn fit_drill(report: &mut DrillReport) {
    fit_recovery(&mut report.recovery);
    let DrillDurations {
        planning_milliseconds,
        restoring_milliseconds,
        recovering_milliseconds,
        starting_milliseconds,
        asserting_milliseconds,
    } = &mut report.durations;
    let mut counts = vec![
        planning_milliseconds,
        restoring_milliseconds,
        recovering_milliseconds,
        starting_milliseconds,
        asserting_milliseconds,
    ];
    counts.extend(&mut report.recovery_milliseconds);
    counts.extend(&mut report.recovery_point_milliseconds);
    report.assertions.truncate(MAX_DRILL_ASSERTIONS);
    for assertion in &mut report.assertions {
        cut(&mut assertion.name, 63);
        assertion.message.iter_mut().for_each(|text| cut(text, MAX_ASSERTION_MESSAGE));
        counts.push(&mut assertion.duration_milliseconds);
    }
    for count in counts {
        *count = (*count).min(i64::MAX.unsigned_abs());
    }
    report.databases = report.databases.min(i32::MAX.unsigned_abs());
    fit_failure(&mut report.error);
}

fn fit_position(lsn: &mut String, timeline: &mut u32) {
    cut(lsn, 32);
    *timeline = (*timeline).min(i32::MAX.unsigned_abs());
}

/// What an archiver says, cut to the lengths that the CRD allows.
pub(crate) fn fitted_log(mut log: LogStatus) -> LogStatus {
    for (text, limit) in [(&mut log.server, 64), (&mut log.slot, 64), (&mut log.position, 32)] {
        text.iter_mut().for_each(|text| cut(text, limit));
    }
    log.behind_bytes = log.behind_bytes.min(i64::MAX.unsigned_abs());
    for number in log.timeline.iter_mut().chain([&mut log.gap_count]) {
        *number = (*number).min(i32::MAX.unsigned_abs());
    }
    // The newest are told.
    log.gaps.sort_by_key(|gap| gap.time);
    let older = log.gaps.len().saturating_sub(MAX_LISTED_GAPS);
    log.gaps.drain(..older);
    for gap in &mut log.gaps {
        cut(&mut gap.start, 32);
        cut(&mut gap.end, 32);
        gap.timeline = gap.timeline.min(i32::MAX.unsigned_abs());
    }
    fit_failure(&mut log.error);
    log
}

/// Most hooks of a backup: those before and those after.
const MAX_HOOKS: usize = 40;

fn fit_hooks(hooks: &mut Vec<HookReport>) {
    hooks.truncate(MAX_HOOKS);
    for hook in hooks {
        cut(&mut hook.name, 63);
        hook.duration_milliseconds = hook.duration_milliseconds.min(i64::MAX.unsigned_abs());
        fit_failure(&mut hook.error);
    }
}

fn fit_server(server: &mut Option<ServerReport>) {
    if let Some(server) = server {
        cut(&mut server.version, 64);
        cut(&mut server.identity, 64);
    }
}

fn fit_databases(databases: &mut Vec<DatabaseReport>) {
    databases.truncate(MAX_REPORTED_DATABASES);
    for database in databases {
        cut(&mut database.name, 256);
        for name in database.as_name.iter_mut().chain(&mut database.kept_as) {
            cut(name, 256);
        }
        // Half of a statement is worse than none.
        database.undo.take_if(|undo| undo.chars().count() > 1024);
        fit_warnings(&mut database.warnings);
        fit_left_out(&mut database.left_out);
        fit_failure(&mut database.error);
    }
}

fn fit_plan(plan: &mut RestorePlan) {
    cut(&mut plan.digest, 71);
    plan.created_roles.truncate(MAX_REPORTED_DATABASES);
    plan.created_roles.iter_mut().for_each(|name| cut(name, 256));
    plan.total = plan.total.min(i32::MAX.unsigned_abs());
    plan.databases.truncate(MAX_REPORTED_DATABASES);
    for database in &mut plan.databases {
        if let Some(replaced) = &mut database.replaces {
            replaced.sessions = replaced.sessions.min(i32::MAX.unsigned_abs());
        }
        let kept = database.replaces.iter_mut().filter_map(|replaced| replaced.kept_as.as_mut());
        let names = std::iter::once(&mut database.name).chain(&mut database.as_name).chain(kept);
        names.for_each(|name| cut(name, 256));
        fit_warnings(&mut database.warnings);
        fit_left_out(&mut database.left_out);
        fit_failure(&mut database.error);
    }
}

fn fit_warnings(warnings: &mut Vec<String>) {
    warnings.truncate(MAX_WARNINGS);
    for warning in warnings {
        cut(warning, MAX_WARNING_BYTES);
    }
}

fn fit_left_out(left_out: &mut Option<LeftOut>) {
    if let Some(left_out) = left_out {
        left_out.total = left_out.total.min(i32::MAX.unsigned_abs());
        left_out.first.truncate(MAX_LEFT_OUT);
        left_out.first.iter_mut().for_each(|name| cut(name, MAX_LEFT_OUT_BYTES));
    }
}

fn fit_failure(failure: &mut Option<Failure>) {
    if let Some(failure) = failure {
        cut(&mut failure.message, 4096);
        cut(&mut failure.hint, 4096);
    }
}

/// A schema counts characters.
fn cut(text: &mut String, limit: usize) {
    if text.chars().count() > limit {
        *text = text.chars().take(limit - 1).chain(['…']).collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn overlong_texts_are_cut_to_what_the_schema_takes() {
        let long = "é".repeat(5000);
        let failure =
            json!({"class": "Fatal", "reason": "Internal", "message": &long, "hint": &long});
        let database = json!({"name": &long, "as": &long, "keptAs": &long, "undo": &long, "outcome": "Failed", "error": failure,
            "warnings": vec![&long; 20]});
        let time = "2026-11-20T01:00:00Z";
        let backup: BackupReport = serde_json::from_value(json!({
            "outcome": "Failed", "startTime": time, "completionTime": time, "error": failure,
            "method": {"used": "Logical", "reason": &long},
            "server": {"version": &long, "identity": &long, "sizeBytes": 1},
            "position": {"lsn": &long, "timeline": 1},
            "databases": vec![database; 101],
        }))
        .unwrap();
        let Report::Backup(fit) = fitted(Report::Backup(backup)) else { panic!() };
        let (server, position) = (fit.server.unwrap(), fit.position.unwrap());
        assert_eq!(fit.databases.len(), 100);
        let first = &fit.databases[0];
        for (text, limit) in [
            (&server.version, 64),
            (&server.identity, 64),
            (&position.lsn, 32),
            (&fit.method.unwrap().reason, 512),
            (&first.name, 256),
            (first.as_name.as_ref().unwrap(), 256),
            (first.kept_as.as_ref().unwrap(), 256),
            (&first.error.as_ref().unwrap().message, 4096),
            (&fit.error.as_ref().unwrap().hint, 4096),
        ] {
            assert_eq!(text.chars().count(), limit);
            assert!(text.ends_with('…'));
        }
        assert_eq!(first.undo, None);
        assert_eq!(first.warnings.len(), MAX_WARNINGS);
        assert_eq!(first.warnings[0].chars().count(), MAX_WARNING_BYTES);
        let restore = serde_json::from_value(json!({
            "outcome": "Succeeded", "startTime": time, "completionTime": time,
            "globals": {"created": 1, "kept": 0, "warnings": vec![&long; 20]},
        }));
        let Report::Restore(fit) = fitted(Report::Restore(restore.unwrap())) else { panic!() };
        let warnings = fit.globals.unwrap().warnings;
        assert_eq!(warnings.len(), MAX_WARNINGS);
        assert!(warnings.iter().all(|warning| warning.chars().count() == MAX_WARNING_BYTES));
        let found = |id: &str| {
            json!({"id": id, "series": &long, "runId": &long, "slotTime": time, "report": {
                "outcome": "Succeeded", "startTime": time, "completionTime": time,
                "bytes": {"read": u64::MAX},
            }})
        };
        let ids = ["a-20261120t010000z-b-0", "../a-20261120t010000z", "x"];
        let import = json!({"found": ids.map(found), "more": u64::MAX});
        let import = Report::Import(Box::new(serde_json::from_value(import).unwrap()));
        let Report::Import(fit) = fitted(import) else { panic!() };
        assert_eq!((fit.found.len(), &*fit.found[0].id), (1, ids[0]));
        assert_eq!((fit.found[0].series.len(), fit.more), (512, i64::MAX.unsigned_abs()));
        assert_eq!(fit.found[0].report.bytes.read, i64::MAX.unsigned_abs());
        let huge = u64::MAX;
        let point = json!({"lsn": &long, "timeline": u32::MAX});
        let gap = json!({"start": &long, "end": &long, "timeline": u32::MAX, "time": time});
        let recovery = json!({"recover": {
            "outcome": "Failed", "startTime": time, "completionTime": time, "error": failure,
            "base": {"snapshotId": &long}, "resolvedTarget": point, "reached": point,
            "recoveryWindow": {"gaps": vec![gap; 20], "gapCount": u32::MAX},
            "neededBytes": huge, "restoredBytes": huge, "warnings": vec![&long; 20],
            "durations": {"recoveringMilliseconds": huge},
        }});
        let recovery = serde_json::from_value(recovery).unwrap();
        let Report::Recover(fit) = fitted(recovery) else { panic!() };
        let (reached, window) = (fit.reached.unwrap(), fit.recovery_window.unwrap());
        assert_eq!((reached.lsn.chars().count(), reached.timeline), (32, i32::MAX.unsigned_abs()));
        assert_eq!((window.gaps.len(), window.gap_count), (10, i32::MAX.unsigned_abs()));
        assert_eq!(window.gaps[0].start.chars().count(), 32);
        assert_eq!(fit.base.unwrap().snapshot_id.chars().count(), 128);
        assert_eq!((fit.needed_bytes, fit.warnings.len()), (i64::MAX.unsigned_abs(), MAX_WARNINGS));
        assert_eq!(fit.durations.recovering_milliseconds, i64::MAX.unsigned_abs());
        let mut short = "17.11".to_owned();
        cut(&mut short, 64);
        assert_eq!(short, "17.11");
    }
}
