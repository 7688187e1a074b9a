use dbbackup_contract::{LogGap, Reason};
use dbbackup_crds::BackupSchedule;
use jiff::tz::TimeZone;
use serde_json::json;

use super::*;
use crate::reconcile::schedule::{Children, Outlook, standing};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-23T12:00:00Z";

/// The archiver j, begun an hour ago, which said ten seconds ago that it archives.
fn status(change: impl FnOnce(&mut ArchiverStatus, &mut LogStatus)) -> BackupScheduleStatus {
    let mut known = ArchiverStatus {
        job_name: Some("j".into()),
        start_time: Some(at("2026-11-23T11:00:00Z")),
        ..ArchiverStatus::default()
    };
    let mut log = LogStatus {
        state: ArchiverState::Streaming,
        time: Some(at("2026-11-23T11:59:50Z")),
        kept_time: Some(at("2026-11-23T11:59:48Z")),
        unbroken_since: Some(at("2026-11-20T00:00:00Z")),
        ..LogStatus::default()
    };
    change(&mut known, &mut log);
    BackupScheduleStatus {
        archiver: Some(Box::new(known)),
        log: Some(Box::new(log)),
        ..BackupScheduleStatus::default()
    }
}

fn base(began: &str) -> Base {
    Base { began: at(began), consistent: at(began), server: None }
}

fn seen_running(last_failure: Option<Failure>) -> Seen {
    Seen::Run(RunView::Running { attempts: 2, last_failure })
}

fn told(
    wanted: &Wanted,
    status: &BackupScheduleStatus,
    seen: Option<&Seen>,
    bases: &[Base],
) -> Option<LogOutlook> {
    let (max_lag, now) = (Duration::from_secs(1), at(NOW));
    outlook(&Facts { wanted, status, seen, bases, max_lag, now })
}

fn wanted() -> Wanted {
    Wanted::Archived("d".into())
}

#[test]
fn a_log_that_is_archived_says_how_far_behind_it_is_and_whether_there_is_a_base() {
    let plain = status(|_, _| ());
    let bases = [base("2026-11-21T02:00:00Z")];
    let found = told(&wanted(), &plain, None, &bases).unwrap();
    assert_eq!((found.holds, &*found.reason, &*found.words), (true, "Streaming", "log 2s behind"));
    assert_eq!(found.message, "the log is archived as the server writes it");
    let found = told(&wanted(), &plain, None, &[]).unwrap();
    assert!(found.holds && found.message.contains("before the first base"), "{found:?}");
    // The repository is not ready now; what streams goes on.
    let why = Failure::new(Reason::ReferenceNotReady, "x");
    let held = Wanted::Held { why, stops: false };
    assert!(told(&held, &plain, None, &bases).unwrap().holds);
}

#[test]
fn a_gap_counts_until_a_base_lies_behind_it() {
    let gap = LogGap {
        start: "0/3000000".into(),
        end: "0/9000000".into(),
        timeline: 1,
        after: None,
        time: at("2026-11-22T10:00:00Z"),
    };
    let broken = status(|_, log| {
        log.unbroken_since = Some(gap.time);
        (log.gaps, log.gap_count) = (vec![gap.clone()], 1);
    });
    let found = told(&wanted(), &broken, None, &[base("2026-11-22T02:00:00Z")]).unwrap();
    assert_eq!((found.holds, &*found.reason), (false, "LogMissing"));
    assert!(found.message.contains("from 0/3000000 to 0/9000000"), "{}", found.message);
    assert!(found.message.contains("the next base closes it"), "{}", found.message);
    assert_eq!(found.words, "log 2s behind, with a gap until the next base");
    assert_eq!(found.trouble, None, "it passes by itself");
    let found = told(&wanted(), &broken, None, &[base("2026-11-23T02:00:00Z")]).unwrap();
    assert_eq!((found.holds, found.trouble), (true, None));
}

