//! Which slot of a schedule is due, and which comes next. Pure: the time is an argument.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use sha2::{Digest as _, Sha256};

/// A schedule in its zone.
#[derive(Clone, Debug)]
pub struct Slots {
    cron: Cron,
    zone: TimeZone,
    delay: SignedDuration,
}

/// Why a schedule cannot be read. The message names the field and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotsError {
    /// Not a schedule.
    #[error(
        "spec.schedule {0:?} cannot be read{1}. Write five fields (minute, hour, day of month, month, day of week), such as 15 3 * * *, or a macro such as @daily"
    )]
    Schedule(String, String),
    /// Six fields or more, or too few.
    #[error(
        "spec.schedule {0:?} has {1} fields: write five (minute, hour, day of month, month, day of week); a sixth one means seconds to some programs and years to others"
    )]
    Fields(String, usize),
    /// Never matches.
    #[error("spec.schedule {0:?} names no day that ever comes")]
    Never(String),
    /// Not a zone.
    #[error(
        "spec.timeZone {0:?} is no time zone that is known: write an IANA name such as Europe/Berlin or Etc/UTC"
    )]
    Zone(String),
}

/// What a schedule wants now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotDecision {
    /// The newest slot that has come since the last one and may still be started.
    pub due: Option<Timestamp>,
    /// The newest slot that has come, but longer ago than the deadline.
    pub missed: Option<Timestamp>,
    /// When the next one is started, its delay included.
    pub next: Option<Timestamp>,
}

impl Slots {
    /// Reads a schedule and a zone.
    ///
    /// # Errors
    /// Names the field that is wrong and what to write instead.
    pub fn parse(schedule: &str, zone: &str) -> Result<Self, SlotsError> {
        let zone = if zone == "Etc/UTC" || zone == "UTC" {
            // Known even where there is no database of zones.
            TimeZone::UTC
        } else {
            TimeZone::get(zone).map_err(|_| SlotsError::Zone(zone.to_owned()))?
        };
        let fields = schedule.split_whitespace().count();
        if !schedule.trim_start().starts_with('@') && fields != 5 {
            return Err(SlotsError::Fields(schedule.to_owned(), fields));
        }
        // The library does not know that name of it.
        let line = if schedule.trim() == "@midnight" { "@daily" } else { schedule };
        let cron = Cron::from_str(line).map_err(|_| {
            let why = first_fault(schedule).map_or_else(String::new, |fault| format!(": {fault}"));
            SlotsError::Schedule(schedule.to_owned(), why)
        })?;
        let slots = Self { cron, zone, delay: SignedDuration::ZERO };
        // Any time does: the search covers the calendar's whole period.
        if slots.next_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(SlotsError::Never(schedule.to_owned()));
        }
        Ok(slots)
    }

    /// The same slots, each of which is started so much later.
    #[must_use]
    pub const fn delayed(mut self, delay: SignedDuration) -> Self {
        self.delay = delay;
        self
    }

    /// The schedule's zone.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first slot after `time`.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_next_occurrence(&self.zoned(time), false).ok()?;
        Some(found.timestamp())
    }

    /// The newest slot at or before `time`.
    #[must_use]
    pub fn newest_until(&self, time: Timestamp) -> Option<Timestamp> {
        let found = self.cron.find_previous_occurrence(&self.zoned(time), true).ok()?;
        Some(found.timestamp())
    }

    /// What is wanted at `now`, where slots up to `last` are done with.
    ///
    /// Of several slots that were missed only the newest counts. A `last` that
    /// lies in the future (a clock was wrong) is taken as now, so that it
    /// cannot silence the schedule for years.
    #[must_use]
    pub fn decide(
        &self,
        last: Timestamp,
        now: Timestamp,
        deadline: Option<SignedDuration>,
    ) -> SlotDecision {
        let last = last.min(now);
        // Whose slot is here may be started now.
        let here = now.checked_sub(self.delay).unwrap_or(now);
        let newest = self.newest_until(here).filter(|slot| *slot > last);
        let in_time = |slot: &Timestamp| {
            deadline.is_none_or(|deadline| here.duration_since(*slot) <= deadline)
        };
        SlotDecision {
            due: newest.filter(in_time),
            missed: newest.filter(|slot| !in_time(slot)),
            next: self.next_after(here).and_then(|slot| slot.checked_add(self.delay).ok()),
        }
    }

    fn zoned(&self, time: Timestamp) -> Zoned {
        time.to_zoned(self.zone.clone())
    }
}

