//! The Job of a maintenance.

use dbbackup_contract::{
    Action, CheckShare, Failure, MaintainAction, Reason, Subject, SubjectKind, Task,
};
use dbbackup_crds::BackupRepository;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::Resource;

use super::gather::{Asked, seconds};
use crate::context::{Identity, Surroundings, claim_of, stall_seconds, task_defaults};
use crate::job::{JobRequest, Mounts, build_job, repository_access};
use crate::names::Purpose;

/// The repository's own least: whoever began to write before a condemnation must be seen.
const SHORTEST_GRACE_SECONDS: u64 = 600;
const SECONDS_OF_A_DAY: i64 = 86_400;

/// The Job that carries out what is asked.
pub(super) fn maintain_job(
    around: &Surroundings,
    repository: &BackupRepository,
    identity: &Identity,
    asked: Asked,
    name: String,
    now: Timestamp,
) -> Result<Job, Failure> {
    let invalid = |message: String| Failure::new(Reason::InvalidSpec, message);
    let mut mounts = Mounts::default();
    let pinned = repository.status.as_ref().and_then(|status| status.id.as_deref());
    let access = repository_access(&identity.name, &repository.spec, pinned, &mut mounts)
        .ok_or_else(|| invalid("spec names neither storage nor encryption".to_owned()))?;
    let (version, workers) = task_defaults();
    let task = Task {
        version,
        subject: Subject {
            kind: SubjectKind::BackupRepository,
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            uid: identity.uid.clone(),
        },
        report: Some(around.endpoint.clone()),
        repository: access,
        action: Action::Maintain(Box::new(action(repository, asked, now)?)),
        stall_timeout_seconds: stall_seconds(&repository.spec.job),
        workers,
    };
    let owner = repository
        .controller_owner_ref(&())
        .ok_or_else(|| Failure::new(Reason::Internal, "the object has no UID"))?;
    let request = JobRequest {
        name,
        owner,
        purpose: Purpose::Maintain,
        task: &task,
        mounts: &mounts,
        claim: claim_of(&repository.spec),
        job: &repository.spec.job,
    };
    build_job(&request, &around.runner).map_err(|error| invalid(error.to_string()))
}

fn action(
    repository: &BackupRepository,
    asked: Asked,
    now: Timestamp,
) -> Result<MaintainAction, Failure> {
    let spec = &repository.spec.maintenance;
    let grace = seconds(&spec.grace_period).filter(|grace| *grace >= SHORTEST_GRACE_SECONDS);
    let grace_seconds = grace.ok_or_else(|| {
        let text = spec.grace_period.as_str();
        let message = format!("spec.maintenance.gracePeriod is {text}, less than 10m");
        Failure::new(Reason::InvalidSpec, message).with_hint("Write 10m or more, such as 24h.")
    })?;
    let Asked { series, pin, unpin, erase, retain } = asked;
    let day = (now.as_second() / SECONDS_OF_A_DAY).unsigned_abs();
    Ok(MaintainAction {
        series,
        pin,
        unpin,
        erase,
        retain,
        grace_seconds,
        max_delete_percent: spec.max_delete_percent,
        approved_plan: spec.approved_plan.clone(),
        check: CheckShare { read_percent: spec.check.read_percent, number: day },
    })
}