#[test]
fn a_log_is_behind_by_a_minute_or_ten_times_what_was_asked_for() {
    let bases = [base("2026-11-21T02:00:00Z")];
    let behind = |seconds: i64, bytes| {
        let status = status(|_, log| {
            let said = log.time.unwrap();
            log.kept_time = Some(said - SignedDuration::from_secs(seconds));
            log.behind_bytes = bytes;
        });
        let (wanted, now) = (wanted(), at(NOW));
        let facts = |max_lag| Facts {
            wanted: &wanted,
            status: &status,
            seen: None,
            bases: &bases,
            max_lag,
            now,
        };
        [1, 60].map(|lag| outlook(&facts(Duration::from_secs(lag))).unwrap().reason)
    };
    assert_eq!(behind(60, 1), ["Streaming", "Streaming"]);
    assert_eq!(behind(61, 1), ["LogBehind", "Streaming"]);
    assert_eq!(behind(601, 1), ["LogBehind", "LogBehind"]);
    // Nothing has happened on the server meanwhile.
    assert_eq!(behind(601, 0), ["Streaming", "Streaming"]);
}

#[test]
fn a_log_that_is_not_archived_says_why_and_what_to_do() {
    let (none, wrong) = (None, Failure::new(Reason::WrongPassword, "the server refused alice"));
    let away = Failure::new(Reason::ServerUnreachable, "nothing answers").with_hint("Look.");
    let repository = Failure::new(Reason::RepositoryReadOnly, "only read").with_hint("Say so.");
    let waiting = status(|_, log| {
        (log.state, log.error) = (ArchiverState::Waiting, Some(away.clone()));
    });
    let ended = status(|known, _| {
        (known.job_name, known.error) = (None, Some(wrong.clone()));
        known.retry_time = Some(at("2026-11-23T12:00:10.5Z"));
    });
    let again = status(|known, _| {
        (known.error, known.start_time) = (Some(wrong.clone()), Some(at(NOW)));
    });
    let begun = status(|known, _| known.start_time = Some(at(NOW)));
    let silent = status(|_, log| log.time = Some(at("2026-11-23T11:57:59Z")));
    let running = seen_running(None);
    let quota = Failure::new(Reason::PodRejected, "exceeded quota").with_hint("");
    let quota = Seen::Run(RunView::Waiting(Waiting {
        attempt: 1,
        last_failure: None,
        cause: Some(quota),
        until: at(NOW),
        limit: "job.startTimeout",
    }));
    let held = Wanted::Held { why: repository, stops: true };
    for (wanted, status, seen, reason, words) in [
        (&wanted(), &waiting, Some(&running), "ServerUnreachable", "Look. It is tried again."),
        (&wanted(), &ended, none, "WrongPassword", "It is begun again at 2026-11-23T12:00:10Z."),
        (&wanted(), &again, Some(&running), "WrongPassword", "archiving had ended: the server"),
        (&wanted(), &begun, none, "Starting", "pod is starting"),
        (&wanted(), &begun, Some(&running), "Connecting", "connects to the server"),
        (&wanted(), &silent, Some(&running), "ArchiverSilent", "kubectl logs job/j"),
        (&wanted(), &begun, Some(&quota), "PodRejected", "exceeded quota. It is given up"),
        (&held, &begun, none, "RepositoryReadOnly", "only read. Say so."),
    ] {
        let found = told(wanted, status, seen, &[]).unwrap();
        assert_eq!((found.holds, &*found.reason), (false, reason), "{found:?}");
        assert!(found.message.contains(words), "{found:?}");
        assert_eq!(found.words, format!("log not archived: {reason}"));
        assert_eq!(found.trouble, None, "not yet");
    }
}

