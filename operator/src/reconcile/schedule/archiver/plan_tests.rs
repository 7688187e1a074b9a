use dbbackup_contract::{ArchiveReport, RetireReport};

use super::*;
use crate::run::Waiting;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-23T12:00:00Z";

fn now() -> Timestamp {
    at(NOW)
}

/// One that was begun from the digest `d`.
fn known(change: impl FnOnce(&mut ArchiverStatus)) -> ArchiverStatus {
    let mut known = ArchiverStatus {
        job_name: Some("nightly-archive-1".into()),
        digest: Some("d".into()),
        number: 1,
        start_time: Some(at("2026-11-23T11:00:00Z")),
        ..ArchiverStatus::default()
    };
    change(&mut known);
    known
}

fn between(failure: Option<Reason>, retry: Option<&str>) -> ArchiverStatus {
    known(|known| {
        known.job_name = None;
        known.error = failure.map(|reason| Failure::new(reason, "x"));
        known.retry_time = retry.map(at);
    })
}

fn retiring(change: impl FnOnce(&mut ArchiverStatus)) -> ArchiverStatus {
    known(|known| {
        known.task = ArchiverTask::Retire;
        known.retiring_since = Some(at("2026-11-23T11:59:00Z"));
        change(known);
    })
}

fn wanted() -> Wanted {
    Wanted::Archived("d".into())
}

fn changed() -> Wanted {
    Wanted::Archived("e".into())
}

fn held(stops: bool) -> Wanted {
    Wanted::Held { why: Failure::new(Reason::ReferenceNotReady, "x"), stops }
}

fn running(last_failure: Option<Failure>) -> Seen {
    Seen::Run(RunView::Running { attempts: 1, last_failure })
}

fn waits() -> Seen {
    Seen::Run(RunView::Waiting(Waiting {
        attempt: 1,
        last_failure: None,
        cause: None,
        until: now(),
        limit: "",
    }))
}

fn reported(report: Report) -> Seen {
    Seen::Run(RunView::Reported(Box::new(report), 1))
}

fn archive_ended(error: Option<Failure>) -> Seen {
    let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Succeeded };
    reported(Report::Archive(ArchiveReport { outcome, completion_time: now(), error }))
}

fn retire_ended(error: Option<Failure>) -> Seen {
    let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Succeeded };
    reported(Report::Retire(RetireReport { outcome, completion_time: now(), error }))
}

fn step(wanted: &Wanted, known: &ArchiverStatus, seen: Option<&Seen>) -> Step {
    plan(wanted, Some(known), seen, true, now())
}

fn fenced() -> Failure {
    Failure::new(Reason::Fenced, "another archiver has appended")
}

#[test]
fn an_archiver_is_begun_where_one_is_wanted_and_can_be() {
    assert_eq!(plan(&wanted(), None, None, false, now()), Step::Begin(ArchiverTask::Archive));
    assert_eq!(plan(&held(false), None, None, false, now()), Step::Rest(None));
    assert_eq!(plan(&Wanted::Dropped(None), None, None, false, now()), Step::Forget);
    assert_eq!(plan(&Wanted::Dropped(Some(now())), None, None, false, now()), Step::Forget);
}

#[test]
fn one_that_runs_goes_on_while_its_repository_cannot_be_looked_at() {
    for seen in [Seen::Speaks, running(None), waits()] {
        assert_eq!(step(&wanted(), &known(|_| ()), Some(&seen)), Step::Watch);
        assert_eq!(step(&held(false), &known(|_| ()), Some(&seen)), Step::Watch);
        // Nothing may be written there any more.
        assert_eq!(step(&held(true), &known(|_| ()), Some(&seen)), Step::Stop);
    }
}

#[test]
fn another_spec_stops_the_old_one_and_begins_the_next_when_that_is_gone() {
    assert_eq!(step(&changed(), &known(|_| ()), Some(&Seen::Speaks)), Step::Stop);
    let stopped = known(|known| known.stop_time = Some(now()));
    assert_eq!(step(&changed(), &stopped, Some(&Seen::Ending)), Step::Await);
    let next = Step::Begin(ArchiverTask::Archive);
    assert_eq!(step(&changed(), &stopped, Some(&Seen::Gone)), next);
    // The repository is not ready now: the next one waits for it.
    assert_eq!(step(&held(false), &stopped, Some(&Seen::Gone)), Step::Rest(None));
}

