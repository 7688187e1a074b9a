//! What is to be done for a repository's import, and when it is its turn. Pure.

use dbbackup_contract::{Failure, ImportReport, Report};
use dbbackup_crds::{
    BackupRepository, BackupRepositoryStatus, ImportOccasion, ImportPolicy, LastImport,
};
use jiff::{SignedDuration, Timestamp};

use crate::reasons::READY;
use crate::reconcile::one_shot::another_action;
use crate::run::{RunView, Waiting};

/// How soon a look that failed is tried again.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// A repository that was never looked through is, if it was opened or maintained within
/// this time: an operator that learns to import does not look through all at once.
const LATELY: SignedDuration = SignedDuration::from_hours(1);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create the Job of this number.
    Begin(u32),
    /// End the Job: nothing is wanted any more.
    Stop,
    /// The Job is on its way.
    Watch(Option<Waiting>),
    /// It has told what there is.
    Take(Box<ImportReport>),
    /// It has ended and told nothing.
    Fail(Failure),
}

/// Whether the import comes now, and not the maintenance: it has begun, or it is due and
/// the maintenance is not, or was there last.
#[must_use]
pub fn goes_first(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
    is_maintenance_due: bool,
    now: Timestamp,
) -> bool {
    if status.import.is_some() {
        return true;
    }
    let was_last = status
        .last_import
        .as_ref()
        .is_some_and(|last| last.occasion.maintenance_job_name == maintenance_job(status));
    status.maintenance.is_none()
        && is_due(repository, status, now)
        && !(is_maintenance_due && was_last)
}

/// Whether there may be something to import that nobody has looked for.
fn is_due(repository: &BackupRepository, status: &BackupRepositoryStatus, now: Timestamp) -> bool {
    if repository.spec.import == ImportPolicy::None {
        return false;
    }
    let Some(last) = &status.last_import else { return was_touched_lately(status, now) };
    match retry_time(repository, status) {
        Some(time) => time <= now,
        None => last.occasion != occasion(repository, status) || goes_on(last),
    }
}

/// When a look that failed is tried again.
#[must_use]
pub fn retry_time(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
) -> Option<Timestamp> {
    let last = status.last_import.as_ref().filter(|last| last.error.is_some())?;
    let is_wanted = repository.spec.import == ImportPolicy::All && status.import.is_none();
    last.time.checked_add(PAUSE).ok().filter(|_| is_wanted)
}

/// There was more than a report has room for. Where nothing of it was taken, another look
/// would find the same.
fn goes_on(last: &LastImport) -> bool {
    last.remaining > 0 && last.imported > 0
}

fn was_touched_lately(status: &BackupRepositoryStatus, now: Timestamp) -> bool {
    let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
    let opened = ready.map(|condition| condition.last_transition_time.0);
    let maintained = status.last_maintenance.as_ref().map(|last| last.time);
    let is_lately = |time: Timestamp| now.duration_since(time) < LATELY;
    opened.is_some_and(is_lately) || maintained.is_some_and(is_lately)
}

/// What a look that begins now comes after. It compares by equality: the clocks of pods
/// and of the operator need not agree.
pub(super) fn occasion(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
) -> ImportOccasion {
    ImportOccasion {
        generation: repository.metadata.generation,
        maintenance_job_name: maintenance_job(status),
        // Where there is no maintenance, a slot that passes is the occasion.
        next_slot_time: status
            .next_maintenance_time
            .filter(|_| !repository.spec.access.may_write()),
    }
}

fn maintenance_job(status: &BackupRepositoryStatus) -> Option<String> {
    status.last_maintenance.as_ref().map(|last| last.job_name.clone())
}

/// Plans the next step of an import whose turn it is.
#[must_use]
pub fn plan(
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
    run: Option<&RunView>,
) -> Step {
    if status.import.is_none() {
        let last = status.last_import.as_ref().map_or(0, |last| last.number);
        // A schema's integers have 31 bits; names may come again after so many.
        return Step::Begin(if last >= i32::MAX.unsigned_abs() { 1 } else { last + 1 });
    }
    if repository.spec.import == ImportPolicy::None {
        return Step::Stop;
    }
    match run {
        None | Some(RunView::Running { .. }) => Step::Watch(None),
        Some(RunView::Waiting(waiting)) => Step::Watch(Some(waiting.clone())),
        Some(
            RunView::NeverStarted(failure)
            | RunView::Unknown(failure, _)
            | RunView::Lost(failure, _),
        ) => Step::Fail(failure.clone()),
        Some(RunView::Reported(report, _)) => match report.as_ref() {
            Report::Import(report) => match &report.error {
                Some(failure) => Step::Fail(failure.clone()),
                None => Step::Take(report.clone()),
            },
            _ => Step::Fail(another_action()),
        },
    }
}
