//! Writes what a runner said into the status of its object.

use dbbackup_contract::{Message, Outcome, Report, ReportBody};
use dbbackup_crds::{
    Backup, BackupRepository, BackupSchedule, PitrRestore, RawReport, RestoreRequest,
};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::archiver;
use super::authorize::Caller;
use crate::cluster::is_not_found;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It stands in the status.
    Yes,
    /// The object has ended already, or keeps no progress: nothing to write.
    NotNeeded,
    /// The object is gone, or another one has its name.
    Gone,
}

/// Writes a message into the status of the caller's object.
///
/// # Errors
/// The API server refuses.
pub async fn store(
    client: &Client,
    caller: &Caller,
    message: &Message,
    now: Timestamp,
) -> Result<Stored, kube::Error> {
    match caller.kind.as_str() {
        "Backup" => put::<Backup>(client, caller, message, now).await,
        "RestoreRequest" => put::<RestoreRequest>(client, caller, message, now).await,
        "PitrRestore" => put::<PitrRestore>(client, caller, message, now).await,
        "BackupRepository" => put::<BackupRepository>(client, caller, message, now).await,
        "BackupSchedule" => put::<BackupSchedule>(client, caller, message, now).await,
        _ => Ok(Stored::Gone),
    }
}

async fn put<K>(
    client: &Client,
    caller: &Caller,
    message: &Message,
    now: Timestamp,
) -> Result<Stored, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &caller.namespace);
    let Some(object) = api.get_opt(&caller.name).await? else { return Ok(Stored::Gone) };
    if object.uid().as_deref() != Some(&caller.uid) {
        return Ok(Stored::Gone);
    }
    let status = serde_json::to_value(&object)
        .ok()
        .and_then(|mut object| object.get_mut("status").map(Value::take))
        .unwrap_or_default();
    let Some(operations) = operations(&caller.kind, &status, caller, message, now) else {
        return Ok(Stored::NotNeeded);
    };
    let Ok(patch) = serde_json::from_value(operations) else { return Ok(Stored::NotNeeded) };
    match api.patch_status(&caller.name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
        Ok(_) => Ok(Stored::Yes),
        Err(error) if is_not_found(&error) => Ok(Stored::Gone),
        Err(error) => Err(error),
    }
}

/// The patch of a message. A JSON patch, because a merge would leave parts of
/// an older report in a newer one. It holds only for the object that was asked for.
fn operations(
    kind: &str,
    status: &Value,
    caller: &Caller,
    message: &Message,
    now: Timestamp,
) -> Option<Value> {
    if archiver::is_its(&message.body) {
        let is_schedule = kind == "BackupSchedule";
        return is_schedule.then(|| archiver::operations(status, caller, &message.body, now))?;
    }
    if let ReportBody::Report(report) = &message.body {
        match report.as_ref() {
            Report::Copy(_) => return entry_operations("copies", status, caller, report, now),
            Report::Notify(_) => {
                return entry_operations("notifications", status, caller, report, now);
            }
            _ => {}
        }
    }
    let has_ended = matches!(
        status.get("phase").and_then(Value::as_str),
        Some(
            "Succeeded"
                | "PartiallyFailed"
                | "Failed"
                | "Expired"
                | "Missing"
                | "AlreadyCarriedOut"
        )
    );
    if has_ended {
        return None;
    }
    let (field, value) = match &message.body {
        ReportBody::Progress(_) if ["BackupRepository", "BackupSchedule"].contains(&kind) => {
            return None;
        }
        ReportBody::Log(_) => return None,
        ReportBody::Progress(progress) => ("progress", serde_json::to_value(progress).ok()?),
        ReportBody::Report(report) => {
            // The repository may be opened while it is maintained: each has its own place.
            let field = match report.as_ref() {
                Report::Maintain(_) => "maintenanceReport",
                Report::Import(_) if kind == "BackupRepository" => "importReport",
                Report::Preflight(_) => "preflightReport",
                Report::Drill(_) => "drillReport",
                _ => "report",
            };
            if is_done(status.get(field), &caller.job_name) {
                return None;
            }
            (field, raw(caller, report, now)?)
        }
    };
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": caller.uid})];
    if !status.is_object() {
        operations.push(json!({"op": "add", "path": "/status", "value": {}}));
    }
    operations.push(json!({"op": "add", "path": format!("/status/{field}"), "value": value}));
    Some(Value::Array(operations))
}

