//! The status of a `BackupSchedule`.

use dbbackup_contract::{Failure, listed};
use dbbackup_crds::{BackupPhase, BackupSchedule, BackupScheduleStatus, LastBackup, LocalRef};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{
    AttemptTrouble, Children, DrillOutlook, Ended, LogOutlook, archiver, drill, preflight,
};
use crate::conditions::{Standing, Verdict, conditions, sentence};
use crate::display;
use crate::reasons;
use crate::reconcile::backup::hooks;
use crate::reconcile::{copies, notifications};

/// What is known of the time to come.
#[derive(Clone, Debug)]
pub struct Outlook<'a> {
    /// The next slot.
    pub next: Option<Timestamp>,
    /// The schedule's zone.
    pub zone: &'a TimeZone,
    /// A slot that waits for backups that run.
    pub held: Option<Timestamp>,
    /// Why no backup begins now: the repository cannot be used, or no `Backup` be created.
    pub trouble: Option<Failure>,
    /// What is to be told of a look ahead that goes on and does not go well.
    pub ahead: Option<AttemptTrouble>,
    /// How the archiving of the server's log stands, if that is wanted.
    pub log: Option<&'a LogOutlook>,
    /// How the drills stand.
    pub drill: Option<&'a DrillOutlook>,
}

#[cfg(test)]
impl<'a> Outlook<'a> {
    /// Nothing is due, and nothing stands in the way.
    pub(crate) fn calm(zone: &'a TimeZone) -> Self {
        let (held, trouble, ahead) = (None, None, None);
        Self { next: None, zone, held, trouble, ahead, log: None, drill: None }
    }
}

/// Most active backups that are listed.
const MAX_ACTIVE: usize = 100;
/// Most databases that a message names.
const MAX_NAMED: usize = 5;

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
    status.copies = copies::schedule_copies(&status.copies, &children.copies);
    let ahead = preflight_trouble(schedule, &status, children);
    let words = words(schedule, &status, children, outlook, ahead, now);
    status.display = Some(display::shortened(words));
    let verdict = verdict(schedule, &status, children, outlook);
    let generation = schedule.metadata.generation;
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status.conditions = copies::condition(status.conditions, &children.copies, generation, now);
    status.conditions =
        notifications::condition(status.conditions, &children.told, generation, now);
    status.conditions = archiver::condition(status.conditions, outlook.log, generation, now);
    status.conditions =
        drill::condition(status.conditions.clone(), schedule, &status, outlook.drill, now);
    status.observed_generation = generation;
    status
}

/// How a schedule that is understood stands: its last backup is the test of it, and where there
/// was none of the present spec, a look ahead. Nothing that runs backups looks at this; a
/// schedule that is not ready starts them all the same.
fn verdict(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    children: &Children,
    outlook: &Outlook<'_>,
) -> Verdict {
    let suspended = schedule.spec.suspend;
    if let Some(failure) = &outlook.trouble {
        return Verdict::of_failure(Standing::Reconciling, failure);
    }
    let failed = children.last_ended.as_ref().and_then(|last| Some((last, last.failure.as_ref()?)));
    let told = failed
        .map(|(last, failure)| format!("the last backup {}: {}", ended(last), sentence(failure)));
    if let (Some((last, failure)), Some(told)) = (failed, &told)
        && !is_of_an_earlier_spec(last, schedule, status)
    {
        // The next slot tries it again, if there is one and trying can help.
        let goes_on = failure.is_retryable() && !suspended;
        let standing = if goes_on { Standing::Reconciling } else { Standing::Stalled };
        return Verdict::new(standing, failure.reason.as_str(), told);
    }
    if let Some(trouble) = outlook.log.and_then(|log| log.trouble.as_ref()) {
        return trouble.clone();
    }
    let mut verdict = if suspended {
        let message = "no backup is started: spec.suspend";
        Verdict::new(Standing::Ready, reasons::SUSPENDED, message)
    } else {
        of_proof(schedule, status, children, outlook.ahead.as_ref())
    };
    if let (Standing::Ready, Some(told)) = (&verdict.standing, told) {
        verdict.message = format!("{}; before this spec, {told}", verdict.message);
    }
    verdict
}

/// Whether a backup began before the present spec was there. Somebody has changed something
/// since, or made the schedule anew: that it does not work cannot be said of this spec.
fn is_of_an_earlier_spec(
    last: &Ended,
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
) -> bool {
    let since = match schedule.metadata.generation {
        // A backup may begin before a new schedule is looked at.
        Some(1) => schedule.metadata.creation_timestamp.as_ref().map(|time| time.0),
        _ => status.generation_time,
    };
    last.began.zip(since).is_some_and(|(began, since)| began < since)
}

