//! The Job of a copy.

use dbbackup_contract::{Action, CopyAction, Failure, Reason, Subject, SubjectKind, Task};
use dbbackup_crds::{Backup, BackupRepository, CopyStatus, JobSpec};
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource, ResourceExt};

use crate::context::{
    Identity, Surroundings, claim_of, stall_seconds, stored_bytes, task_defaults,
};
use crate::job::{JobRequest, Mounts, build_job, destination_access, repository_access};
use crate::names::{Purpose, job_name};

/// The Job's name: each place that a backup is copied to has Jobs of its own.
pub(super) fn copy_job_name(identity: &Identity, copy: &CopyStatus, attempt: u32) -> String {
    let place = format!("{}/{}/{}", identity.uid, copy.name, copy.repository.name);
    job_name(&identity.name, &place, Purpose::Copy, attempt)
}

/// The Job that copies `snapshot`. It runs as the backup's own does.
pub(super) fn copy_job(
    around: &Surroundings,
    (backup, identity): (&Backup, &Identity),
    snapshot: &str,
    (source, destination): (&BackupRepository, &BackupRepository),
    job: &JobSpec,
    name: String,
) -> Result<Job, Failure> {
    let invalid = |message: String| Failure::new(Reason::InvalidSpec, message);
    let unplaced = |repository: &BackupRepository| {
        invalid(format!("the BackupRepository {} names no place", repository.name_any()))
    };
    let mut mounts = Mounts::default();
    let id = |repository: &BackupRepository| repository.status.as_ref()?.id.clone();
    let (from, to) = (id(source), id(destination));
    let repository =
        repository_access(&source.name_any(), &source.spec, from.as_deref(), &mut mounts)
            .ok_or_else(|| unplaced(source))?;
    let to =
        destination_access(&destination.name_any(), &destination.spec, to.as_deref(), &mut mounts)
            .ok_or_else(|| unplaced(destination))?;
    let (version, workers) = task_defaults();
    let task = Task {
        version,
        subject: Subject {
            kind: SubjectKind::Backup,
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            uid: identity.uid.clone(),
        },
        report: Some(around.endpoint.clone()),
        repository,
        action: Action::Copy(Box::new(CopyAction {
            snapshot: snapshot.to_owned(),
            destination: to,
        })),
        stall_timeout_seconds: stall_seconds(job),
        workers,
    };
    let owner = backup
        .controller_owner_ref(&())
        .ok_or_else(|| Failure::new(Reason::Internal, "the object has no UID"))?;
    let request = JobRequest {
        name,
        owner,
        purpose: Purpose::Copy,
        task: &task,
        mounts: &mounts,
        claim: claim_of(&source.spec),
        destination_claim: claim_of(&destination.spec),
        stored_bytes: stored_bytes(source).max(stored_bytes(destination)),
        job,
    };
    build_job(&request, &around.runner).map_err(|error| invalid(error.to_string()))
}