/// How much later than its slots a schedule starts its backups, of `jitter` at most: not by
/// chance, so that they stay as far apart as they are, and a restart changes nothing.
#[must_use]
pub fn delay_of(series: &str, jitter: Duration) -> SignedDuration {
    let digest = Sha256::digest(series);
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let seconds = number.checked_rem(jitter.as_secs()).unwrap_or(0);
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0))
}

/// Name, lowest and highest value of each field.
const FIELDS: [(&str, u32, u32); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
];
const MONTHS: &str = "jan feb mar apr may jun jul aug sep oct nov dec";
const DAYS: &str = "sun mon tue wed thu fri sat";

/// What is wrong with a schedule that could not be read, where it is one of the
/// faults that people make.
fn first_fault(schedule: &str) -> Option<String> {
    if schedule.trim_start().starts_with('@') {
        return Some("there is no such macro".to_owned());
    }
    let fields = schedule.split_whitespace().zip(FIELDS);
    fields.into_iter().find_map(|(text, field)| text.split(',').find_map(|part| fault(part, field)))
}

/// What is wrong with one part of a field: `*`, `*/5`, `3`, `3-5`, `mon-fri`, `3-15/2`.
fn fault(part: &str, (field, lowest, highest): (&str, u32, u32)) -> Option<String> {
    let (range, step) =
        part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if step.is_some_and(|step| step.parse::<u32>().map_or(true, |step| step == 0)) {
        return Some(format!("{field}: the step in {part} is no number from 1 on"));
    }
    if range == "*" {
        return None;
    }
    let (first, last) = range.split_once('-').map_or((range, None), |(a, b)| (a, Some(b)));
    let mut ends = Vec::new();
    for end in std::iter::once(first).chain(last) {
        let names = match field {
            "month" => MONTHS,
            "day of week" => DAYS,
            _ => "",
        };
        let named = names.split(' ').position(|name| end.eq_ignore_ascii_case(name));
        let number = match named.and_then(|index| u32::try_from(index).ok()) {
            Some(index) => Some(index + lowest),
            None => end.parse().ok(),
        };
        match number {
            Some(number) if (lowest..=highest).contains(&number) => ends.push(number),
            Some(number) => {
                return Some(format!("{field}: {number} is not between {lowest} and {highest}"));
            }
            None => {
                return Some(format!("{field}: {part} is neither *, a number, a range nor a step"));
            }
        }
    }
    match ends[..] {
        [first, last] if first > last => Some(format!("{field}: the range {range} runs backwards")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn slots(schedule: &str, zone: &str) -> Slots {
        Slots::parse(schedule, zone).unwrap()
    }

    fn run(schedule: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let slots = slots(schedule, zone);
        let mut time = at(from);
        (0..count)
            .map(|_| {
                time = slots.next_after(time).unwrap();
                time.to_zoned(slots.zone.clone()).strftime("%a %d %H:%M %:z").to_string()
            })
            .collect()
    }

    #[test]
    fn a_fixed_time_that_spring_skips_still_runs_once_that_day() {
        // 2026-03-29 02:00 → 03:00 in Berlin.
        let days = run("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(days.len(), 3);
        assert!(days[0].starts_with("Sat 28 02:30"), "{days:?}");
        assert!(days[1].starts_with("Sun 29 03:"), "{days:?}");
        assert!(days[2].starts_with("Mon 30 02:30"), "{days:?}");
    }

    #[test]
    fn a_fixed_time_that_autumn_repeats_runs_once_that_day() {
        // 2026-10-25 03:00 → 02:00 in Berlin.
        let days = run("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3);
        assert_eq!(days, ["Sat 24 02:30 +02:00", "Sun 25 02:30 +02:00", "Mon 26 02:30 +01:00"]);
    }

    #[test]
    fn the_second_half_of_a_repeated_hour_finds_no_second_slot() {
        let slots = slots("30 2 * * *", "Europe/Berlin");
        // 02:30 came at 00:30Z (summer time); at 01:45Z it is 02:45 again.
        let decision = slots.decide(at("2026-10-25T00:30:00Z"), at("2026-10-25T01:45:00Z"), None);
        assert_eq!(decision.due, None);
        assert_eq!(decision.next, Some(at("2026-10-26T01:30:00Z")));
    }

    #[test]
    fn every_quarter_hour_goes_on_through_clock_changes() {
        let slots = slots("*/15 * * * *", "Europe/Berlin");
        for (from, until) in [
            ("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z"),
            ("2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"),
        ] {
            let (mut time, mut count) = (at(from), 0);
            while time < at(until) {
                time = slots.next_after(time).unwrap();
                count += 1;
            }
            assert_eq!(count, 12, "from {from}");
        }
    }

    #[test]
    fn the_zone_decides_what_a_time_means() {
        for (zone, expected) in [
            ("Etc/UTC", "2026-07-01T03:15:00Z"),
            ("Europe/Berlin", "2026-07-01T01:15:00Z"),
            ("America/New_York", "2026-07-01T07:15:00Z"),
            ("Asia/Kolkata", "2026-06-30T21:45:00Z"),
        ] {
            let next = slots("15 3 * * *", zone).next_after(at("2026-06-30T12:00:00Z"));
            let expected = at(expected);
            assert_eq!(next, Some(expected), "{zone}");
        }
    }

    #[test]
    fn each_macro_that_the_schema_lets_in_is_five_fields() {
        let now = at("2026-11-25T10:20:30Z");
        for (macros, fields) in [
            (&["@hourly"][..], "0 * * * *"),
            (&["@daily", "@midnight"], "0 0 * * *"),
            (&["@weekly"], "0 0 * * 0"),
            (&["@monthly"], "0 0 1 * *"),
            (&["@yearly", "@annually"], "0 0 1 1 *"),
        ] {
            let next = |line| slots(line, "Asia/Kathmandu").next_after(now);
            for name in macros {
                assert_eq!(next(name), next(fields), "{name}");
            }
        }
    }

    #[test]
    fn decisions() {
        struct Case {
            name: &'static str,
            last: &'static str,
            now: &'static str,
            deadline: Option<i64>,
            due: Option<&'static str>,
            missed: Option<&'static str>,
        }
        let cases = [
            Case {
                name: "nothing has come",
                last: "2026-06-01T03:00:00Z",
                now: "2026-06-01T12:00:00Z",
                deadline: None,
                due: None,
                missed: None,
            },
            Case {
                name: "a slot has come",
                last: "2026-06-01T03:00:00Z",
                now: "2026-06-02T03:00:05Z",
                deadline: None,
                due: Some("2026-06-02T03:00:00Z"),
                missed: None,
            },
            Case {
                name: "the very second of a slot",
                last: "2026-06-01T03:00:00Z",
                now: "2026-06-02T03:00:00Z",
                deadline: None,
                due: Some("2026-06-02T03:00:00Z"),
                missed: None,
            },
            Case {
                name: "only the newest of many",
                last: "2026-01-01T03:00:00Z",
                now: "2026-06-02T04:00:00Z",
                deadline: None,
                due: Some("2026-06-02T03:00:00Z"),
                missed: None,
            },
            Case {
                name: "within the deadline",
                last: "2026-06-01T03:00:00Z",
                now: "2026-06-02T03:09:00Z",
                deadline: Some(600),
                due: Some("2026-06-02T03:00:00Z"),
                missed: None,
            },
            Case {
                name: "past the deadline",
                last: "2026-06-01T03:00:00Z",
                now: "2026-06-02T03:11:00Z",
                deadline: Some(600),
                due: None,
                missed: Some("2026-06-02T03:00:00Z"),
            },
            Case {
                name: "a last time in the future is taken as now",
                last: "2036-06-01T03:00:00Z",
                now: "2026-06-02T03:11:00Z",
                deadline: None,
                due: None,
                missed: None,
            },
        ];
        let slots = slots("0 3 * * *", "Etc/UTC");
        for case in cases {
            let deadline = case.deadline.map(SignedDuration::from_secs);
            let decision = slots.decide(at(case.last), at(case.now), deadline);
            assert_eq!(decision.due, case.due.map(at), "{}", case.name);
            assert_eq!(decision.missed, case.missed.map(at), "{}", case.name);
            assert!(decision.next.is_some_and(|next| next > at(case.now)), "{}", case.name);
        }
    }

    #[test]
    fn what_cannot_be_read_names_the_field_and_what_to_write() {
        for (schedule, zone, field, advice) in [
            ("15 3 * *", "Etc/UTC", "spec.schedule", "five"),
            ("0 15 3 * * *", "Etc/UTC", "spec.schedule", "seconds"),
            ("61 3 * * *", "Etc/UTC", "spec.schedule", "minute: 61 is not between 0 and 59. Write"),
            ("0 24 * * *", "Etc/UTC", "spec.schedule", "hour: 24 is not between 0 and 23"),
            ("0 3 0 * *", "Etc/UTC", "spec.schedule", "day of month: 0 is not between 1 and 31"),
            ("0 3 * 13 *", "Etc/UTC", "spec.schedule", "month: 13 is not between"),
            ("0 3 * * 8", "Etc/UTC", "spec.schedule", "day of week: 8 is not between"),
            ("*/0 3 * * *", "Etc/UTC", "spec.schedule", "minute: the step in */0"),
            ("0 3-1 * * *", "Etc/UTC", "spec.schedule", "hour: the range 3-1 runs backwards"),
            ("0 three * * *", "Etc/UTC", "spec.schedule", "hour: three is neither"),
            ("0 0 30 2 *", "Etc/UTC", "spec.schedule", "no day"),
            ("@reboot", "Etc/UTC", "spec.schedule", "no such macro. Write five fields"),
            ("15 3 * * *", "Europe/Atlantis", "spec.timeZone", "Europe/Berlin"),
        ] {
            let error = Slots::parse(schedule, zone).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains(advice), "{schedule}: {error}");
        }
    }

    #[test]
    fn a_delay_starts_each_slot_later_and_skips_none() {
        let delayed = slots("0 * * * *", "Etc/UTC").delayed(SignedDuration::from_mins(10));
        let last = at("2026-11-23T02:00:00Z");
        let early = delayed.decide(last, at("2026-11-23T03:09:59Z"), None);
        assert_eq!(early.due, None);
        assert_eq!(early.next, Some(at("2026-11-23T03:10:00Z")));
        let there = delayed.decide(last, at("2026-11-23T03:10:00Z"), None);
        assert_eq!(there.due, Some(at("2026-11-23T03:00:00Z")), "the slot keeps its own time");
        assert_eq!(there.next, Some(at("2026-11-23T04:10:00Z")));
        // The deadline counts from when it should have been started.
        let deadline = Some(SignedDuration::from_mins(5));
        assert!(delayed.decide(last, at("2026-11-23T03:15:00Z"), deadline).due.is_some());
        assert!(delayed.decide(last, at("2026-11-23T03:15:01Z"), deadline).missed.is_some());
    }

    #[test]
    fn delays_are_the_same_every_time_and_spread_evenly() {
        let delay = |n: u32| delay_of(&format!("cluster/shop/s{n}"), Duration::from_secs(600));
        assert_eq!(delay(7), delay(7));
        let seconds: Vec<i64> = (0..1000).map(|n| delay(n).as_secs()).collect();
        assert!(seconds.iter().all(|seconds| (0..600).contains(seconds)));
        for minute in 0..10 {
            let here = seconds.iter().filter(|seconds| **seconds / 60 == minute).count();
            assert!((60..140).contains(&here), "{here} of 1000 in minute {minute}");
        }
        assert_eq!(delay_of("any", Duration::ZERO), SignedDuration::ZERO);
        assert_eq!(delay_of("any", Duration::from_millis(900)), SignedDuration::ZERO);
    }
}
