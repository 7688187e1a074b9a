//! Words for people: the column that answers "is it fine?".

use std::collections::BTreeMap;

use dbbackup_contract::{
    BackupReport, DatabaseCount, Failure, PlannedAction, Progress, ProgressPhase, Reason,
    RecoverReport, RestorePlan, RestoreReport, listed,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::run::Waiting;

/// `1.3 GB`: decimal units, two digits that count.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit > 0 && value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// `2m32s`, `45s`, `3h05m`.
#[must_use]
pub fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long ago, in steps of an hour or a day: a status is not rewritten every minute.
#[must_use]
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    let hours = now.duration_since(time).as_hours().max(0);
    match hours {
        0 => "under 1h ago".to_owned(),
        1..48 => format!("{hours}h ago"),
        _ => format!("{}d ago", hours / 24),
    }
}

/// A time to come, in a zone: `02:15`, `Sun 02:15`, `2026-12-01 02:15 Europe/Berlin`.
#[must_use]
pub fn upcoming(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned(zone.clone());
    let hours = time.duration_since(now).as_hours();
    let format = match hours {
        ..24 => "%H:%M",
        24..168 => "%a %H:%M",
        _ => "%Y-%m-%d %H:%M",
    };
    let words = local.strftime(format).to_string();
    match zone.iana_name() {
        None | Some("UTC" | "Etc/UTC") => words,
        Some(name) => format!("{words} {name}"),
    }
}

/// `2 of 3 databases`, `1 database`.
#[must_use]
pub fn databases(count: DatabaseCount) -> String {
    let noun = if count.total == 1 { "database" } else { "databases" };
    if count.failed == 0 {
        format!("{} {noun}", count.succeeded)
    } else {
        format!("{} of {} {noun}", count.succeeded, count.total)
    }
}

/// A failure in a column: the reason, and the beginning of the message.
#[must_use]
pub fn failure(failure: &Failure) -> String {
    shortened(format!("{}: {}", failure.reason, failure.message))
}

/// A line for a column: no line breaks, at most 120 characters.
#[must_use]
pub fn shortened(text: String) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    if line.chars().count() <= 120 {
        return line;
    }
    line.chars().take(119).chain(['…']).collect()
}

/// A backup that has ended.
#[must_use]
pub fn backup(report: &BackupReport) -> String {
    let took = duration(report.completion_time.duration_since(report.start_time));
    let words =
        format!("{}, {} in {took}", databases(report.database_count), bytes(report.bytes.read));
    let failed: Vec<_> = report.hooks.iter().filter(|hook| hook.error.is_some()).collect();
    match *failed.as_slice() {
        [] => words,
        [hook] => format!("{words}; hook {} failed", hook.name),
        ref several => format!("{words}; {} hooks failed", several.len()),
    }
}

/// A restore that has ended.
#[must_use]
pub fn restore(report: &RestoreReport) -> String {
    let took = duration(report.completion_time.duration_since(report.start_time));
    format!("{}, {} in {took}", databases(report.database_count), bytes(report.restored_bytes))
}

/// What a look has found: `found: 0/5A2B1C8 on timeline 1 (2026-11-20 13:36:59 UTC); needs 12 GB`.
#[must_use]
pub fn found(report: &RecoverReport) -> String {
    let Some(point) = &report.resolved_target else { return "found".to_owned() };
    let at = point.time.map_or_else(String::new, |time| format!(" ({})", moment(time)));
    let needed = bytes(report.needed_bytes);
    format!("found: {} on timeline {}{at}; needs {needed}", point.lsn, point.timeline)
}

/// A recovery that has ended, to the time that was `asked` for or to what the server says:
/// `recovered to 2026-11-20 13:37:00 UTC on the claim shop-1437 in 3m10s`.
#[must_use]
pub fn recovery(report: &RecoverReport, asked: Option<Timestamp>, claim: &str) -> String {
    let took = duration(report.completion_time.duration_since(report.start_time));
    let to = match (asked, &report.reached) {
        (Some(time), _) => moment(time),
        (None, Some(point)) => {
            let last = point.last_transaction_time.map(moment);
            last.map_or_else(|| point.lsn.clone(), |last| format!("{} ({last})", point.lsn))
        }
        (None, None) => "nowhere".to_owned(),
    };
    format!("recovered to {to} on the claim {claim} in {took}")
}

