//! What is to be done for a repository's maintenance. Pure.

use dbbackup_contract::{Failure, MaintainReport, Reason, Report};
use dbbackup_crds::{BackupRepository, BackupRepositoryStatus, MaintenanceSpec};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::conditions::to_seconds;
use crate::reconcile::one_shot::another_action;
use crate::run::{RunView, Waiting};
use crate::slots::Slots;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before the next slot.
    Rest,
    /// Nothing before the spec is corrected.
    Refuse(Failure),
    /// Create the Job of this slot.
    Begin(Timestamp),
    /// The Job is on its way.
    Watch(Option<Waiting>),
    /// It has ended with this report.
    Finish(Box<MaintainReport>),
    /// It has ended without one.
    Fail(Failure),
}

/// When the repository is maintained: as the spec says, or once a day at a minute that
/// comes from the object's UID, so that a thousand repositories spread over the day.
///
/// # Errors
/// `InvalidSpec`, with the field and what to write.
pub fn slots(spec: &MaintenanceSpec, uid: &str) -> Result<Slots, Failure> {
    let schedule = spec.schedule.clone().unwrap_or_else(|| {
        let [high, low, ..]: [u8; 32] = Sha256::digest(uid).into();
        let minute = u32::from(u16::from_be_bytes([high, low])) * 1440 / 65_536;
        format!("{} {} * * *", minute % 60, minute / 60)
    });
    Slots::parse(&schedule, &spec.time_zone).map_err(|error| {
        let message = error.to_string().replace("spec.", "spec.maintenance.");
        Failure::new(Reason::InvalidSpec, message).with_hint("")
    })
}

/// Plans the next step of a repository that is open.
#[must_use]
pub fn plan(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
    run: Option<&RunView>,
    slots: Result<Slots, Failure>,
    now: Timestamp,
) -> Step {
    if status.maintenance.is_some() {
        return plan_begun(run);
    }
    // At its slots others look for what is to be imported.
    if !repository.spec.access.may_write() {
        return if let Err(failure) = slots { Step::Refuse(failure) } else { Step::Rest };
    }
    if let Some(time) = approved(repository, status) {
        return Step::Begin(time);
    }
    match (slots, status.next_maintenance_time) {
        (Err(failure), _) => Step::Refuse(failure),
        // A slot that was missed is made up for, once.
        (Ok(_), Some(slot)) if slot <= now => Step::Begin(slot),
        _ => Step::Rest,
    }
}

/// Whether a maintenance is due that has not begun.
#[must_use]
pub fn is_due(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
    uid: &str,
    now: Timestamp,
) -> bool {
    let slots = slots(&repository.spec.maintenance, uid);
    matches!(plan(repository, status, None, slots, now), Step::Begin(_))
}

fn plan_begun(run: Option<&RunView>) -> Step {
    match run {
        None | Some(RunView::Running { .. }) => Step::Watch(None),
        Some(RunView::Waiting(waiting)) => Step::Watch(Some(waiting.clone())),
        Some(
            RunView::NeverStarted(failure)
            | RunView::Unknown(failure, _)
            | RunView::Lost(failure, _),
        ) => Step::Fail(failure.clone()),
        Some(RunView::Reported(report, _)) => match report.as_ref() {
            Report::Maintain(report) => Step::Finish(report.clone()),
            _ => Step::Fail(another_action()),
        },
    }
}

/// The plan that waits was approved: it is carried out at once. The time is that of the
/// maintenance that made it, so that a crash begins the same one again.
fn approved(repository: &BackupRepository, status: &BackupRepositoryStatus) -> Option<Timestamp> {
    let last = status.last_maintenance.as_ref()?;
    let plan = last.waiting_plan.as_ref()?;
    if repository.spec.maintenance.approved_plan.as_ref() != Some(plan) {
        return None;
    }
    to_seconds(last.time).checked_add(SignedDuration::from_secs(1)).ok()
}
