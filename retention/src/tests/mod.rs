//! Tables for each rule and for the calendar, properties, and the example in the documentation.

mod calendar;
mod page;
mod properties;
mod rules;

use std::time::Duration;

use dbbackup_contract::Outcome;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::{Decision, MadeBy, RetentionPolicy, Series, Snapshot, State, plan_retention};

const NAME: &str = "3f6c/shop/nightly";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// The policy that `json` says.
fn policy(json: &str) -> RetentionPolicy {
    RetentionPolicy::of(&serde_json::from_str(json).unwrap()).unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// A complete snapshot of a slot.
fn good<'a>(id: &'a str, time: &str) -> Snapshot<'a> {
    Snapshot {
        id,
        time: at(time),
        state: State::Ended(Outcome::Succeeded),
        made_by: MadeBy::Schedule,
        pinned: false,
        in_use: false,
    }
}

fn partial<'a>(id: &'a str, time: &str) -> Snapshot<'a> {
    Snapshot { state: State::Ended(Outcome::PartiallyFailed), ..good(id, time) }
}

fn by_hand(snapshot: Snapshot<'_>, hours: Option<u64>) -> Snapshot<'_> {
    let retain_for = hours.map(|hours| Duration::from_secs(3600 * hours));
    Snapshot { made_by: MadeBy::Person { retain_for }, ..snapshot }
}

fn series<'a>(snapshots: &[Snapshot<'a>]) -> Series<'a> {
    let mut series = Series::new(NAME);
    for snapshot in snapshots {
        series.add(NAME, *snapshot).unwrap();
    }
    series
}

fn plan<'a>(snapshots: &[Snapshot<'a>], json: &str, now: &str) -> Vec<Decision<'a>> {
    plan_retention(&series(snapshots), &policy(json), &TimeZone::UTC, at(now))
}

/// The plan as a person reads it.
fn lines(decisions: &[Decision<'_>]) -> Vec<String> {
    decisions.iter().map(ToString::to_string).collect()
}

/// The ids of what is kept, the newest first.
fn kept<'a>(decisions: &[Decision<'a>]) -> Vec<&'a str> {
    decisions.iter().filter(|made| made.verdict.is_kept()).map(|made| made.snapshot.id).collect()
}
