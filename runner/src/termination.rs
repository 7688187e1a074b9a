//! The summary in the pod's status: what is left when the report channel was
//! out of reach. Kubernetes keeps what a container wrote to this file.

use std::path::Path;

use dbbackup_contract::{
    DatabaseReport, DrillOutcome, DrillReport, Failure, HookOutcome, HookReport, HookStage,
    ImportReport, MAX_TERMINATION_BYTES, MaintainReport, RecoverReport, Report, RestorePlan,
};

/// The report as JSON of at most [`MAX_TERMINATION_BYTES`]: lists are cut from
/// their end, then hints and messages are shortened. The outcome always stays.
pub(crate) fn summary(report: &Report) -> String {
    let mut short = report.clone();
    for (databases, text) in [(100, 2048), (8, 512), (2, 256), (0, 256), (0, 64), (0, 0)] {
        shorten(&mut short, databases, text);
        if let Ok(json) = serde_json::to_string(&short)
            && json.len() <= MAX_TERMINATION_BYTES
        {
            return json;
        }
    }
    String::new()
}

/// Writes the summary. That it cannot be written (outside of Kubernetes) is no
/// failure of the run: the repository and the report channel have it.
pub(crate) fn write_summary(report: &Report, path: &Path) {
    if let Err(error) = std::fs::write(path, summary(report)) {
        tracing::debug!(%error, path = %path.display(), "no termination message written");
    }
}

fn shorten(report: &mut Report, databases: usize, text: usize) {
    let mut globals = None;
    let (list, error): (Option<&mut Vec<DatabaseReport>>, _) = match report {
        Report::Init(report) => (None, report.error.as_mut()),
        Report::Find(report) => (None, report.error.as_mut()),
        Report::Backup(report) => {
            shorten_hooks(&mut report.hooks, databases, text);
            (Some(&mut report.databases), report.error.as_mut())
        }
        Report::Restore(report) => {
            globals = report.globals.as_mut();
            report.plan.iter_mut().for_each(|plan| shorten_plan(plan, databases, text));
            (Some(&mut report.databases), report.error.as_mut())
        }
        Report::Inspect(report) => {
            report.backup.iter_mut().for_each(|it| shorten_hooks(&mut it.hooks, databases, text));
            (report.backup.as_mut().map(|backup| &mut backup.databases), report.error.as_mut())
        }
        Report::Copy(report) => (None, report.error.as_mut()),
        Report::Preflight(report) => {
            shorten_hooks(&mut report.hooks, databases, text);
            (Some(&mut report.databases), report.error.as_mut())
        }
        Report::Notify(report) => (None, report.error.as_mut()),
        Report::Maintain(report) => {
            shorten_maintenance(report, databases, text);
            (None, report.error.as_mut())
        }
        Report::Import(report) => {
            shorten_import(report, databases);
            (None, report.error.as_mut())
        }
        Report::Archive(report) => (None, report.error.as_mut()),
        Report::Retire(report) => (None, report.error.as_mut()),
        Report::Recover(report) => {
            shorten_recovery(report, databases, text);
            (None, report.error.as_mut())
        }
        Report::Drill(report) => {
            shorten_drill(report, databases, text);
            (None, report.error.as_mut())
        }
    };
    for warning in globals.into_iter().flat_map(|globals| &mut globals.warnings) {
        warning.truncate(warning.floor_char_boundary(text));
    }
    let mut failures: Vec<_> = error.into_iter().collect();
    if let Some(list) = list {
        list.truncate(databases);
        for warning in list.iter_mut().flat_map(|database| &mut database.warnings) {
            warning.truncate(warning.floor_char_boundary(text));
        }
        failures.extend(list.iter_mut().filter_map(|database| database.error.as_mut()));
    }
    failures.into_iter().for_each(|failure| shorten_failure(failure, text));
}

fn shorten_failure(failure: &mut Failure, text: usize) {
    for field in [&mut failure.message, &mut failure.hint] {
        field.truncate(field.floor_char_boundary(text));
    }
}

/// Those that went well go first. One of those after the backup stays: where there is none,
/// nobody knows of them.
fn shorten_hooks(hooks: &mut Vec<HookReport>, most: usize, text: usize) {
    if hooks.len() > most {
        let after = hooks.iter().rfind(|hook| hook.stage == HookStage::After).cloned();
        hooks.retain(|hook| hook.outcome == HookOutcome::Failed);
        hooks.truncate(most);
        let none_is_left = hooks.iter().all(|hook| hook.stage != HookStage::After);
        hooks.extend(after.filter(|_| none_is_left));
    }
    let errors = hooks.iter_mut().filter_map(|hook| hook.error.as_mut());
    errors.for_each(|failure| shorten_failure(failure, text));
}

/// The digest stays: it is of the whole plan.
fn shorten_plan(plan: &mut RestorePlan, databases: usize, text: usize) {
    plan.databases.truncate(databases);
    plan.created_roles.truncate(databases);
    let errors = plan.databases.iter_mut().filter_map(|database| database.error.as_mut());
    errors.for_each(|failure| shorten_failure(failure, text));
}

/// What is left out is found again by the next run.
fn shorten_import(report: &mut ImportReport, databases: usize) {
    let room = report.found.len().min(databases).min(2);
    report.more += (report.found.len() - room) as u64;
    report.found.truncate(room);
    for found in &mut report.found {
        found.report.databases.truncate(databases);
    }
}

/// Base, point and where it ended stay: whoever reads it needs no more to use the volume.
fn shorten_recovery(report: &mut RecoverReport, items: usize, text: usize) {
    if let Some(window) = &mut report.recovery_window {
        window.gaps.truncate(items / 4);
    }
    report.warnings.truncate(items / 2);
    for warning in &mut report.warnings {
        warning.truncate(warning.floor_char_boundary(text));
    }
}

