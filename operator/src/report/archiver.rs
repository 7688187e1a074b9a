//! What the archiver of a schedule says: how it stands, seldom, and how it ended.

use dbbackup_contract::{LogStatus, Report, ReportBody};
use dbbackup_crds::BackupScheduleStatus;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::authorize::Caller;
use super::message::{is_done, raw};
use crate::run::fitted_log;

/// How often a status takes what changes all the time.
const SELDOM: SignedDuration = SignedDuration::from_secs(30);

/// Whether a message is an archiver's.
pub(super) fn is_its(body: &ReportBody) -> bool {
    match body {
        ReportBody::Log(_) => true,
        ReportBody::Report(report) => {
            matches!(report.as_ref(), Report::Archive(_) | Report::Retire(_))
        }
        ReportBody::Progress(_) => false,
    }
}

/// The patch of an archiver's message: nothing where another Job has its place by now, which
/// the patch tests, or where it says nothing new.
pub(super) fn operations(
    status: &Value,
    caller: &Caller,
    body: &ReportBody,
    now: Timestamp,
) -> Option<Value> {
    let archiver = status.get("archiver")?;
    if archiver.get("jobName") != Some(&Value::from(caller.job_name.as_str())) {
        return None;
    }
    let (path, value) = match body {
        ReportBody::Log(log) => {
            // By one clock: whether it is fresh is judged by it.
            let log = LogStatus { time: Some(now), ..fitted_log(log.as_ref().clone()) };
            let known: BackupScheduleStatus = serde_json::from_value(status.clone()).ok()?;
            let began = known.archiver.and_then(|archiver| archiver.start_time);
            let log = match known.log.as_deref() {
                Some(before) => log.going_on_from(before),
                None => log,
            };
            if !is_news(&log, known.log.as_deref(), began, now) {
                return None;
            }
            ("/status/log", serde_json::to_value(log).ok()?)
        }
        ReportBody::Report(report) => {
            if is_done(archiver.get("report"), &caller.job_name) {
                return None;
            }
            ("/status/archiver/report", raw(caller, report, now)?)
        }
        ReportBody::Progress(_) => return None,
    };
    Some(json!([
        {"op": "test", "path": "/metadata/uid", "value": caller.uid},
        {"op": "test", "path": "/status/archiver/jobName", "value": caller.job_name},
        {"op": "add", "path": path, "value": value},
    ]))
}

/// Whether it says what a person would want to know, or is the first for a while.
fn is_news(
    log: &LogStatus,
    known: Option<&LogStatus>,
    began: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    let Some(known) = known else { return true };
    let told = |log: &LogStatus| {
        let reason = log.error.as_ref().map(|error| error.reason);
        (log.state, reason, log.timeline, log.gap_count)
    };
    let is_recent = known.time.is_some_and(|time| {
        // One in the future was written by a clock that was wrong.
        let age = now.duration_since(time);
        (SignedDuration::ZERO..SELDOM).contains(&age)
    });
    let is_of_another = known.time.zip(began).is_some_and(|(time, began)| time < began);
    told(log) != told(known) || !is_recent || is_of_another
}

#[cfg(test)]
mod tests {
    use dbbackup_contract::{
        ArchiveReport, ArchiverState, Failure, LogGap, Message, Outcome, Reason, RetireReport,
    };

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn caller(job: &str) -> Caller {
        Caller {
            namespace: "shop".into(),
            pod_name: "p".into(),
            pod_uid: "pu".into(),
            job_name: job.into(),
            kind: "BackupSchedule".into(),
            name: "nightly".into(),
            uid: "u".into(),
        }
    }

    fn log(change: impl FnOnce(&mut LogStatus)) -> LogStatus {
        let mut log = LogStatus {
            state: ArchiverState::Streaming,
            // Until it says that, its gaps are not known.
            server: Some("7".into()),
            timeline: Some(1),
            position: Some("0/5000000".into()),
            ..LogStatus::default()
        };
        change(&mut log);
        log
    }

    fn said(change: impl FnOnce(&mut LogStatus)) -> ReportBody {
        ReportBody::Log(Box::new(log(change)))
    }

    /// The archiver j has said that it streams, ten seconds ago.
    fn status() -> Value {
        let known = log(|log| log.time = Some(at("2026-11-23T12:00:00Z")));
        json!({"archiver": {"jobName": "j", "startTime": "2026-11-23T11:00:00Z"}, "log": known})
    }

    const NOW: &str = "2026-11-23T12:00:10Z";

