//! The tasks of a `Backup`: the run itself, and the question what became of it.

use dbbackup_contract::{
    Action, BackupAction, Failure, InspectAction, Origin, Reason, Subject, SubjectKind, Task,
};
use dbbackup_crds::{Backup, BackupRepository, JobSpec, ResolvedBackup};
use k8s_openapi::api::batch::v1::Job;
use kube::Resource;

use super::gather::Gathered;
use crate::context::{Context, claim_of, stall_seconds, task_defaults};
use crate::job::{JobRequest, Mounts, build_job, repository_access, source_access};
use crate::names::{Purpose, schedule_series, single_series};

/// The series of a run.
pub(super) fn series(cluster: &str, seen: &Gathered, resolved: &ResolvedBackup) -> String {
    let namespace = &seen.identity.namespace;
    match &resolved.schedule {
        Some(schedule) => schedule_series(cluster, namespace, schedule),
        None => single_series(cluster, namespace, &seen.identity.name),
    }
}

/// The Job that makes the backup.
pub(super) fn backup_job(
    context: &Context,
    seen: &Gathered,
    resolved: &ResolvedBackup,
    repository: &BackupRepository,
    name: String,
) -> Result<Job, Failure> {
    let mut mounts = Mounts::default();
    let source = source_access(&resolved.source, &mut mounts)
        .ok_or_else(|| Failure::new(Reason::InvalidSpec, "spec.source names no server"))?;
    let action = Action::Backup(BackupAction {
        series: series(&context.cluster, seen, resolved),
        run_id: seen.identity.uid.clone(),
        slot_time: resolved.slot_time,
        origin: Origin {
            cluster: context.cluster.clone(),
            namespace: seen.identity.namespace.clone(),
            backup: seen.identity.name.clone(),
            schedule: resolved.schedule.clone(),
        },
        source,
    });
    let job = &resolved.job;
    finish(context, seen, repository, mounts, (Purpose::Backup, action, job, name))
}

/// The Job that asks the repository.
pub(super) fn inspect_job(
    context: &Context,
    seen: &Gathered,
    resolved: &ResolvedBackup,
    repository: &BackupRepository,
    name: String,
) -> Result<Job, Failure> {
    let action = Action::Inspect(InspectAction {
        series: series(&context.cluster, seen, resolved),
        run_id: seen.identity.uid.clone(),
        slot_time: resolved.slot_time,
    });
    let job = &repository.spec.job;
    finish(context, seen, repository, Mounts::default(), (Purpose::Inspect, action, job, name))
}

fn finish(
    context: &Context,
    seen: &Gathered,
    repository: &BackupRepository,
    mut mounts: Mounts,
    (purpose, action, job, name): (Purpose, Action, &JobSpec, String),
) -> Result<Job, Failure> {
    let invalid = |message: String| Failure::new(Reason::InvalidSpec, message);
    let (version, workers) = task_defaults();
    let repository_name = repository.metadata.name.clone().unwrap_or_default();
    let id = repository.status.as_ref().and_then(|status| status.id.as_deref());
    let access = repository_access(&repository_name, &repository.spec, id, &mut mounts)
        .ok_or_else(|| invalid(format!("the BackupRepository {repository_name} names no place")))?;
    let task = Task {
        version,
        subject: Subject {
            kind: SubjectKind::Backup,
            namespace: seen.identity.namespace.clone(),
            name: seen.identity.name.clone(),
            uid: seen.identity.uid.clone(),
        },
        report: Some(context.report_endpoint()),
        repository: access,
        action,
        stall_timeout_seconds: stall_seconds(job),
        workers,
    };
    let owner = Backup::controller_owner_ref(&seen.backup, &())
        .ok_or_else(|| Failure::new(Reason::Internal, "the object has no UID"))?;
    let request = JobRequest {
        name,
        owner,
        purpose,
        task: &task,
        mounts: &mounts,
        claim: claim_of(&repository.spec),
        job,
    };
    build_job(&request, &context.runner).map_err(|error| invalid(error.to_string()))
}
