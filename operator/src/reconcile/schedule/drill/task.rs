//! The Job of a drill.

use dbbackup_contract::{
    Action, DrillAction, Failure, Reason, RecoverAction, RecoveryPoint, RecoveryTimeline,
    SubjectKind,
};
use dbbackup_crds::{BackupRepository, BackupSchedule, DrillSpec};
use k8s_openapi::api::batch::v1::Job;

use crate::context::{Identity, Surroundings};
use crate::job::{Errand, Mounts, ServerBeside, ServerVolume, add_server};
use crate::names::{Purpose, schedule_series};

/// Pods that may fail before a drill has: each keeps its storage until the Job goes.
const BACKOFF_LIMIT: i32 = 1;
/// Seconds that a Job stays after its end where nobody deletes it before, and its storage with it.
const STAYS_SECONDS: i32 = 600;

/// The drill that a schedule wants.
pub(super) fn wanted(schedule: &BackupSchedule) -> Option<&DrillSpec> {
    schedule.spec.verification.as_ref()?.drill.as_deref()
}

/// The Job: the runner, the server's own image beside it, and a claim that goes with their pod.
pub(super) fn job(
    schedule: &BackupSchedule,
    identity: &Identity,
    around: &Surroundings,
    repository: &BackupRepository,
    name: String,
) -> Result<Job, Failure> {
    let invalid = |message: String| Failure::new(Reason::InvalidSpec, message);
    let Some(drill) = wanted(schedule) else {
        return Err(Failure::new(Reason::Internal, "the schedule wants no drill"));
    };
    drill
        .storage
        .size
        .units()
        .map_err(|error| invalid(format!("spec.verification.drill.storage.size: {error}")))?;
    let errand = Errand {
        kind: SubjectKind::BackupSchedule,
        identity,
        purpose: Purpose::Drill,
        action: action(drill, identity, &around.cluster, &name),
        name,
        mounts: Mounts::default(),
        repository: Some(repository),
        destination: None,
        job: &drill.job,
    };
    let of_the_drill = |failure: Failure| {
        let message = failure.message.replace("job.", "spec.verification.drill.job.");
        Failure { message, ..failure }
    };
    let mut job = errand.job_of(schedule, around).map_err(of_the_drill)?;
    let server = ServerBeside {
        image: &drill.image,
        volume: ServerVolume::Scratch(&drill.storage),
        resources: drill.server.resources.as_ref(),
    };
    add_server(&mut job, &server, &around.runner, &drill.job)
        .map_err(|error| invalid(format!("spec.verification.drill.server.resources: {error}")))?;
    let spec = job.spec.get_or_insert_default();
    spec.backoff_limit = Some(BACKOFF_LIMIT);
    spec.ttl_seconds_after_finished = Some(STAYS_SECONDS);
    Ok(job)
}

/// The volume of each pod is new: whose it is, is marked with the Job's name.
fn action(drill: &DrillSpec, identity: &Identity, cluster: &str, name: &str) -> Action {
    let point =
        if drill.point_in_time { RecoveryPoint::Latest {} } else { RecoveryPoint::Immediate {} };
    Action::Drill(Box::new(DrillAction {
        recovery: RecoverAction {
            request_uid: name.to_owned(),
            series: schedule_series(cluster, &identity.namespace, &identity.name),
            snapshot: None,
            point,
            timeline: RecoveryTimeline::Latest,
            dry_run: false,
        },
        assertions: drill.assertions.clone(),
    }))
}