/// What does not hold stays the longest.
fn shorten_drill(report: &mut DrillReport, items: usize, text: usize) {
    shorten_recovery(&mut report.recovery, items, text);
    if report.assertions.len() > items {
        report.assertions.sort_by_key(|it| it.outcome == DrillOutcome::Passed);
        report.assertions.truncate(items);
    }
    for message in report.assertions.iter_mut().filter_map(|it| it.message.as_mut()) {
        message.truncate(message.floor_char_boundary(text));
    }
}

/// What was let go stands in the next report again.
fn shorten_maintenance(report: &mut MaintainReport, names: usize, text: usize) {
    for list in [&mut report.let_go, &mut report.pinned, &mut report.unpinned, &mut report.missing]
    {
        list.truncate(names / 4);
    }
    if let Some(check) = &mut report.check {
        check.damaged.truncate(names / 4);
        if let Some(problem) = &mut check.first_problem {
            problem.truncate(problem.floor_char_boundary(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbbackup_contract::{
        BackupReport, ByteCounts, DatabaseCount, DatabaseOutcome, Failure, LogGap, Outcome,
        ReachedPoint, Reason, RecoveryBase, RecoveryWindow,
    };
    use jiff::Timestamp;

    #[test]
    fn a_large_report_is_cut_to_fit_and_keeps_its_outcome() {
        let failure = Failure::new(Reason::PermissionDenied, "é\"\n".repeat(500));
        let databases: Vec<_> = (0..100)
            .map(|n| DatabaseReport {
                warnings: vec!["w".repeat(256); 8],
                error: Some(failure.clone()),
                ..DatabaseReport::new(format!("database number {n}"), DatabaseOutcome::Failed)
            })
            .collect();
        let report = Report::Backup(BackupReport {
            outcome: Outcome::Failed,
            snapshot_id: Some("s".repeat(60)),
            repository_id: Some("r".repeat(16)),
            start_time: Timestamp::UNIX_EPOCH,
            consistent_time: None,
            completion_time: Timestamp::UNIX_EPOCH,
            attempt: 0,
            method: None,
            server: None,
            position: None,
            log_start: None,
            bytes: ByteCounts::default(),
            database_count: DatabaseCount::of(&databases),
            databases,
            verification: None,
            hooks: vec![
                HookReport {
                    error: Some(failure.clone()),
                    ..HookReport::of("h".repeat(63), HookStage::After, HookOutcome::Failed)
                };
                40
            ],
            error: Some(failure),
        });
        let json = summary(&report);
        assert!(json.len() <= MAX_TERMINATION_BYTES);
        let Report::Backup(read) = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
        assert_eq!(read.outcome, Outcome::Failed);
        assert_eq!(read.database_count.failed, 100);
        assert_eq!(read.error.unwrap().reason, Reason::PermissionDenied);
        assert_eq!(read.hooks.len(), 1, "one of those after says that they are known");
    }

    #[test]
    fn of_a_recovery_base_and_points_stay() {
        let gap = LogGap {
            start: "0/3000000".into(),
            end: "0/4000000".into(),
            timeline: 1,
            after: Some(Timestamp::UNIX_EPOCH),
            time: Timestamp::UNIX_EPOCH,
        };
        let mut report = RecoverReport::begun(Timestamp::UNIX_EPOCH);
        report.outcome = Outcome::Succeeded;
        report.base = Some(RecoveryBase { snapshot_id: "s".repeat(128), time: None });
        let lsn = "FFFFFFFF/FFFFFFFF".to_owned();
        let reached = ReachedPoint { lsn, timeline: 2, last_transaction_time: None };
        report.reached = Some(reached.clone());
        report.recovery_window = Some(RecoveryWindow {
            gaps: vec![gap; 10],
            gap_count: 99,
            ..RecoveryWindow::default()
        });
        for _ in 0..8 {
            report.warn("w".repeat(256));
        }
        report.error = Some(Failure::new(Reason::RecoveryFailed, "é\"\n".repeat(500)));
        let json = summary(&Report::Recover(Box::new(report)));
        assert!(json.len() <= MAX_TERMINATION_BYTES);
        let Report::Recover(read) = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
        assert_eq!((read.outcome, read.reached), (Outcome::Succeeded, Some(reached)));
        assert_eq!(read.base.unwrap().snapshot_id.len(), 128);
        assert_eq!(read.recovery_window.unwrap().gap_count, 99);
    }

    #[test]
    fn of_an_import_what_is_left_out_is_counted() {
        let database = DatabaseReport::new("shop", DatabaseOutcome::Succeeded);
        let report = BackupReport {
            databases: vec![database; 10],
            ..serde_json::from_value(serde_json::json!({
                "outcome": "Succeeded",
                "startTime": Timestamp::UNIX_EPOCH,
                "completionTime": Timestamp::UNIX_EPOCH,
            }))
            .unwrap()
        };
        let found = dbbackup_contract::FoundSnapshot {
            id: "s".repeat(53),
            series: "3f6c/shop/nightly".into(),
            run_id: "r".into(),
            slot_time: Timestamp::UNIX_EPOCH,
            pinned: false,
            report,
        };
        let report = Report::Import(Box::new(ImportReport::of(vec![found; 100], 7, 0)));
        let json = summary(&report);
        assert!(json.len() <= MAX_TERMINATION_BYTES);
        let Report::Import(read) = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
        assert_eq!((read.found.len(), read.more), (2, 105));
        assert!(!read.found[0].report.databases.is_empty());
    }
}