#[test]
fn a_log_that_is_not_archived_for_minutes_makes_its_schedule_not_ready() {
    let failing = |reason, since: &str| {
        let status = status(|known, _| {
            known.job_name = None;
            known.error = Some(Failure::new(reason, "x"));
            known.retry_time = Some(at("2026-11-23T12:05:00Z"));
            known.failing_since = Some(at(since));
        });
        told(&wanted(), &status, None, &[]).unwrap().trouble
    };
    let long = "2026-11-23T11:54:59Z";
    assert_eq!(failing(Reason::WrongPassword, "2026-11-23T11:55:00Z"), None);
    let trouble = failing(Reason::WrongPassword, long).unwrap();
    assert_eq!((&trouble.standing, &*trouble.reason), (&Standing::Stalled, "WrongPassword"));
    assert!(trouble.message.starts_with("the log is not archived: archiving has ended: x"));
    let trouble = failing(Reason::ServerUnreachable, long).unwrap();
    assert_eq!(trouble.standing, Standing::Reconciling);
}

#[test]
fn what_was_switched_off_is_told_until_its_slot_is_gone() {
    let off = Wanted::Dropped(None);
    let found = told(&off, &status(|_, _| ()), None, &[]).unwrap();
    assert_eq!((&*found.reason, &*found.words), ("DroppingSlot", "dropping the replication slot"));
    let failed = status(|known, _| {
        known.task = ArchiverTask::Retire;
        known.error = Some(Failure::new(Reason::ServerUnreachable, "nothing answers"));
    });
    let found = told(&off, &failed, None, &[]).unwrap();
    assert_eq!(found.words, "dropping the replication slot: ServerUnreachable");
    assert_eq!(told(&off, &BackupScheduleStatus::default(), None, &[]), None);
}

#[test]
fn the_column_ends_with_the_log_where_it_is_well_and_begins_with_it_where_it_is_not() {
    let schedule: BackupSchedule = serde_json::from_value(json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "shop", "generation": 1},
        "spec": {"repositoryRef": {"name": "main"}, "source": {}, "schedule": "@daily"},
    }))
    .unwrap();
    let zone = TimeZone::UTC;
    let children =
        Children { last_success: Some(at("2026-11-23T04:30:00Z")), ..Children::default() };
    let stands = |status: BackupScheduleStatus| {
        let log = told(&wanted(), &status, None, &[base("2026-11-21T02:00:00Z")]);
        let outlook = Outlook {
            next: Some(at("2026-11-24T02:15:00Z")),
            zone: &zone,
            held: None,
            trouble: None,
            ahead: None,
            log: log.as_ref(),
            drill: None,
        };
        standing(status, &schedule, &children, &outlook, at(NOW))
    };
    let condition = |status: &BackupScheduleStatus, type_: &str| {
        let found = status.conditions.iter().find(|found| found.type_ == type_);
        found.map(|found| (found.status.clone(), found.reason.clone()))
    };
    let well = stands(status(|_, _| ()));
    assert_eq!(well.display.as_deref(), Some("next 02:15, last ok 7h ago, log 2s behind"));
    let is = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    assert_eq!(condition(&well, "LogArchived"), is("True", "Streaming"));
    assert_eq!(condition(&well, "Ready"), is("True", "Accepted"));
    let down = stands(status(|known, _| {
        known.job_name = None;
        known.error = Some(Failure::new(Reason::WrongPassword, "no"));
        known.retry_time = Some(at("2026-11-23T12:05:00Z"));
        known.failing_since = Some(at("2026-11-23T11:00:00Z"));
    }));
    let words = "log not archived: WrongPassword, next 02:15, last ok 7h ago";
    assert_eq!(down.display.as_deref(), Some(words));
    assert_eq!(condition(&down, "LogArchived"), is("False", "WrongPassword"));
    assert_eq!(condition(&down, "Ready"), is("False", "WrongPassword"));
    assert_eq!(condition(&down, "Stalled"), is("True", "WrongPassword"));
    // Switched off: the condition goes, too.
    let generation = Some(1);
    assert!(
        super::condition(down.conditions, None, generation, at(NOW))
            .iter()
            .all(|found| { found.type_ != "LogArchived" })
    );
}
