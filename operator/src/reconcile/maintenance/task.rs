//! The Job of a maintenance.

use dbbackup_contract::{Action, CheckShare, Failure, MaintainAction, Reason, SHORTEST_GRACE};
use dbbackup_crds::BackupRepository;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::gather::{Asked, seconds};
use crate::context::{Identity, Surroundings};
use crate::names::Purpose;
use crate::reconcile::repository::repository_job;

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
    let action = Action::Maintain(Box::new(action(repository, asked, now)?));
    let pinned = repository.status.as_ref().and_then(|status| status.id.as_deref());
    repository_job(around, repository, identity, pinned, Purpose::Maintain, action, name)
}

fn action(
    repository: &BackupRepository,
    asked: Asked,
    now: Timestamp,
) -> Result<MaintainAction, Failure> {
    let spec = &repository.spec.maintenance;
    let grace = seconds(&spec.grace_period).filter(|grace| *grace >= SHORTEST_GRACE.as_secs());
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
