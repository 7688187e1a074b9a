//! The tasks of a `PitrRestore`: the look, and the recovery with a server beside it.

use dbbackup_contract::{Action, Failure, Reason, RecoverAction, SubjectKind};
use dbbackup_crds::{BackupRepository, ResolvedPitr};
use k8s_openapi::api::batch::v1::Job;

use super::gather::Gathered;
use super::target::target;
use crate::context::Surroundings;
use crate::job::{Errand, Mounts, ServerBeside, ServerVolume, add_server};
use crate::names::Purpose;

/// The Job of a purpose: `Recover` onto the claim, or `Plan` where there is none.
pub(super) fn job(
    around: &Surroundings,
    seen: &Gathered,
    resolved: &ResolvedPitr,
    repository: &BackupRepository,
    claim: Option<&str>,
    name: String,
) -> Result<Job, Failure> {
    let spec = &seen.request.spec;
    let errand = Errand {
        kind: SubjectKind::PitrRestore,
        identity: &seen.identity,
        purpose: purpose(claim),
        name,
        action: action(seen, resolved, claim.is_none())?,
        mounts: Mounts::default(),
        repository: Some(repository),
        destination: None,
        job: &spec.job,
    };
    let mut job = errand.job_of(&seen.request, around)?;
    if let Some(claim) = claim {
        let resources = spec.server.resources.as_ref();
        let volume = ServerVolume::Claim(claim);
        let server = ServerBeside { image: &spec.image, volume, resources };
        add_server(&mut job, &server, &around.runner, &spec.job).map_err(|error| {
            Failure::new(Reason::InvalidSpec, format!("spec.server.resources: {error}"))
        })?;
    }
    Ok(job)
}

/// Why there is a Job with this claim, or with none.
pub(super) const fn purpose(claim: Option<&str>) -> Purpose {
    if claim.is_some() { Purpose::Recover } else { Purpose::Plan }
}

/// The base is the one of the look in every attempt: a newer one, from before the moment, may
/// have come since.
fn action(seen: &Gathered, resolved: &ResolvedPitr, dry_run: bool) -> Result<Action, Failure> {
    let (point, timeline) = target(&seen.request.spec.recovery_target)?;
    let base = seen.status.base.as_ref().filter(|_| !dry_run);
    Ok(Action::Recover(Box::new(RecoverAction {
        request_uid: seen.identity.uid.clone(),
        series: resolved.series.clone(),
        snapshot: base.map(|base| base.snapshot_id.clone()),
        point,
        timeline,
        dry_run,
    })))
}