/// The report of a copy, or of what was told, goes into the entry of its Job: a backup has
/// ended by then, and several may be under way at once. The list may change meanwhile, which
/// the patch tests.
fn entry_operations(
    list: &str,
    status: &Value,
    caller: &Caller,
    report: &Report,
    now: Timestamp,
) -> Option<Value> {
    let entries = status.get(list)?.as_array()?;
    let is_its =
        |entry: &Value| entry.get("jobName") == Some(&Value::from(caller.job_name.as_str()));
    let index = entries.iter().position(is_its)?;
    let runs = entries[index].get("phase") == Some(&Value::from("Running"));
    if !runs || is_done(entries[index].get("report"), &caller.job_name) {
        return None;
    }
    let path = format!("/status/{list}/{index}");
    Some(json!([
        {"op": "test", "path": "/metadata/uid", "value": caller.uid},
        {"op": "test", "path": format!("{path}/jobName"), "value": caller.job_name},
        {"op": "add", "path": format!("{path}/report"), "value": raw(caller, report, now)?},
    ]))
}

pub(super) fn raw(caller: &Caller, report: &Report, now: Timestamp) -> Option<Value> {
    let raw = RawReport {
        job_name: caller.job_name.clone(),
        pod_name: caller.pod_name.clone(),
        pod_uid: caller.pod_uid.clone(),
        received_time: now,
        content: serde_json::to_value(report).ok()?,
    };
    serde_json::to_value(raw).ok()
}