/// `2026-11-20 13:37:00.25 UTC`.
fn moment(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.f UTC").to_string()
}

/// What a restore is going to do: `replaces shop; creates crm, erp`, and what stands in its way
/// now and may pass: `refused as it is now: DatabaseInUse (shop)`.
#[must_use]
pub fn plan(plan: &RestorePlan) -> String {
    let mut parts = Vec::new();
    for (action, verb) in [
        (PlannedAction::Replace, "replaces"),
        (PlannedAction::Create, "creates"),
        (PlannedAction::Done, "has done"),
        (PlannedAction::Refuse, "refuses"),
    ] {
        let names: Vec<_> = plan.databases.iter().filter(|it| it.action == action).collect();
        if !names.is_empty() {
            let shown: Vec<_> = names.iter().map(|it| it.target_name()).collect();
            parts.push(format!("{verb} {}", listed(&shown, 3)));
        }
    }
    parts.extend(refused_now(plan));
    if parts.is_empty() { "nothing is to be done".to_owned() } else { parts.join("; ") }
}

/// Of databases whose plan stands, what they would be refused by at present.
fn refused_now(plan: &RestorePlan) -> Option<String> {
    let mut by_reason: BTreeMap<Reason, Vec<&str>> = BTreeMap::new();
    for database in plan.databases.iter().filter(|it| it.action != PlannedAction::Refuse) {
        if let Some(error) = &database.error {
            by_reason.entry(error.reason).or_default().push(database.target_name());
        }
    }
    let told: Vec<_> = by_reason
        .iter()
        .map(|(reason, names)| format!("{reason} ({})", listed(names, 3)))
        .collect();
    (!told.is_empty()).then(|| format!("refused as it is now: {}", told.join(", ")))
}

/// A run that goes on: `42%, 1.2 GB of 2.9 GB, 2m05s left`; a server that replays its log:
/// `replayed to 0/5901F30, 83%, 2m00s left`.
#[must_use]
pub fn progress(progress: Option<&Progress>) -> String {
    let Some(progress) = progress else { return "running".to_owned() };
    let mut parts = Vec::new();
    let replays = progress.phase == ProgressPhase::Recovering;
    if replays && let Some(position) = &progress.position {
        parts.push(format!("replayed to {position}"));
    }
    if let Some(percent) = progress.percent {
        parts.push(format!("{percent}%"));
    }
    match progress.bytes_total {
        // How much log that is says little: the position says where it is.
        _ if replays => {}
        Some(total) => {
            parts.push(format!("{} of {}", bytes(progress.bytes_done), bytes(total)));
        }
        None if progress.bytes_done > 0 => parts.push(bytes(progress.bytes_done)),
        None => {}
    }
    if let Some(left) = progress.remaining_seconds.and_then(|s| i64::try_from(s).ok()) {
        parts.push(format!("{} left", duration(SignedDuration::from_secs(left))));
    }
    if parts.is_empty() { "running".to_owned() } else { parts.join(", ") }
}

/// A run whose first or next pod has not started.
#[must_use]
pub fn start(waiting: &Waiting) -> String {
    let words = match (waiting.attempt, &waiting.cause) {
        (..=1, None) => "starting".to_owned(),
        (..=1, Some(cause)) => format!("starting: {}", cause.message),
        (number, None) => format!("attempt {number} is starting"),
        (number, Some(cause)) => format!("attempt {number} is starting: {}", cause.message),
    };
    match &waiting.last_failure {
        None => words,
        Some(last) => format!("{words}; before: {}: {}", last.reason, last.message),
    }
}

/// A run that goes on after an attempt that failed: how far it is, and what that one failed with.
#[must_use]
pub fn attempt(number: u32, last: Option<&Failure>, so_far: Option<&Progress>) -> String {
    let words = progress(so_far);
    match last {
        None => words,
        Some(failure) if words == "running" => {
            format!("attempt {number}: {}: {}", failure.reason, failure.message)
        }
        Some(failure) => {
            format!("attempt {number}: {words}; before: {}: {}", failure.reason, failure.message)
        }
    }
}

