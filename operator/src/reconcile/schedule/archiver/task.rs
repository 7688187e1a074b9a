//! The Jobs of a schedule that archive its server's log, and that drop the slot in the end.

use dbbackup_contract::{Action, ArchiveAction, Failure, Reason, RetireAction, SubjectKind};
use dbbackup_crds::{ArchiverTask, BackupRepository, BackupSchedule, JobSpec};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use sha2::{Digest, Sha256};

use crate::context::{Identity, Surroundings};
use crate::job::{Errand, Mounts, Place, postgresql_access};
use crate::names::{Purpose, job_name, schedule_series};

/// The purpose of a task's Job.
const fn purpose(task: ArchiverTask) -> Purpose {
    match task {
        ArchiverTask::Archive => Purpose::Archive,
        ArchiverTask::Retire => Purpose::Retire,
    }
}

/// The name of the Job of this number that begins now. The status has it before the Job is there,
/// so that a restart of the operator finds the same one. Numbers begin anew when archiving is
/// switched on again, and what a Job of then said must not be taken for an answer.
pub(super) fn name(identity: &Identity, task: ArchiverTask, number: u32, now: Timestamp) -> String {
    let origin = format!("{}/{}", identity.uid, now.as_millisecond());
    job_name(&identity.name, &origin, purpose(task), number)
}

/// The Job of this name. One that drops the slot needs no repository.
///
/// # Errors
/// `InvalidSpec` where a field cannot be carried out.
pub(super) fn job(
    (schedule, identity): (&BackupSchedule, &Identity),
    around: &Surroundings,
    repository: Option<&BackupRepository>,
    task: ArchiverTask,
    name: String,
) -> Result<Job, Failure> {
    let spec = &schedule.spec;
    let mut mounts = Mounts::default();
    let place = Place::new("source.postgresql", "BackupSchedule", &identity.name);
    let source = spec.source.postgresql.as_ref();
    let server = source.map(|source| postgresql_access(&source.as_target(), &place, &mut mounts));
    let server =
        server.ok_or_else(|| Failure::new(Reason::InvalidSpec, "spec.source names no server"))?;
    let series = schedule_series(&around.cluster, &identity.namespace, &identity.name);
    let lag = spec.point_in_time_recovery.as_ref().map(|wanted| wanted.max_lag());
    let action = match task {
        ArchiverTask::Archive => Action::Archive(ArchiveAction {
            series,
            server,
            max_lag_milliseconds: lag
                .and_then(|lag| u64::try_from(lag.as_millis()).ok())
                .unwrap_or_default(),
        }),
        ArchiverTask::Retire => Action::Retire(RetireAction { series, server }),
    };
    let errand = Errand {
        kind: SubjectKind::BackupSchedule,
        identity,
        purpose: purpose(task),
        name,
        action,
        mounts,
        repository: repository.filter(|_| task == ArchiverTask::Archive),
        destination: None,
        job: &spec.job,
    };
    let mut job = errand.job_of(schedule, around)?;
    if task == ArchiverTask::Retire {
        // Who deletes a schedule in the foreground has the garbage collector delete what blocks
        // that: this one is to be left to do its work.
        for owner in job.metadata.owner_references.iter_mut().flatten() {
            owner.block_owner_deletion = Some(false);
        }
    }
    Ok(job)
}

/// Digest of what a Job was made from: its pod and the spec's words for it. How much memory the
/// formula gives is left out, since that grows with the repository.
pub(super) fn digest(job: &Job, spec: &JobSpec) -> String {
    let template = job.spec.as_ref().map(|spec| &spec.template);
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(container) = template.pointer_mut("/spec/containers/0") {
        container.as_object_mut().into_iter().for_each(|container| {
            container.remove("resources");
        });
    }
    let resources = serde_json::to_value(&spec.resources).unwrap_or_default();
    let digest = Sha256::digest(format!("{template}/{resources}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::fixtures;

    fn schedule(change: impl FnOnce(&mut serde_json::Value)) -> BackupSchedule {
        let source = fixtures::resolved_backup().source;
        let mut json = json!({
            "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "nightly", "namespace": "shop", "uid": "u", "generation": 2},
            "spec": {"repositoryRef": {"name": "main"}, "source": source, "schedule": "@daily",
                "method": "Physical", "pointInTimeRecovery": {"enabled": true, "maxLag": "1500ms"}},
        });
        change(&mut json["spec"]);
        serde_json::from_value(json).unwrap()
    }

    fn built(schedule: &BackupSchedule, stored: u64, task: ArchiverTask) -> Job {
        let (around, mut repository) = (fixtures::surroundings(), fixtures::repository());
        let status = repository.status.get_or_insert_default();
        status.bytes = serde_json::from_value(json!({"stored": stored, "logical": 1})).unwrap();
        let identity = fixtures::identity("nightly");
        job((schedule, &identity), &around, Some(&repository), task, "j".into()).unwrap()
    }

    #[test]
    fn an_archiver_is_a_job_of_the_schedule_that_is_told_series_server_and_lag() {
        let job = fixtures::readable(&built(&schedule(|_| ()), 0, ArchiverTask::Archive));
        let task = job.pointer("/spec/template/metadata/annotations/dbbackup.dev~1task").unwrap();
        let action = &task["action"]["archive"];
        assert_eq!(action["series"], "3f6c/shop/nightly");
        assert_eq!(action["maxLagMilliseconds"], 1500);
        assert_eq!(action["server"]["host"], "shop-db.shop.svc");
        assert_eq!(task["repository"]["name"], "main");
        assert_eq!(task["subject"]["kind"], "BackupSchedule");
        assert_eq!(job["metadata"]["labels"]["dbbackup.dev/purpose"], "archive");
    }

    #[test]
    fn the_job_that_drops_the_slot_needs_no_repository_and_blocks_nobody() {
        let job = fixtures::readable(&built(&schedule(|_| ()), 0, ArchiverTask::Retire));
        let task = job.pointer("/spec/template/metadata/annotations/dbbackup.dev~1task").unwrap();
        assert_eq!(task["action"]["retire"]["series"], "3f6c/shop/nightly");
        assert_eq!(task.get("repository"), None);
        let owner = &job["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["controller"], &owner["blockOwnerDeletion"]),
            (&json!(true), &json!(false))
        );
    }

    #[test]
    fn another_archiver_takes_the_place_of_one_that_was_made_from_something_else() {
        let of = |schedule: &BackupSchedule, stored| {
            digest(&built(schedule, stored, ArchiverTask::Archive), &schedule.spec.job)
        };
        let first = of(&schedule(|_| ()), 0);
        for same in [
            of(&schedule(|spec| spec["suspend"] = true.into()), 0),
            of(&schedule(|spec| spec["schedule"] = "@hourly".into()), 0),
            // The repository has grown.
            of(&schedule(|_| ()), 1 << 45),
        ] {
            assert_eq!(same, first);
        }
        let changes: [fn(&mut serde_json::Value); 4] = [
            |spec| spec["pointInTimeRecovery"]["maxLag"] = "1m".into(),
            |spec| spec["source"]["postgresql"]["host"] = "other".into(),
            |spec| spec["job"] = json!({"priorityClassName": "high"}),
            |spec| spec["job"] = json!({"resources": {"limits": {"memory": "1Gi"}}}),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_ne!(of(&schedule(change), 0), first, "{index}");
        }
    }
}