    #[test]
    fn what_an_archiver_says_is_kept_seldom_unless_something_has_changed() {
        let kept = |body: &ReportBody, now: &str| {
            operations(&status(), &caller("j"), body, at(now)).is_some()
        };
        let same = said(|log| log.behind_bytes = 7);
        assert!(!kept(&same, NOW));
        assert!(kept(&same, "2026-11-23T12:00:30Z"));
        assert!(kept(&same, "2026-11-23T11:59:00Z"), "the known one is of the future");
        let failure = || Some(Failure::new(Reason::ServerUnreachable, "x"));
        for news in [
            said(|log| log.state = ArchiverState::Waiting),
            said(|log| log.error = failure()),
            said(|log| log.timeline = Some(2)),
            said(|log| log.gap_count = 1),
        ] {
            assert!(kept(&news, NOW), "{news:?}");
        }
        let mut begun = status();
        begun["archiver"]["startTime"] = "2026-11-23T12:00:05Z".into();
        assert!(operations(&begun, &caller("j"), &same, at(NOW)).is_some());
    }

    #[test]
    fn nobody_but_the_job_of_the_archiver_is_heard() {
        let news = said(|log| log.gap_count = 9);
        assert_eq!(operations(&status(), &caller("other"), &news, at(NOW)), None);
        assert_eq!(operations(&json!({}), &caller("j"), &news, at(NOW)), None);
        let patch = operations(&status(), &caller("j"), &news, at(NOW)).unwrap();
        assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/uid", "value": "u"}));
        let job = json!({"op": "test", "path": "/status/archiver/jobName", "value": "j"});
        assert_eq!(patch[1], job);
        assert_eq!(patch[2]["path"], "/status/log");
        assert_eq!(patch[2]["value"]["time"], NOW, "by the clock of who judges it");
    }

    #[test]
    fn what_is_too_long_for_the_status_is_cut_before_it_is_written() {
        let long = "é".repeat(9000);
        let gap = |n: i64| LogGap {
            start: long.clone(),
            end: long.clone(),
            timeline: u32::MAX,
            after: None,
            time: Timestamp::from_second(n).unwrap(),
        };
        let body = said(|log| {
            log.slot = Some(long.clone());
            log.server = Some(long.clone());
            log.position = Some(long.clone());
            log.behind_bytes = u64::MAX;
            (log.timeline, log.gap_count) = (Some(u32::MAX), u32::MAX);
            log.gaps = (0..2000).map(gap).collect();
            log.error = Some(Failure::new(Reason::Internal, "x").with_hint("y"));
        });
        let patch = operations(&status(), &caller("j"), &body, at(NOW)).unwrap();
        let kept: LogStatus = serde_json::from_value(patch[2]["value"].clone()).unwrap();
        let length = |text: &Option<String>| text.as_ref().unwrap().chars().count();
        let lengths = [&kept.slot, &kept.server, &kept.position].map(length);
        assert_eq!(lengths, [64, 64, 32]);
        assert_eq!(kept.behind_bytes, i64::MAX.unsigned_abs());
        assert_eq!(kept.timeline, Some(i32::MAX.unsigned_abs()));
        assert_eq!(kept.gaps.len(), 10);
        assert_eq!(kept.gaps[9].time.as_second(), 1999, "the newest");
        assert_eq!(kept.gaps[0].start.chars().count(), 32);
    }

    #[test]
    fn how_an_archiver_ended_has_a_place_of_its_own() {
        let now = at(NOW);
        let (completion_time, error) = (now, None);
        let archive = ArchiveReport { outcome: Outcome::Succeeded, completion_time, error };
        let archive = Report::Archive(archive);
        let retire = RetireReport { outcome: Outcome::Succeeded, completion_time, error: None };
        for report in [archive.clone(), Report::Retire(retire)] {
            let body = ReportBody::Report(Box::new(report));
            assert!(is_its(&body));
            let patch = operations(&status(), &caller("j"), &body, now).unwrap();
            assert_eq!(patch[2]["path"], "/status/archiver/report");
            assert_eq!(patch[2]["value"]["jobName"], "j");
            assert_eq!(operations(&status(), &caller("other"), &body, now), None);
        }
        // What a later pod of the Job says does not undo it.
        let mut done = status();
        done["archiver"]["report"] = raw(&caller("j"), &archive, now).unwrap();
        let failed = ReportBody::Report(Box::new(Report::Archive(ArchiveReport {
            outcome: Outcome::Failed,
            completion_time,
            error: Some(Failure::new(Reason::Fenced, "x")),
        })));
        assert_eq!(operations(&done, &caller("j"), &failed, now), None);
        let message = Message { subject_uid: "u".into(), body: failed };
        let text = serde_json::to_string(&message).unwrap();
        assert!(is_its(&serde_json::from_str::<Message>(&text).unwrap().body));
    }
}