/// `gave up after 4 attempts: `, where an error might have passed and did not.
#[must_use]
pub fn gave_up(failure: &Failure, attempts: u32) -> String {
    match attempts {
        _ if !failure.is_retryable() => String::new(),
        0 => String::new(),
        1 => "gave up after 1 attempt: ".to_owned(),
        _ => format!("gave up after {attempts} attempts: "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_two_digits_that_count() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_300_000_000, "1.3 GB"),
            (15_728_640, "16 MB"),
            (999_999, "1.0 MB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn durations_and_ages_read_like_speech() {
        for (seconds, text) in [(0, "0s"), (152, "2m32s"), (11_100, "3h05m"), (-5, "0s")] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
        }
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        for (hours, text) in [(0, "under 1h ago"), (7, "7h ago"), (47, "47h ago"), (49, "2d ago")] {
            assert_eq!(ago(now - SignedDuration::from_hours(hours), now), text);
        }
    }

    #[test]
    fn a_time_to_come_names_the_day_when_it_is_not_near() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (time, text) in [
            ("2026-11-21T02:15:00Z", "03:15"),
            ("2026-11-22T02:15:00Z", "Sun 03:15"),
            ("2026-12-24T02:15:00Z", "2026-12-24 03:15"),
        ] {
            let words = upcoming(time.parse().unwrap(), now, &zone);
            assert_eq!(words, format!("{text} Europe/Berlin"));
        }
        for utc in [TimeZone::UTC, TimeZone::get("Etc/UTC").unwrap()] {
            assert_eq!(upcoming("2026-11-21T02:15:00Z".parse().unwrap(), now, &utc), "02:15");
        }
    }

    #[test]
    fn counts_mention_failures_only_where_there_are_some() {
        let count =
            |succeeded, failed| DatabaseCount { total: succeeded + failed, succeeded, failed };
        assert_eq!(databases(count(3, 0)), "3 databases");
        assert_eq!(databases(count(1, 0)), "1 database");
        assert_eq!(databases(count(2, 1)), "2 of 3 databases");
    }

    #[test]
    fn a_run_that_starts_says_which_attempt_it_is_and_why() {
        let quota = Failure::new(Reason::PodRejected, "exceeded quota: tight");
        let host = Failure::new(Reason::HostNotFound, "host x is not known");
        for (attempt, cause, last_failure, text) in [
            (1, None, None, "starting"),
            (1, Some(&quota), None, "starting: exceeded quota: tight"),
            (
                2,
                None,
                Some(&host),
                "attempt 2 is starting; before: HostNotFound: host x is not known",
            ),
            (
                2,
                Some(&quota),
                Some(&host),
                "attempt 2 is starting: exceeded quota: tight; before: HostNotFound: host x is not known",
            ),
        ] {
            let (cause, last_failure) = (cause.cloned(), last_failure.cloned());
            let until = Timestamp::UNIX_EPOCH;
            let waiting = Waiting { attempt, last_failure, cause, until, limit: "" };
            assert_eq!(start(&waiting), text);
        }
    }

    #[test]
    fn a_server_that_replays_its_log_says_where_it_is() {
        let at = |phase| Progress {
            phase,
            position: Some("0/5901F30".into()),
            percent: Some(83),
            bytes_done: 1_300_000_000,
            remaining_seconds: Some(120),
            ..Progress::default()
        };
        let words = progress(Some(&at(ProgressPhase::Recovering)));
        assert_eq!(words, "replayed to 0/5901F30, 83%, 2m00s left");
        let words = progress(Some(&at(ProgressPhase::Transferring)));
        assert_eq!(words, "83%, 1.3 GB, 2m00s left");
    }

    #[test]
    fn a_run_that_was_begun_again_says_why() {
        let failure = Failure::new(Reason::HostNotFound, "host x is not known");
        let some = Progress { bytes_done: 1_300_000_000, ..Progress::default() };
        for (last, so_far, text) in [
            (None, None, "running"),
            (Some(&failure), None, "attempt 2: HostNotFound: host x is not known"),
            (
                Some(&failure),
                Some(&some),
                "attempt 2: 1.3 GB; before: HostNotFound: host x is not known",
            ),
        ] {
            assert_eq!(attempt(2, last, so_far), text);
        }
        let fatal = Failure::new(Reason::WrongPassword, "no");
        for (failure, attempts, text) in [
            (&failure, 0, ""),
            (&failure, 1, "gave up after 1 attempt: "),
            (&failure, 4, "gave up after 4 attempts: "),
            (&fatal, 4, ""),
        ] {
            assert_eq!(gave_up(failure, attempts), text);
        }
    }
}
