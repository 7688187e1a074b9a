//! What is to be done about drills: a pure function of what is known of them.

use dbbackup_contract::{DrillReport, Failure, Reason, Report};
use dbbackup_crds::{BackupSchedule, BackupScheduleStatus, SlotBaseline};
use jiff::Timestamp;

use super::super::attempt::Attempt;
use super::task::wanted;
use crate::reconcile::one_shot::another_action;
use crate::run::RunView;
use crate::slots::Slots;

/// Jobs of one drill. Nothing of one is kept, so that one whose report is lost is begun again.
const MAX_JOBS: u32 = 3;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// There are no drills.
    Nothing,
    /// None is due.
    Rest,
    /// Its slots cannot be read.
    Refuse(Failure),
    /// One is due, and others must do something first.
    Wait(Failure),
    /// The slot has come, and there is nothing yet to recover.
    PassOver(Timestamp),
    /// Create the Job of this slot.
    Begin(Timestamp),
    /// Create so many-th Job of the slot that was begun.
    Again(u32),
    /// The Job is on its way.
    Watch(Attempt),
    /// No drill is wanted any more: away with it.
    Abandon,
    /// It has ended with a report.
    Finish(Box<DrillReport>),
    /// It has ended without one.
    Fail(Failure),
}

/// What is known.
pub(super) struct Seen<'a> {
    /// What became of the Job that was begun, if one was.
    pub(super) run: Option<&'a RunView>,
    /// How many were begun for its slot.
    pub(super) jobs: Option<u32>,
    /// The slots, or why they cannot be read; `None` where no drill is wanted.
    pub(super) slots: Option<Result<Slots, Failure>>,
    /// Slots up to here are done with.
    pub(super) last: Timestamp,
    /// Whether a base was made.
    pub(super) has_base: bool,
    /// Why the repository cannot be read now.
    pub(super) repository: Option<Failure>,
}

/// The slots of the drills.
pub(super) fn slots(schedule: &BackupSchedule) -> Option<Result<Slots, Failure>> {
    let drill = wanted(schedule)?;
    let zone = zone(schedule)?;
    Some(Slots::parse(&drill.schedule, zone).map_err(|error| {
        let message = error.to_string().replace("spec.", "spec.verification.drill.");
        Failure::new(Reason::InvalidSpec, message).with_hint("")
    }))
}

fn zone(schedule: &BackupSchedule) -> Option<&str> {
    let drill = wanted(schedule)?;
    Some(drill.time_zone.as_deref().unwrap_or(&schedule.spec.time_zone))
}

/// From when on slots count: since this line in this zone is in effect. So a changed line starts
/// nothing that lies in the past.
pub(super) fn set_baseline(
    schedule: &BackupSchedule,
    status: &mut BackupScheduleStatus,
    now: Timestamp,
) {
    let (Some(drill), Some(zone)) = (wanted(schedule), zone(schedule)) else { return };
    let known = status.drill.get_or_insert_default();
    let is_same = known
        .slots_since
        .as_ref()
        .is_some_and(|since| since.schedule == drill.schedule && since.time_zone == zone);
    if !is_same {
        known.slots_since = Some(SlotBaseline {
            schedule: drill.schedule.clone(),
            time_zone: zone.to_owned(),
            time: now,
        });
    }
}

/// Slots up to here are done with.
pub(super) fn last_slot(status: &BackupScheduleStatus, now: Timestamp) -> Timestamp {
    let drill = status.drill.as_ref();
    let since = drill.and_then(|drill| drill.slots_since.as_ref());
    super::super::done_until(since, drill.and_then(|drill| drill.last_schedule_time), now)
}

/// Plans the next step.
pub(super) fn plan(seen: &Seen<'_>, now: Timestamp) -> Step {
    if let Some(run) = seen.run {
        return if seen.slots.is_none() { Step::Abandon } else { of_run(seen, run) };
    }
    let slots = match &seen.slots {
        None => return Step::Nothing,
        Some(Err(failure)) => return Step::Refuse(failure.clone()),
        Some(Ok(slots)) => slots,
    };
    let Some(slot) = slots.decide(seen.last, now, None).due else { return Step::Rest };
    if !seen.has_base {
        return Step::PassOver(slot);
    }
    match &seen.repository {
        Some(failure) => Step::Wait(failure.clone()),
        None => Step::Begin(slot),
    }
}

fn of_run(seen: &Seen<'_>, run: &RunView) -> Step {
    match run {
        RunView::Waiting(waiting) => Step::Watch(Attempt::Starts(waiting.clone())),
        RunView::Running { attempts, last_failure } => {
            Step::Watch(Attempt::Runs(*attempts, last_failure.clone()))
        }
        RunView::Reported(report, _) => match report.as_ref() {
            Report::Drill(report) => Step::Finish(report.clone()),
            _ => Step::Fail(another_action()),
        },
        RunView::NeverStarted(failure) => Step::Fail(failure.clone()),
        RunView::Unknown(failure, _) | RunView::Lost(failure, _) => again(seen, failure),
    }
}

/// What nobody knows the outcome of is begun again, but not for ever.
fn again(seen: &Seen<'_>, cause: &Failure) -> Step {
    let may_pass = matches!(
        cause.reason,
        Reason::JobGone | Reason::PodDisrupted | Reason::PodFailed | Reason::OutcomeUnknown
    );
    let jobs = seen.jobs.unwrap_or(MAX_JOBS);
    if may_pass && jobs < MAX_JOBS && seen.repository.is_none() {
        Step::Again(jobs.saturating_add(1))
    } else {
        Step::Fail(cause.clone())
    }
}
