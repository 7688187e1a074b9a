use super::{at, good, kept, policy, series, zone};
use crate::{Period, plan_retention};

/// Keeps the newest of each period of the times and returns their ids, the newest first.
/// The ids are the times themselves.
fn newest(rule: &str, in_zone: &str, times: &[&'static str]) -> Vec<&'static str> {
    let snapshots = times.iter().map(|time| good(time, time)).collect::<Vec<_>>();
    let json = format!(r#"{{"{rule}": 100}}"#);
    let now = at("2100-01-01T00:00:00Z");
    kept(&plan_retention(&series(&snapshots), &policy(&json), &zone(in_zone), now))
}

#[test]
fn periods_are_those_of_the_zone() {
    struct Case {
        name: &'static str,
        rule: &'static str,
        zone: &'static str,
        /// Each with whether it is the newest of its period; the newest first.
        times: &'static [(&'static str, bool)],
    }
    let cases = [
        Case {
            name: "Berlin's evening is UTC's, its first hours are not",
            rule: "keepDaily",
            zone: "Europe/Berlin",
            times: &[
                ("2026-07-02T21:59:59Z", true),
                ("2026-07-01T22:00:00Z", false),
                ("2026-07-01T21:59:59Z", true),
            ],
        },
        Case {
            name: "west of UTC the day ends after UTC's",
            rule: "keepDaily",
            zone: "America/Los_Angeles",
            times: &[
                ("2026-07-02T07:00:00Z", true),
                ("2026-07-02T06:59:59Z", true),
                ("2026-07-01T07:00:00Z", false),
            ],
        },
        Case {
            name: "east of UTC by 14 hours",
            rule: "keepMonthly",
            zone: "Pacific/Kiritimati",
            times: &[("2026-07-31T10:00:00Z", true), ("2026-07-31T09:59:59Z", true)],
        },
        Case {
            name: "hours of a zone that is half an hour off",
            rule: "keepHourly",
            zone: "Asia/Kolkata",
            times: &[
                ("2026-07-01T10:30:00Z", true),
                ("2026-07-01T10:29:00Z", true),
                ("2026-07-01T09:30:00Z", false),
            ],
        },
        Case {
            name: "spring: 01:59 is followed by 03:00",
            rule: "keepHourly",
            zone: "Europe/Berlin",
            times: &[
                ("2026-03-29T01:59:00Z", true),
                ("2026-03-29T01:00:00Z", false),
                ("2026-03-29T00:59:00Z", true),
                ("2026-03-29T00:00:00Z", false),
            ],
        },
        Case {
            name: "spring: a day of 23 hours is one day",
            rule: "keepDaily",
            zone: "Europe/Berlin",
            times: &[
                ("2026-03-29T22:00:00Z", true),
                ("2026-03-29T21:59:59Z", true),
                ("2026-03-28T23:00:00Z", false),
                ("2026-03-28T22:59:59Z", true),
            ],
        },
        Case {
            name: "autumn: the hour from 02:00 comes twice and is two",
            rule: "keepHourly",
            zone: "Europe/Berlin",
            times: &[
                ("2026-10-25T02:00:00Z", true),
                ("2026-10-25T01:59:00Z", true),
                ("2026-10-25T01:00:00Z", false),
                ("2026-10-25T00:59:00Z", true),
                ("2026-10-25T00:00:00Z", false),
                ("2026-10-24T23:59:00Z", true),
            ],
        },
        Case {
            name: "autumn: a day of 25 hours is one day",
            rule: "keepDaily",
            zone: "Europe/Berlin",
            times: &[
                ("2026-10-25T23:00:00Z", true),
                ("2026-10-25T22:59:59Z", true),
                ("2026-10-24T22:00:00Z", false),
                ("2026-10-24T21:59:59Z", true),
            ],
        },
        Case {
            name: "Lord Howe's autumn: 02:00 becomes 01:30, and half an hour comes twice",
            rule: "keepHourly",
            zone: "Australia/Lord_Howe",
            times: &[
                // 02:00, 01:59 and 01:30 at +10:30; 01:59, 01:30 and 01:00 at +11.
                ("2026-04-04T15:30:00Z", true),
                ("2026-04-04T15:29:00Z", true),
                ("2026-04-04T15:00:00Z", false),
                ("2026-04-04T14:59:00Z", true),
                ("2026-04-04T14:30:00Z", false),
                ("2026-04-04T14:00:00Z", false),
                ("2026-04-04T13:59:00Z", true),
            ],
        },
        Case {
            name: "Lord Howe's spring: 02:00 becomes 02:30",
            rule: "keepHourly",
            zone: "Australia/Lord_Howe",
            times: &[
                // 03:00, 02:59 and 02:30 at +11; 01:59 and 01:00 at +10:30.
                ("2026-10-03T16:00:00Z", true),
                ("2026-10-03T15:59:00Z", true),
                ("2026-10-03T15:30:00Z", false),
                ("2026-10-03T15:29:00Z", true),
                ("2026-10-03T14:30:00Z", false),
            ],
        },
        Case {
            name: "Lord Howe: days of 24.5 and of 23.5 hours are one day each",
            rule: "keepDaily",
            zone: "Australia/Lord_Howe",
            times: &[
                ("2026-10-04T13:00:00Z", true),
                ("2026-10-04T12:59:00Z", true),
                ("2026-10-03T13:30:00Z", false),
                ("2026-10-03T13:29:00Z", true),
                ("2026-04-05T13:30:00Z", true),
                ("2026-04-05T13:29:00Z", true),
                ("2026-04-04T13:00:00Z", false),
                ("2026-04-04T12:59:00Z", true),
            ],
        },
        Case {
            name: "St. John's, 00:01 became 23:01: a minute of the new day, then the old one again",
            rule: "keepDaily",
            zone: "America/St_Johns",
            times: &[
                ("2010-11-07T12:00:00Z", true),
                // 23:30 of the 6th again, one minute of the 7th before it, 23:30 before that.
                ("2010-11-07T03:00:00Z", true),
                ("2010-11-07T02:30:30Z", false),
                ("2010-11-07T02:00:00Z", false),
            ],
        },
        Case {
            name: "Samoa had no 30 December 2011",
            rule: "keepDaily",
            zone: "Pacific/Apia",
            times: &[
                ("2011-12-30T10:00:00Z", true),
                ("2011-12-30T09:59:59Z", true),
                ("2011-12-29T10:00:00Z", false),
            ],
        },
        Case {
            name: "weeks begin on Monday",
            rule: "keepWeekly",
            zone: "Etc/UTC",
            times: &[
                ("2026-11-23T00:00:00Z", true),
                ("2026-11-22T23:59:59Z", true),
                ("2026-11-16T00:00:00Z", false),
            ],
        },
        Case {
            name: "2026-W53 goes on until Sunday, 3 January 2027",
            rule: "keepWeekly",
            zone: "Etc/UTC",
            times: &[
                ("2027-01-04T00:00:00Z", true),
                ("2027-01-03T23:59:59Z", true),
                ("2027-01-01T00:00:00Z", false),
                ("2026-12-28T00:00:00Z", false),
                ("2026-12-27T23:59:59Z", true),
            ],
        },
        Case {
            name: "2025-W01 begins on 30 December 2024",
            rule: "keepWeekly",
            zone: "Etc/UTC",
            times: &[
                ("2025-01-05T12:00:00Z", true),
                ("2024-12-30T00:00:00Z", false),
                ("2024-12-29T23:59:59Z", true),
            ],
        },
        Case {
            name: "the same week number a year apart is another week",
            rule: "keepWeekly",
            zone: "Etc/UTC",
            times: &[("2026-11-25T12:00:00Z", true), ("2025-11-26T12:00:00Z", true)],
        },
        Case {
            name: "the same month a year apart is another month",
            rule: "keepMonthly",
            zone: "Etc/UTC",
            times: &[("2026-11-25T12:00:00Z", true), ("2025-11-26T12:00:00Z", true)],
        },
        Case {
            name: "a year ends at midnight in its zone",
            rule: "keepYearly",
            zone: "Europe/Berlin",
            times: &[
                ("2026-12-31T23:00:00Z", true),
                ("2026-12-31T22:59:59Z", true),
                ("2025-12-31T23:00:00Z", false),
                ("2025-12-31T22:59:59Z", true),
            ],
        },
        Case {
            name: "29 February belongs to its month",
            rule: "keepMonthly",
            zone: "America/New_York",
            times: &[
                ("2028-03-01T05:00:00Z", true),
                ("2028-03-01T04:59:59Z", true),
                ("2028-02-01T05:00:00Z", false),
            ],
        },
    ];
    for Case { name, rule, zone, times } in cases {
        let all = times.iter().map(|(time, _)| *time).collect::<Vec<_>>();
        let expected =
            times.iter().filter(|(_, newest)| *newest).map(|(time, _)| *time).collect::<Vec<_>>();
        assert_eq!(newest(rule, zone, &all), expected, "{name}");
    }
}

#[test]
fn periods_print_as_iso_8601_has_them() {
    let (early, late) = (at("2026-04-04T14:59:00Z"), at("2026-04-04T15:00:00Z"));
    let lord_howe = zone("Australia/Lord_Howe");
    for (period, text) in [
        (Period::hour(early, &lord_howe), "hour 2026-04-05T01+11"),
        (Period::hour(late, &lord_howe), "hour 2026-04-05T01+10:30"),
        (Period::day(late, &lord_howe), "day 2026-04-05"),
        (Period::week(late, &lord_howe), "week 2026-W14"),
        (Period::month(late, &lord_howe), "month 2026-04"),
        (Period::year(late, &lord_howe), "year 2026"),
        (Period::week(at("2027-01-03T00:00:00Z"), &zone("Etc/UTC")), "week 2026-W53"),
    ] {
        assert_eq!(period.to_string(), text);
    }
}
