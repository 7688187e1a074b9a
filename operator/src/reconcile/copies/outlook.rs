//! How far the copies of a schedule have come, from what the watch knows of its backups.

use dbbackup_contract::Failure;
use dbbackup_crds::{Backup, BackupSchedule, Condition, CopyPhase, ScheduleCopyStatus};
use jiff::Timestamp;

use super::turn::order;
use super::wanted::{Wanted, of_schedule, source_snapshot};
use crate::conditions::{sentence, with_condition};
use crate::reasons::{self, COPIED_TYPE};

/// How far the backups are copied to one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Name of the copy.
    pub name: String,
    /// Whether the newest backup is copied; `None` where there is none to copy.
    pub is_newest_there: Option<bool>,
    /// Backups that are not copied.
    pub missing: u32,
    /// Since when the oldest of these waits that is newer than all that are copied.
    pub behind_since: Option<Timestamp>,
    /// What the oldest of these waits for, or failed with.
    pub failure: Option<Failure>,
    /// When a backup was last copied.
    pub last_success: Option<Timestamp>,
}

/// How far `backups`, all of the schedule, are copied.
#[must_use]
pub fn outlook(schedule: &BackupSchedule, backups: &[&Backup]) -> Vec<Outlook> {
    let mut backups: Vec<&Backup> = backups.to_vec();
    backups.sort_by_key(|backup| order(backup));
    of_schedule(schedule).iter().map(|wanted| of_place(wanted, &backups)).collect()
}

/// `backups` from the oldest to the newest.
fn of_place(wanted: &Wanted, backups: &[&Backup]) -> Outlook {
    let mut outlook = Outlook { name: wanted.name.clone(), ..Outlook::default() };
    for status in backups.iter().filter_map(|backup| backup.status.as_ref()) {
        let entry = wanted.entry(status);
        if let Some(copy) = entry.filter(|copy| copy.phase.is_done()) {
            outlook.last_success = outlook.last_success.max(copy.completion_time);
        }
        if source_snapshot(status).is_none() {
            continue;
        }
        let is_there = entry.is_some_and(|copy| copy.phase.is_done());
        outlook.is_newest_there = Some(is_there);
        if is_there {
            (outlook.behind_since, outlook.failure) = (None, None);
            continue;
        }
        outlook.missing = outlook.missing.saturating_add(1);
        outlook.behind_since = outlook.behind_since.or(status.completion_time);
        // What an attempt that runs says of the one before is no trouble yet.
        let stands = |copy: &&dbbackup_crds::CopyStatus| copy.phase != CopyPhase::Running;
        let failure = entry.filter(stands).and_then(|copy| copy.error.clone());
        outlook.failure = outlook.failure.take().or(failure);
    }
    outlook
}

/// What the schedule's status keeps. The time of the last success stays when the object of
/// that backup goes.
#[must_use]
pub fn status(known: &[ScheduleCopyStatus], outlooks: &[Outlook]) -> Vec<ScheduleCopyStatus> {
    let before = |name: &str| known.iter().find(|copy| copy.name == name);
    let now = outlooks.iter().map(|outlook| ScheduleCopyStatus {
        name: outlook.name.clone(),
        last_successful_time: outlook
            .last_success
            .max(before(&outlook.name).and_then(|copy| copy.last_successful_time)),
        missing: outlook.missing,
        behind_since: outlook.behind_since,
    });
    now.collect()
}

/// The conditions with `Copied`: whether the newest backup is everywhere that it should be.
/// Without copies, or before there is something to copy, there is none.
#[must_use]
pub fn condition(
    mut conditions: Vec<Condition>,
    outlooks: &[Outlook],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let judged = outlooks.iter().filter(|outlook| outlook.is_newest_there.is_some());
    if judged.clone().next().is_none() {
        conditions.retain(|condition| condition.type_ != COPIED_TYPE);
        return conditions;
    }
    let behind = || judged.clone().filter(|outlook| outlook.is_newest_there == Some(false));
    let is_there = behind().next().is_none();
    // The one with trouble gives the reason.
    let trouble = behind().find_map(|outlook| outlook.failure.as_ref());
    let reason = match (is_there, trouble) {
        (true, _) => reasons::SUCCEEDED,
        (false, None) => reasons::COPYING,
        (false, Some(failure)) => failure.reason.as_str(),
    };
    let words: Vec<String> = if is_there {
        let older: u32 = judged.map(|outlook| outlook.missing).sum();
        let done = "all copies of the newest backup are done".to_owned();
        let late = (older > 0).then(|| format!("{older} of older ones are not"));
        [Some(done), late].into_iter().flatten().collect()
    } else {
        behind().map(behind_words).collect()
    };
    let said = (COPIED_TYPE, is_there, reason, words.join("; "));
    with_condition(conditions, said, generation, now)
}

/// `second-region is behind since 2026-11-20T01:17:32Z, 2 backups are not copied: …`
fn behind_words(outlook: &Outlook) -> String {
    let since = outlook.behind_since.map(|time| format!(" since {time}")).unwrap_or_default();
    let (count, noun) = match outlook.missing {
        1 => (1, "backup is"),
        count => (count, "backups are"),
    };
    let why = outlook.failure.as_ref().map(|failure| format!(": {}", sentence(failure)));
    format!(
        "{} is behind{since}, {count} {noun} not copied{}",
        outlook.name,
        why.unwrap_or_default()
    )
}

/// What keeps copies from being made, for the schedule's column: nothing, mostly.
#[must_use]
pub fn trouble(outlooks: &[Outlook]) -> Option<String> {
    let (outlook, failure) =
        outlooks.iter().find_map(|outlook| Some((outlook, outlook.failure.as_ref()?)))?;
    Some(format!("copy {} behind: {}", outlook.name, failure.reason))
}
