//! The Job that carries an action out for an object of ours: what all kinds have in common.

use dbbackup_contract::{
    Action, DEFAULT_WORKERS, Failure, Reason, Subject, SubjectKind, TASK_VERSION, Task,
};
use dbbackup_crds::{BackupRepository, JobSpec};
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource, ResourceExt};

use super::{JobRequest, Mounts, build_job, repository_access};
use crate::context::{Identity, Surroundings, claim_of, stall_seconds, stored_bytes};
use crate::names::Purpose;

/// What is to be done for an object.
pub(crate) struct Errand<'a> {
    /// Its kind.
    pub(crate) kind: SubjectKind,
    /// Its identity.
    pub(crate) identity: &'a Identity,
    /// Why.
    pub(crate) purpose: Purpose,
    /// The Job's name.
    pub(crate) name: String,
    /// What the runner does.
    pub(crate) action: Action,
    /// The secrets that the action names.
    pub(crate) mounts: Mounts,
    /// The repository that is worked with, if any is.
    pub(crate) repository: Option<&'a BackupRepository>,
    /// The one that a copy goes to.
    pub(crate) destination: Option<&'a BackupRepository>,
    /// How the Job runs.
    pub(crate) job: &'a JobSpec,
}

impl Errand<'_> {
    /// The Job of `object`, which takes it along when it is deleted.
    ///
    /// # Errors
    /// `InvalidSpec` where a field cannot be carried out.
    pub(crate) fn job_of<K>(self, object: &K, around: &Surroundings) -> Result<Job, Failure>
    where
        K: Resource<DynamicType = ()>,
    {
        let Self { identity, repository, mut mounts, .. } = self;
        let invalid = |message: String| Failure::new(Reason::InvalidSpec, message);
        let access = |repository: &BackupRepository| {
            let (spec, name) = (&repository.spec, repository.name_any());
            let id = repository.status.as_ref().and_then(|status| status.id.as_deref());
            repository_access(&name, spec, id, &mut mounts)
                .ok_or_else(|| invalid(format!("the BackupRepository {name} names no place")))
        };
        let access = repository.map(access).transpose()?;
        let task = Task {
            version: TASK_VERSION,
            subject: Subject {
                kind: self.kind,
                namespace: identity.namespace.clone(),
                name: identity.name.clone(),
                uid: identity.uid.clone(),
            },
            report: Some(around.endpoint.clone()),
            repository: access,
            action: self.action,
            stall_timeout_seconds: stall_seconds(self.job),
            workers: self.job.parallelism.unwrap_or(DEFAULT_WORKERS),
        };
        let owner = object
            .controller_owner_ref(&())
            .ok_or_else(|| Failure::new(Reason::Internal, "the object has no UID"))?;
        let held = self.destination.map_or(0, stored_bytes);
        let request = JobRequest {
            name: self.name,
            owner,
            purpose: self.purpose,
            task: &task,
            mounts: &mounts,
            claim: repository.and_then(|it| claim_of(&it.spec)),
            destination_claim: self.destination.and_then(|it| claim_of(&it.spec)),
            stored_bytes: repository.map_or(0, stored_bytes).max(held),
            job: self.job,
        };
        build_job(&request, &around.runner).map_err(|error| invalid(error.to_string()))
    }
}
