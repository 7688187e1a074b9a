//! Whether those who are to be told of a schedule's backups can be, from what the watch knows
//! of them.

use dbbackup_contract::Failure;
use dbbackup_crds::{Backup, BackupSchedule, Condition, NotificationPhase, NotificationStatus};
use jiff::Timestamp;

use super::due::ended;
use crate::conditions::{sentence, with_condition};
use crate::reasons::{self, NOTIFIED_TYPE};

/// What became of the last message to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Name of the notification.
    pub name: String,
    /// Why it did not arrive, or not yet.
    pub failure: Option<Failure>,
}

/// What became of the last message of each notification; of those alone that had one.
#[must_use]
pub fn outlook(schedule: &BackupSchedule, backups: &[&Backup]) -> Vec<Outlook> {
    let names = schedule.spec.notifications.iter().map(|spec| spec.name.as_str());
    names.filter_map(|name| of_one(name, backups)).collect()
}

fn of_one(name: &str, backups: &[&Backup]) -> Option<Outlook> {
    let of = |backup: &&Backup| {
        let entries = backup.status.iter().flat_map(|status| &status.notifications);
        let known = |entry: &&NotificationStatus| {
            entry.name == name && (entry.phase == NotificationPhase::Sent || entry.error.is_some())
        };
        Some((ended(backup)?, entries.into_iter().find(known)?.clone()))
    };
    let newest = backups.iter().filter_map(of).max_by_key(|(ended, _)| *ended);
    newest.map(|(_, entry)| Outlook { name: name.to_owned(), failure: entry.error })
}

/// The conditions with `Notified`: whether the last message of each notification has arrived.
/// Before there was one there is none.
#[must_use]
pub fn condition(
    mut conditions: Vec<Condition>,
    outlooks: &[Outlook],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    if outlooks.is_empty() {
        conditions.retain(|condition| condition.type_ != NOTIFIED_TYPE);
        return conditions;
    }
    let troubled: Vec<(&str, &Failure)> = outlooks.iter().filter_map(troubled).collect();
    let reason =
        troubled.first().map_or(reasons::SUCCEEDED, |(_, failure)| failure.reason.as_str());
    let words = if troubled.is_empty() {
        "the last message of each notification has arrived".to_owned()
    } else {
        let words = troubled.iter().map(|(name, failure)| format!("{name}: {}", sentence(failure)));
        words.collect::<Vec<_>>().join("; ")
    };
    let said = (NOTIFIED_TYPE, troubled.is_empty(), reason, words);
    with_condition(conditions, said, generation, now)
}

fn troubled(outlook: &Outlook) -> Option<(&str, &Failure)> {
    Some((&outlook.name, outlook.failure.as_ref()?))
}

/// Who could not be told, for the schedule's column: nobody, mostly.
#[must_use]
pub fn trouble(outlooks: &[Outlook]) -> Option<String> {
    let (name, failure) = outlooks.iter().find_map(troubled)?;
    Some(format!("notification {name}: {}", failure.reason))
}