#[test]
fn one_that_has_ended_is_followed_by_the_next_after_its_pause_or_a_change() {
    let told_to_stop = Failure::new(Reason::Interrupted, "the archiver was told to stop");
    let lost = Failure::new(Reason::PodDisrupted, "the node is lost");
    let gone = Failure::new(Reason::JobGone, "the Job nightly-archive-1 is gone");
    for (seen, failure) in [
        (archive_ended(Some(fenced())), fenced()),
        (archive_ended(None), told_to_stop),
        (Seen::Run(RunView::Lost(lost.clone(), 1)), lost.clone()),
        (Seen::Run(RunView::NeverStarted(lost.clone())), lost),
        (Seen::Run(RunView::Unknown(gone.clone(), 0)), gone),
        (retire_ended(None), another_action()),
    ] {
        assert_eq!(step(&wanted(), &known(|_| ()), Some(&seen)), Step::Fail(failure));
    }
    let begin = Step::Begin(ArchiverTask::Archive);
    let later = "2026-11-23T12:00:10Z";
    let paused = between(Some(Reason::WrongPassword), Some(later));
    assert_eq!(step(&wanted(), &paused, None), Step::Rest(Some(at(later))));
    assert_eq!(step(&changed(), &paused, None), begin);
    assert_eq!(step(&held(false), &paused, None), Step::Rest(None));
    assert_eq!(step(&wanted(), &between(Some(Reason::WrongPassword), Some(NOW)), None), begin);
}

#[test]
fn where_it_is_switched_off_the_archiver_goes_first_and_then_the_slot() {
    let off = Wanted::Dropped(None);
    assert_eq!(step(&off, &known(|_| ()), Some(&Seen::Speaks)), Step::Stop);
    let stopped = known(|known| known.stop_time = Some(now()));
    assert_eq!(step(&off, &stopped, Some(&Seen::Ending)), Step::Await);
    let retire = Step::Begin(ArchiverTask::Retire);
    assert_eq!(step(&off, &stopped, Some(&Seen::Gone)), retire);
    // The pause before the next archiver is none for this.
    let paused = between(Some(Reason::Fenced), Some("2026-11-23T12:09:00Z"));
    assert_eq!(step(&off, &paused, None), retire);
    assert_eq!(step(&off, &retiring(|_| ()), Some(&waits())), Step::Watch);
    assert_eq!(step(&off, &retiring(|_| ()), Some(&retire_ended(None))), Step::Dropped);
    let refused = Failure::new(Reason::WrongPassword, "no");
    let failed = retire_ended(Some(refused.clone()));
    assert_eq!(step(&off, &retiring(|_| ()), Some(&failed)), Step::Fail(refused));
    // Switched on again meanwhile.
    assert_eq!(step(&wanted(), &retiring(|_| ()), Some(&running(None))), Step::Stop);
}

#[test]
fn a_slot_that_cannot_be_dropped_holds_nobody_longer_than_ten_minutes() {
    let refused = Failure::new(Reason::ServerUnreachable, "nothing answers");
    let failed = retire_ended(Some(refused.clone()));
    let going = |since: &str| Wanted::Dropped(Some(at(since)));
    let (in_time, over) = (going("2026-11-23T11:50:01Z"), going("2026-11-23T11:50:00Z"));
    assert_eq!(step(&in_time, &retiring(|_| ()), Some(&failed)), Step::Fail(refused.clone()));
    assert_eq!(step(&over, &retiring(|_| ()), Some(&failed)), Step::Leave(refused.clone()));
    let again = retiring(|known| {
        known.job_name = None;
        known.error = Some(refused.clone());
        known.retry_time = Some(at("2026-11-23T12:05:00Z"));
    });
    // It is looked again when the time is over, not later.
    let end = Step::Rest(Some(at("2026-11-23T12:00:01Z")));
    assert_eq!(step(&in_time, &again, None), end);
    assert_eq!(step(&over, &again, None), Step::Leave(refused.clone()));
    // Whatever it hangs in.
    let stopped = known(|known| known.stop_time = Some(at("2026-11-23T11:50:00Z")));
    for (known, seen) in [
        (&stopped, Seen::Ending),
        (&retiring(|_| ()), waits()),
        (&retiring(|_| ()), running(None)),
        (&known(|_| ()), Seen::Speaks),
    ] {
        assert!(matches!(step(&over, known, Some(&seen)), Step::Leave(_)), "{seen:?}");
    }
    // Done in the last moment is done.
    assert_eq!(step(&over, &retiring(|_| ()), Some(&retire_ended(None))), Step::Dropped);
    // Where it was switched off the time begins then.
    let late = retiring(|known| known.retiring_since = Some(at("2026-11-23T11:50:00Z")));
    assert_eq!(step(&Wanted::Dropped(None), &late, Some(&failed)), Step::Leave(refused));
}

#[test]
fn a_schedule_whose_server_was_never_reached_goes_after_one_try() {
    let refused = Failure::new(Reason::HostNotFound, "host x is not known");
    let going = Wanted::Dropped(Some(at("2026-11-23T11:59:30Z")));
    let never = |seen: &Seen| plan(&going, Some(&retiring(|_| ())), Some(seen), false, now());
    assert_eq!(never(&retire_ended(Some(refused.clone()))), Step::Leave(refused.clone()));
    assert_eq!(never(&running(Some(refused.clone()))), Step::Leave(refused.clone()));
    assert_eq!(never(&running(None)), Step::Watch);
    // It was there: its slot is worth more tries.
    let known = retiring(|_| ());
    assert_eq!(step(&going, &known, Some(&running(Some(refused)))), Step::Watch);
}