/// Whether a report of this Job stands in the status that tells of something
/// done: what a later pod of the Job says does not undo it.
pub(super) fn is_done(stored: Option<&Value>, job_name: &str) -> bool {
    stored
        .and_then(|stored| serde_json::from_value::<RawReport>(stored.clone()).ok())
        .filter(|stored| stored.job_name == job_name)
        .and_then(|stored| serde_json::from_value::<Report>(stored.content).ok())
        .is_some_and(|report| report.outcome() != Outcome::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbbackup_contract::{InspectReport, Progress, RunState};

    fn caller() -> Caller {
        Caller {
            namespace: "shop".into(),
            pod_name: "p".into(),
            pod_uid: "pu".into(),
            job_name: "j".into(),
            kind: "Backup".into(),
            name: "b".into(),
            uid: "u".into(),
        }
    }

    fn progress() -> Message {
        Message { subject_uid: "u".into(), body: ReportBody::Progress(Progress::default()) }
    }

    #[test]
    fn nothing_is_written_into_an_object_that_has_ended() {
        for phase in ["Succeeded", "PartiallyFailed", "Failed"] {
            let status = json!({"phase": phase});
            let now = Timestamp::UNIX_EPOCH;
            assert_eq!(operations("Backup", &status, &caller(), &progress(), now), None);
        }
    }

    #[test]
    fn a_patch_holds_only_for_the_object_of_the_caller() {
        let status = json!({"phase": "Running"});
        let patch =
            operations("Backup", &status, &caller(), &progress(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/uid", "value": "u"}));
        assert_eq!(patch[1]["path"], "/status/progress");
    }

    #[test]
    fn a_repository_keeps_no_progress() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(operations("BackupRepository", &json!({}), &caller(), &progress(), now), None);
    }

    #[test]
    fn the_report_of_a_maintenance_has_a_place_of_its_own() {
        let now = Timestamp::UNIX_EPOCH;
        let report = dbbackup_contract::MaintainReport::begun(now);
        let body = ReportBody::Report(Box::new(Report::Maintain(Box::new(report))));
        let message = Message { subject_uid: "u".into(), body };
        let status = json!({"report": {"of": "the opening"}});
        let patch = operations("BackupRepository", &status, &caller(), &message, now).unwrap();
        assert_eq!(patch[1]["path"], "/status/maintenanceReport");
    }

    #[test]
    fn a_backup_keeps_the_report_of_its_lookup_where_its_own_would_be() {
        let now = Timestamp::UNIX_EPOCH;
        for (kind, path) in
            [("BackupRepository", "/status/importReport"), ("Backup", "/status/report")]
        {
            let report = Report::Import(Box::default());
            let body = ReportBody::Report(Box::new(report));
            let message = Message { subject_uid: "u".into(), body };
            let patch = operations(kind, &json!({}), &caller(), &message, now).unwrap();
            assert_eq!(patch[1]["path"], path);
        }
    }

    #[test]
    fn a_report_of_something_done_is_not_replaced_by_a_later_one_of_the_same_job() {
        let report = |state| Report::Inspect(InspectReport { state, backup: None, error: None });
        let (done, failed) = (report(Some(RunState::Committed)), report(None));
        for (stored, job, is_written) in
            [(&done, "j", false), (&done, "other", true), (&failed, "j", true)]
        {
            let raw = RawReport {
                job_name: job.into(),
                pod_name: "p".into(),
                pod_uid: "pu".into(),
                received_time: Timestamp::UNIX_EPOCH,
                content: serde_json::to_value(stored).unwrap(),
            };
            let status = json!({"phase": "Running", "report": raw});
            let body = ReportBody::Report(Box::new(failed.clone()));
            let message = Message { subject_uid: "u".into(), body };
            let patch = operations("Backup", &status, &caller(), &message, Timestamp::UNIX_EPOCH);
            assert_eq!(patch.is_some(), is_written, "{stored:?} {job}");
        }
    }

    #[test]
    fn what_comes_after_the_end_goes_to_the_entry_of_its_job() {
        let now = Timestamp::UNIX_EPOCH;
        let report = Report::Copy(dbbackup_contract::CopyReport::begun(now));
        let body = ReportBody::Report(Box::new(report));
        let message = Message { subject_uid: "u".into(), body };
        let status = |phase: &str| {
            json!({"phase": "Succeeded", "copies": [
                {"name": "near", "phase": "Succeeded", "jobName": "other"},
                {"name": "far", "phase": phase, "jobName": "j"},
            ]})
        };
        let patch = operations("Backup", &status("Running"), &caller(), &message, now).unwrap();
        assert_eq!(patch[1]["path"], "/status/copies/1/jobName");
        assert_eq!(patch[1]["value"], "j");
        assert_eq!(patch[2]["path"], "/status/copies/1/report");
        assert_eq!(patch[2]["value"]["jobName"], "j");
        assert_eq!(operations("Backup", &status("Failed"), &caller(), &message, now), None);
        let report = dbbackup_contract::NotifyReport {
            outcome: Outcome::Succeeded,
            completion_time: now,
            error: None,
        };
        let told = ReportBody::Report(Box::new(Report::Notify(report)));
        let told = Message { subject_uid: "u".into(), body: told };
        let status = json!({"phase": "Failed", "notifications": [
            {"name": "ops", "event": "Failed", "phase": "Running", "jobName": "j"},
        ]});
        let patch = operations("Backup", &status, &caller(), &told, now).unwrap();
        assert_eq!(patch[2]["path"], "/status/notifications/0/report");
        let none = json!({"phase": "Succeeded"});
        assert_eq!(operations("Backup", &none, &caller(), &told, now), None);
        assert_eq!(operations("Backup", &none, &caller(), &message, now), None);
    }
}
