//! A report comes from a server's answers: what is too long for the status would be refused for ever.

use dbbackup_contract::{
    BackupReport, DatabaseReport, Failure, MAX_REPORTED_DATABASES, Report, ServerReport,
};

/// The report with all texts cut to the lengths that the CRDs allow.
pub(super) fn fitted(mut report: Report) -> Report {
    match &mut report {
        Report::Init(report) => fit_failure(&mut report.error),
        Report::Backup(report) => fit_backup(report),
        Report::Restore(report) => {
            fit_server(&mut report.server);
            fit_databases(&mut report.databases);
            fit_failure(&mut report.error);
        }
        Report::Inspect(report) => {
            if let Some(backup) = &mut report.backup {
                fit_backup(backup);
            }
            fit_failure(&mut report.error);
        }
    }
    report
}

fn fit_backup(report: &mut BackupReport) {
    if let Some(method) = &mut report.method {
        cut(&mut method.reason, 512);
    }
    fit_server(&mut report.server);
    if let Some(position) = &mut report.position {
        cut(&mut position.lsn, 32);
    }
    fit_databases(&mut report.databases);
    fit_failure(&mut report.error);
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
        if let Some(name) = &mut database.as_name {
            cut(name, 256);
        }
        fit_failure(&mut database.error);
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
        let database = json!({"name": &long, "as": &long, "outcome": "Failed", "error": failure});
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
            (&first.error.as_ref().unwrap().message, 4096),
            (&fit.error.as_ref().unwrap().hint, 4096),
        ] {
            assert_eq!(text.chars().count(), limit);
            assert!(text.ends_with('…'));
        }
        let mut short = "17.11".to_owned();
        cut(&mut short, 64);
        assert_eq!(short, "17.11");
    }
}
