//! Whom to tell of an end. Pure.

use dbbackup_contract::Outcome;
use dbbackup_crds::{
    Backup, BackupPhase, BackupSchedule, NotificationEvent, NotificationPhase, NotificationSpec,
    NotificationStatus,
};
use jiff::{SignedDuration, Timestamp};

/// How long a failure that was told is not told again while it goes on. Less than a day: the
/// backup of the next night is told of though it fails a little sooner.
const QUIET: SignedDuration = SignedDuration::from_hours(20);

/// Who is told of a backup that has ended so. `before` are the backups of the schedule that
/// ended before it.
#[must_use]
pub fn due(
    schedule: &BackupSchedule,
    outcome: Outcome,
    before: &[&Backup],
    now: Timestamp,
) -> Vec<NotificationStatus> {
    let mut before: Vec<&Backup> =
        before.iter().copied().filter(|backup| ended(backup).is_some()).collect();
    before.sort_by_key(|backup| std::cmp::Reverse(ended(backup)));
    let events = schedule.spec.notifications.iter().filter_map(|spec| {
        let event = event(spec, outcome, &before, now)?;
        Some(NotificationStatus::pending(&spec.name, event))
    });
    events.collect()
}

/// What is told, if anything is. `before` from the newest to the oldest.
fn event(
    spec: &NotificationSpec,
    outcome: Outcome,
    before: &[&Backup],
    now: Timestamp,
) -> Option<NotificationEvent> {
    use NotificationEvent::{Failed, PartiallyFailed, Recovered, Succeeded};
    let wants = |event: &NotificationEvent| spec.events.contains(event);
    let had_failed =
        before.first().copied().and_then(phase).is_some_and(|phase| {
            matches!(phase, BackupPhase::Failed | BackupPhase::PartiallyFailed)
        });
    match outcome {
        Outcome::Succeeded if had_failed => [Recovered, Succeeded].into_iter().find(wants),
        Outcome::Succeeded => Some(Succeeded).filter(wants),
        Outcome::PartiallyFailed => Some(PartiallyFailed)
            .filter(wants)
            .filter(|_| !is_known(spec, BackupPhase::PartiallyFailed, before, now)),
        Outcome::Failed => {
            Some(Failed).filter(wants).filter(|_| !is_known(spec, BackupPhase::Failed, before, now))
        }
    }
}

/// Whether it was told lately that backups end so, and all since then did. What did not
/// arrive was not told.
fn is_known(
    spec: &NotificationSpec,
    outcome: BackupPhase,
    before: &[&Backup],
    now: Timestamp,
) -> bool {
    let streak = before.iter().take_while(|backup| phase(backup) == Some(outcome));
    streak.into_iter().any(|backup| {
        let entries = backup.status.iter().flat_map(|status| &status.notifications);
        let told = entries
            .filter(|entry| entry.name == spec.name && entry.phase != NotificationPhase::Failed);
        let time = |entry: &NotificationStatus| entry.time.or_else(|| ended(backup));
        told.filter_map(time).any(|time| now.duration_since(time) < QUIET)
    })
}

fn phase(backup: &Backup) -> Option<BackupPhase> {
    backup.status.as_ref().and_then(|status| status.phase)
}

/// When it ended, if it did.
pub(super) fn ended(backup: &Backup) -> Option<Timestamp> {
    let status = backup.status.as_ref()?;
    status.completion_time.filter(|_| status.phase.is_some_and(BackupPhase::is_terminal))
}
