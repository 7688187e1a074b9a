//! The status of a `BackupSchedule`.

use dbbackup_contract::Failure;
use dbbackup_crds::{BackupPhase, BackupSchedule, BackupScheduleStatus, LastBackup, LocalRef};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Children, Ended};
use crate::conditions::{Standing, Verdict, conditions};
use crate::display;
use crate::reasons;

/// What is known of the time to come.
#[derive(Clone, Debug)]
pub struct Outlook<'a> {
    /// The next slot.
    pub next: Option<Timestamp>,
    /// The schedule's zone.
    pub zone: &'a TimeZone,
    /// A slot that waits for backups that run.
    pub held: Option<Timestamp>,
    /// Why the repository cannot be used now.
    pub repository_trouble: Option<Failure>,
}

/// Most active backups that are listed.
const MAX_ACTIVE: usize = 100;

/// A schedule that cannot be read.
#[must_use]
pub fn stalled(
    mut status: BackupScheduleStatus,
    failure: &Failure,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupScheduleStatus {
    let verdict = Verdict::of_failure(Standing::Stalled, failure);
    status.display = Some(display::failure(failure));
    status.next_schedule_time = None;
    status.slots_since = None;
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status.observed_generation = generation;
    status
}

/// A schedule that is understood.
#[must_use]
pub fn standing(
    mut status: BackupScheduleStatus,
    schedule: &BackupSchedule,
    children: &Children,
    outlook: &Outlook<'_>,
    now: Timestamp,
) -> BackupScheduleStatus {
    let suspended = schedule.spec.suspend;
    status.next_schedule_time = outlook.next.filter(|_| !suspended);
    status.last_successful_time = status.last_successful_time.max(children.last_success);
    status.active = children
        .active
        .iter()
        .take(MAX_ACTIVE)
        .map(|name| LocalRef { name: name.clone() })
        .collect();
    if let Some((_, name, phase)) = &children.newest {
        status.last_backup = Some(LastBackup { name: name.clone(), phase: *phase });
    }
    status.display = Some(display::shortened(words(&status, children, outlook, suspended, now)));
    let verdict = match &outlook.repository_trouble {
        Some(failure) => Verdict::of_failure(Standing::Reconciling, failure),
        None if suspended => {
            Verdict::new(Standing::Ready, reasons::SUSPENDED, "no backup is started: spec.suspend")
        }
        None => Verdict::new(Standing::Ready, reasons::ACCEPTED, accepted(&status, children)),
    };
    let generation = schedule.metadata.generation;
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status.observed_generation = generation;
    status
}

/// What is known of a schedule that is understood: its last backup is the test of it.
fn accepted(status: &BackupScheduleStatus, children: &Children) -> String {
    match (&children.last_ended, status.last_successful_time) {
        (Some(last), _) if last.phase != BackupPhase::Succeeded => {
            format!("the schedule is understood; its last backup {}: {}", ended(last), last.reason)
        }
        (Some(_), _) | (None, Some(_)) => {
            "the schedule is understood; its last backup succeeded".to_owned()
        }
        (None, None) => {
            "the schedule is understood, and not yet tested against the server".to_owned()
        }
    }
}

fn ended(last: &Ended) -> &'static str {
    if last.phase == BackupPhase::PartiallyFailed { "failed in part" } else { "failed" }
}

fn words(
    status: &BackupScheduleStatus,
    children: &Children,
    outlook: &Outlook<'_>,
    suspended: bool,
    now: Timestamp,
) -> String {
    let mut parts = Vec::new();
    if let Some(last) = &children.last_ended
        && last.phase != BackupPhase::Succeeded
    {
        parts.push(format!("last {}: {} ({})", ended(last), last.reason, last.name));
    }
    if let Some(failure) = &outlook.repository_trouble {
        parts.push(failure.message.clone());
    }
    match (suspended, outlook.held, status.next_schedule_time) {
        (true, ..) => parts.push("suspended".to_owned()),
        (_, Some(_), _) => {
            let running = children.active.first().map_or("a backup", String::as_str);
            parts.push(format!("a slot waits for {running}"));
        }
        (_, None, Some(next)) => {
            parts.push(format!("next {}", display::upcoming(next, now, outlook.zone)));
        }
        (_, None, None) => {}
    }
    match status.last_successful_time {
        Some(time) => parts.push(format!("last ok {}", display::ago(time, now))),
        None => parts.push("never succeeded".to_owned()),
    }
    parts.join(", ")
}