/// How it stands by what was proved of its backups: by one of them, or by a look ahead. One
/// that goes on badly says it before its end, unless somebody has to do something anyway.
fn of_proof(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    children: &Children,
    goes_on_badly: Option<&AttemptTrouble>,
) -> Verdict {
    if let Some(failure) = preflight_trouble(schedule, status, children) {
        let last = preflight::last(schedule, status);
        let may_come = last.is_some_and(|last| preflight::may_come(schedule, status, last));
        let goes_on = failure.is_retryable() || may_come;
        if let (true, Some(trouble)) = (goes_on, goes_on_badly) {
            return trouble.verdict.clone();
        }
        let standing = if goes_on { Standing::Reconciling } else { Standing::Stalled };
        let words = sentence(failure);
        let again = match may_come {
            true if words.ends_with('.') => " It is looked again within a minute.",
            true => ". It is looked again within a minute.",
            false => "",
        };
        let message = format!("a backup would fail: {words}{again}");
        return Verdict::new(standing, failure.reason.as_str(), message);
    }
    let proved = preflight::proved(schedule, status, children);
    if let (None, Some(trouble)) = (proved, goes_on_badly) {
        return trouble.verdict.clone();
    }
    // What became of the last backup's hooks holds, whatever proved last that one would work.
    let of_hooks = children.last_ended.as_ref().and_then(|last| last.of_hooks.as_ref());
    match (proved, preflight::last(schedule, status)) {
        (None, _) => {
            let message = "it is looked whether backups would work";
            Verdict::new(Standing::Reconciling, reasons::PREFLIGHT, message)
        }
        (Some(proved), Some(last)) if last.time == proved => {
            let databases = display::databases(last.database_count);
            let but = but(hooks::trouble(&last.hooks).as_ref().or(of_hooks));
            let how = preflight::how(schedule.spec.method);
            let message = format!("{databases} can be backed up{how}{but}");
            Verdict::new(Standing::Ready, reasons::PREFLIGHT_PASSED, message)
        }
        (Some(_), _) => {
            let but = but(of_hooks);
            let message = format!("the schedule is understood; its last backup succeeded{but}");
            Verdict::new(Standing::Ready, reasons::ACCEPTED, message)
        }
    }
}

/// What of hooks stands beside a success.
fn but(of_hooks: Option<&Failure>) -> String {
    of_hooks.map(|failure| format!("; but {}", sentence(failure))).unwrap_or_default()
}

/// `nightly-1 failed`, `nightly-1 left out the databases crm, erp`.
fn ended(last: &Ended) -> String {
    let names = listed(&last.left_out, MAX_NAMED);
    let how = match (last.phase, last.left_out.len()) {
        (BackupPhase::PartiallyFailed, 0) => "failed in part".to_owned(),
        (BackupPhase::PartiallyFailed, 1) => format!("left out the database {names}"),
        (BackupPhase::PartiallyFailed, _) => format!("left out the databases {names}"),
        _ => "failed".to_owned(),
    };
    format!("{} {how}", last.name)
}

/// What a look ahead has found, where nothing has proved the contrary since.
fn preflight_trouble<'a>(
    schedule: &BackupSchedule,
    status: &'a BackupScheduleStatus,
    children: &Children,
) -> Option<&'a Failure> {
    let last = preflight::last(schedule, status)?;
    let proved = preflight::proved(schedule, status, children);
    last.error.as_ref().filter(|_| proved.is_none_or(|proved| proved < last.time))
}

fn words(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    children: &Children,
    outlook: &Outlook<'_>,
    ahead: Option<&Failure>,
    now: Timestamp,
) -> String {
    let mut parts = Vec::new();
    if let Some(last) = &children.last_ended
        && let Some(failure) = &last.failure
    {
        let partly = if last.phase == BackupPhase::PartiallyFailed { " in part" } else { "" };
        parts.push(format!("last failed{partly}: {} ({})", failure.reason, last.name));
    }
    if let Some(last) = &children.last_ended
        && last.of_hooks.is_some()
    {
        parts.push(format!("a hook failed ({})", last.name));
    }
    if let Some(failure) = &outlook.trouble {
        parts.push(failure.message.clone());
    }
    parts.extend(ahead.map(|failure| format!("a backup would fail: {}", failure.reason)));
    parts.extend(outlook.ahead.as_ref().map(|trouble| trouble.words.clone()));
    parts.extend(copies::trouble(&children.copies));
    parts.extend(notifications::trouble(&children.told));
    parts.extend(drill::trouble(schedule, status, outlook.drill));
    // Where it goes well it comes last.
    let log = outlook.log.map(|log| log.words.clone());
    let is_archived = outlook.log.is_some_and(|log| log.holds);
    parts.extend(log.clone().filter(|_| !is_archived));
    match (schedule.spec.suspend, outlook.held, status.next_schedule_time) {
        (true, ..) => parts.push("suspended".to_owned()),
        (_, Some(_), _) => {
            let first = children.active.first().map(String::as_str);
            let waits_for = if children.awaits_log { "the log's archiver" } else { "a backup" };
            let running = first.unwrap_or(waits_for);
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
    parts.extend(log.filter(|_| is_archived));
    parts.join(", ")
}
