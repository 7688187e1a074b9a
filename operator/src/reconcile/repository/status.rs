//! The status of a `BackupRepository`.

use dbbackup_contract::{Failure, InitReport};
use dbbackup_crds::{BackupRepositoryStatus, KeySlotStatus, RepositoryBytes};
use jiff::Timestamp;

use crate::conditions::{Standing, Verdict, conditions};
use crate::display;
use crate::reasons;
use crate::run::Waiting;

/// What it means that an entry of `encryption.keys` opens nothing though another one
/// does: the repository's format lets this release only read.
const UNUSABLE_KEYS: &str = "These entries of encryption.keys cannot be used, neither for backups \
    nor for restores. Keep a key that opens the repository.";

/// It is being opened. What stood before a retry of the same spec stays: it
/// still holds, and a status that flaps helps nobody.
#[must_use]
pub fn opening(
    mut status: BackupRepositoryStatus,
    waiting: Option<&Waiting>,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupRepositoryStatus {
    let waiting =
        waiting.filter(|waiting| waiting.cause.is_some() || waiting.last_failure.is_some());
    let is_retry = status.observed_generation == generation && status.attempts > Some(1);
    if is_retry && waiting.is_none() {
        return status;
    }
    let (verdict, words) = match waiting {
        Some(waiting) => {
            let failure = waiting.cause.as_ref().or(waiting.last_failure.as_ref());
            let why = failure.map_or("", |failure| failure.message.as_str());
            (Verdict::of_start(waiting), format!("opening: {why}"))
        }
        None => (
            Verdict::new(Standing::Reconciling, reasons::OPENING, "the repository is being opened"),
            "opening".to_owned(),
        ),
    };
    status.display = Some(display::shortened(words));
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status.observed_generation = generation;
    status
}

/// It has been opened.
#[must_use]
pub fn opened(
    mut status: BackupRepositoryStatus,
    report: &InitReport,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupRepositoryStatus {
    status.id.clone_from(&report.repository_id);
    status.report = None;
    status.next_attempt_time = None;
    status.snapshot_count = Some(report.snapshot_count);
    status.bytes =
        Some(RepositoryBytes { logical: report.logical_bytes, stored: report.stored_bytes });
    let before = std::mem::take(&mut status.key_slots);
    status.key_slots = report
        .key_slots
        .iter()
        .map(|slot| KeySlotStatus {
            name: slot.name.clone(),
            opened: slot.opened,
            slot: slot.slot.clone(),
            last_opened_time: if slot.opened {
                Some(now)
            } else {
                before.iter().find(|old| old.name == slot.name).and_then(|old| old.last_opened_time)
            },
        })
        .collect();
    let closed: Vec<&str> = report
        .key_slots
        .iter()
        .filter(|slot| !slot.opened)
        .map(|slot| slot.name.as_str())
        .collect();
    let (column, message) = if closed.is_empty() {
        (words(report), words(report))
    } else {
        let (words, closed) = (words(report), closed.join(", "));
        let column = format!("{words}; unusable keys: {closed}");
        (column, format!("{words}. Warning: not opened by: {closed}. {UNUSABLE_KEYS}"))
    };
    let message = format!("{message}{}", changes(report, &before));
    let column = match crate::reconcile::maintenance::trouble(&status.conditions) {
        None => column,
        Some(trouble) => format!("{column}; {trouble}"),
    };
    status.display = Some(display::shortened(column));
    let verdict = Verdict::new(Standing::Ready, reasons::OPENED, message);
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status.observed_generation = generation;
    status
}

/// It could not be opened, and is tried again at `next`.
#[must_use]
pub fn failed(
    mut status: BackupRepositoryStatus,
    failure: &Failure,
    next: Timestamp,
    generation: Option<i64>,
    now: Timestamp,
) -> BackupRepositoryStatus {
    let standing = if failure.is_retryable() { Standing::Reconciling } else { Standing::Stalled };
    let mut verdict = Verdict::of_failure(standing, failure);
    // Not the time itself: a message that changes each minute helps nobody.
    let when = match next.duration_since(now).as_secs() {
        ..=60 => " It is tried again within a minute.",
        61..=300 => " It is tried again within five minutes.",
        _ => "",
    };
    let dot = if verdict.message.ends_with('.') { "" } else { "." };
    verdict.message.push_str(&format!("{dot}{when}"));
    status.report = None;
    status.next_attempt_time = Some(next);
    status.display = Some(display::failure(failure));
    status.conditions = conditions(&status.conditions, &verdict, generation, now);
    status.observed_generation = generation;
    status
}

/// What was done about key slots, and which ones no entry of the spec opens: whoever
/// has their secrets reads the backups.
fn changes(report: &InitReport, before: &[KeySlotStatus]) -> String {
    let added: Vec<&str> =
        report.key_slots.iter().filter(|slot| slot.added).map(|slot| slot.name.as_str()).collect();
    let removed: Vec<&str> = report
        .removed_slots
        .iter()
        .map(|id| {
            let entry = before.iter().find(|slot| slot.slot.as_ref() == Some(id));
            entry.map_or(id.as_str(), |slot| slot.name.as_str())
        })
        .collect();
    let others: Vec<&str> = report.other_slots.iter().map(String::as_str).collect();
    let told = |what: &str, names: &[&str]| match names {
        [] => String::new(),
        names => format!(". {what}: {}", names.join(", ")),
    };
    [
        told("Key slots added", &added),
        told("Key slots removed", &removed),
        told("Key slots that no entry of encryption.keys opens", &others),
    ]
    .concat()
}

/// What was found when it was opened: it stays true when backups come.
fn words(report: &InitReport) -> String {
    if report.created {
        return "created".to_owned();
    }
    let noun = if report.snapshot_count == 1 { "snapshot" } else { "snapshots" };
    format!(
        "opened with {} {noun}, {} stored of {}",
        report.snapshot_count,
        display::bytes(report.stored_bytes),
        display::bytes(report.logical_bytes)
    )
}
