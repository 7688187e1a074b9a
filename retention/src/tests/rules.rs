use dbbackup_contract::{DurationText, Outcome};

use super::{NAME, at, by_hand, good, kept, lines, partial, plan, policy, series};
use crate::{PolicyError, RetentionPolicy, RetentionSpec, Series, SeriesError, Snapshot, State};

const NOW: &str = "2026-11-25T12:00:00Z";

/// Two a day, of the days 25, 24, 23, 21 (none on 22), 1 of November, and older.
fn history() -> Vec<Snapshot<'static>> {
    vec![
        good("25b", "2026-11-25T10:00:00Z"),
        good("25a", "2026-11-25T09:30:00Z"),
        good("24b", "2026-11-24T22:00:00Z"),
        good("24a", "2026-11-24T10:00:00Z"),
        good("23", "2026-11-23T10:00:00Z"),
        good("21", "2026-11-21T10:00:00Z"),
        good("01", "2026-11-01T10:00:00Z"),
        good("oct", "2026-10-31T10:00:00Z"),
        good("sep", "2026-09-30T10:00:00Z"),
        good("y25", "2025-12-31T10:00:00Z"),
        good("y24", "2024-02-29T10:00:00Z"),
    ]
}

#[test]
fn each_rule_keeps_what_it_says() {
    let all = history().iter().map(|snapshot| snapshot.id).collect::<Vec<_>>();
    for (json, expected) in [
        ("{}", &all[..]),
        (r#"{"minimum": 1}"#, &all[..]),
        (r#"{"keepLast": 1}"#, &["25b"][..]),
        (r#"{"keepLast": 3}"#, &["25b", "25a", "24b"]),
        (r#"{"keepLast": 4000000000}"#, &all),
        (r#"{"keepHourly": 3}"#, &["25b", "25a", "24b"]),
        // The 22nd has none and takes no place.
        (r#"{"keepDaily": 4}"#, &["25b", "24b", "23", "21"]),
        // 23 to 25 are week 48, 21 is of 47, 1 November the Sunday of 44, as is 31 October.
        (r#"{"keepWeekly": 3}"#, &["25b", "21", "01"]),
        (r#"{"keepMonthly": 3}"#, &["25b", "oct", "sep"]),
        (r#"{"keepYearly": 9}"#, &["25b", "y25", "y24"]),
        // The border belongs to it: 24a is 24 hours older than 25b.
        (r#"{"keepWithin": "24h"}"#, &["25b", "25a", "24b", "24a"]),
        (r#"{"keepWithin": "23h59m59s"}"#, &["25b", "25a", "24b"]),
        (r#"{"keepWithin": "1ms"}"#, &["25b"]),
        (r#"{"keepWithin": "999999d999999d"}"#, &all),
        (r#"{"keepLast": 1, "minimum": 3}"#, &["25b", "25a", "24b"]),
        (r#"{"keepLast": 3, "minimum": 1}"#, &["25b", "25a", "24b"]),
        // The union.
        (r#"{"keepLast": 2, "keepDaily": 2, "keepYearly": 2}"#, &["25b", "25a", "24b", "y25"]),
    ] {
        assert_eq!(kept(&plan(&history(), json, NOW)), expected, "{json}");
    }
}

#[test]
fn a_plan_names_all_reasons() {
    let json = r#"{"keepLast": 1, "keepDaily": 2, "keepWeekly": 2, "keepMonthly": 2,
        "keepWithin": "90m", "minimum": 1}"#;
    let made = plan(&history()[..6], json, NOW);
    assert_eq!(
        lines(&made),
        [
            "25b kept: newest complete one, one of the last 1, within 1h 30m of the newest, newest of day 2026-11-25, week 2026-W48, month 2026-11, one of the minimum of 1",
            "25a kept: within 1h 30m of the newest",
            "24b kept: newest of day 2026-11-24",
            "24a dropped: no rule keeps it",
            "23 dropped: no rule keeps it",
            "21 kept: newest of week 2026-W47",
        ]
    );
    let hourly = plan(&history()[..1], r#"{"keepHourly": 1, "keepYearly": 1}"#, NOW);
    assert_eq!(
        lines(&hourly),
        ["25b kept: newest complete one, newest of hour 2026-11-25T10+00, year 2026"]
    );
}

#[test]
fn nothing_in_nothing_out() {
    assert!(plan(&[], r#"{"keepLast": 1}"#, NOW).is_empty());
}

#[test]
fn what_is_incomplete_takes_nobodys_place_and_goes_once_something_complete_is_newer() {
    let run = [
        partial("new partial", "2026-11-25T10:00:00Z"),
        Snapshot {
            state: State::Ended(Outcome::Failed),
            ..good("new failed", "2026-11-25T09:00:00Z")
        },
        partial("same second", "2026-11-24T10:00:00Z"),
        good("good", "2026-11-24T10:00:00Z"),
        partial("old partial", "2026-11-24T09:00:00Z"),
        good("older", "2026-11-23T10:00:00Z"),
    ];
    let made = plan(&run, r#"{"keepDaily": 1, "keepLast": 1}"#, NOW);
    assert_eq!(
        lines(&made),
        [
            "new partial kept: nothing complete is newer",
            "new failed kept: nothing complete is newer",
            "same second kept: nothing complete is newer",
            "good kept: newest complete one, one of the last 1, newest of day 2026-11-24",
            "old partial dropped: incomplete, and there is a complete one of 2026-11-24T10:00:00Z",
            "older dropped: no rule keeps it",
        ]
    );
    // Without any complete one they are all there is.
    let made = plan(&[run[0], run[4]], r#"{"keepLast": 1}"#, NOW);
    assert_eq!(kept(&made), ["new partial", "old partial"]);
    // A window is no count: all that was made in it stays.
    let made = plan(&run, r#"{"keepWithin": "2h"}"#, NOW);
    assert_eq!(
        kept(&made),
        ["new partial", "new failed", "same second", "good", "old partial"],
        "{made:?}"
    );
}

#[test]
fn a_window_ends_at_the_newest_complete_one_whoever_made_it_if_need_be() {
    let json = r#"{"keepWithin": "2h"}"#;
    // The schedule has never made a complete one.
    let run = [
        by_hand(good("hand", "2026-11-25T03:00:00Z"), Some(1)),
        partial("in it", "2026-11-25T01:00:00Z"),
        partial("before it", "2026-11-25T00:59:59Z"),
    ];
    assert_eq!(kept(&plan(&run, json, NOW)), ["hand", "in it"]);
    // What is made at this very moment is in it.
    let made = plan(&[good("now", NOW)], json, NOW);
    assert_eq!(lines(&made), ["now kept: newest complete one, within 2h of the newest"]);
}

#[test]
fn runs_by_hand_do_not_count_and_stay_as_long_as_somebody_wanted() {
    let run = [
        by_hand(good("wanted", "2026-11-25T10:00:00Z"), Some(3)),
        by_hand(good("over", "2026-11-25T09:00:00Z"), Some(3)),
        by_hand(good("for ever", "2026-11-25T08:00:00Z"), None),
        good("slot 25", "2026-11-25T03:00:00Z"),
        good("slot 24", "2026-11-24T03:00:00Z"),
        by_hand(partial("half", "2026-11-24T02:00:00Z"), Some(1)),
    ];
    let made = plan(&run, r#"{"keepDaily": 2, "keepLast": 1}"#, NOW);
    assert_eq!(
        lines(&made),
        [
            "wanted kept: made by hand and wanted until 2026-11-25T13:00:00Z, newest complete one",
            "over dropped: made by hand and wanted until 2026-11-25T12:00:00Z",
            "for ever kept: made by hand without an end",
            "slot 25 kept: one of the last 1, newest of day 2026-11-25",
            "slot 24 kept: newest of day 2026-11-24",
            "half dropped: made by hand and wanted until 2026-11-24T03:00:00Z",
        ]
    );
    // keepWithin is a rule of the schedule's too.
    assert!(!kept(&plan(&run, r#"{"keepWithin": "48h"}"#, NOW)).contains(&"over"));
    // Where no rules are set, nothing else goes.
    assert_eq!(kept(&plan(&run, "{}", NOW)), ["wanted", "for ever", "slot 25", "slot 24"]);
    // The schedule has failed since: what was wanted for an hour is all that is left.
    let alone = by_hand(good("last hope", "2026-01-01T00:00:00Z"), Some(1));
    let failed = partial("slot", "2025-12-31T03:00:00Z");
    assert_eq!(kept(&plan(&[alone, failed], r#"{"keepLast": 5}"#, NOW)), ["last hope"]);
}

#[test]
fn the_minimum_counts_the_schedules_first_and_fills_up_with_what_people_made() {
    let run = [
        by_hand(good("hand 3", "2026-11-25T10:00:00Z"), Some(1)),
        by_hand(good("hand 2", "2026-11-25T09:00:00Z"), Some(1)),
        good("slot 25", "2026-11-25T03:00:00Z"),
        partial("half", "2026-11-24T04:00:00Z"),
        good("slot 24", "2026-11-24T03:00:00Z"),
        by_hand(good("hand 1", "2026-11-23T09:00:00Z"), Some(1)),
        good("slot 23", "2026-11-23T03:00:00Z"),
    ];
    for (minimum, expected) in [
        (1, &["hand 3", "slot 25"][..]),
        (2, &["hand 3", "slot 25", "slot 24"]),
        (3, &["hand 3", "slot 25", "slot 24", "slot 23"]),
        (5, &["hand 3", "hand 2", "slot 25", "slot 24", "slot 23"]),
        (6, &["hand 3", "hand 2", "slot 25", "slot 24", "hand 1", "slot 23"]),
        (7, &["hand 3", "hand 2", "slot 25", "slot 24", "hand 1", "slot 23"]),
    ] {
        let made = plan(&run, &format!(r#"{{"keepLast": 1, "minimum": {minimum}}}"#), NOW);
        assert_eq!(kept(&made), expected, "minimum {minimum}");
    }
}

#[test]
fn pins_use_and_what_is_not_known_exempt_but_change_nothing_for_the_others() {
    let plain = history();
    let json = r#"{"keepDaily": 2}"#;
    for (changed, reason) in [
        (Snapshot { pinned: true, ..plain[7] }, "oct kept: pinned"),
        (Snapshot { in_use: true, ..plain[7] }, "oct kept: in use"),
        (Snapshot { state: State::BeingMade, ..plain[7] }, "oct kept: being made"),
        (Snapshot { state: State::Unreadable, ..plain[7] }, "oct kept: cannot be read"),
    ] {
        let mut run = plain.clone();
        run[7] = changed;
        let made = plan(&run, json, NOW);
        assert_eq!(made[7].to_string(), reason);
        assert_eq!(kept(&made), ["25b", "24b", "oct"]);
    }
    // One that is being made, or cannot be read, is not the newest of its day yet.
    for state in [State::BeingMade, State::Unreadable] {
        let mut run = plain.clone();
        run[0].state = state;
        assert_eq!(kept(&plan(&run, json, NOW)), ["25b", "25a", "24b"]);
    }
    // A pinned one still is.
    let mut run = plain;
    run[0].pinned = true;
    assert_eq!(kept(&plan(&run, json, NOW)), ["25b", "24b"]);
}

#[test]
fn a_snapshot_from_the_future_is_kept_and_pushes_nothing_out() {
    let json = r#"{"keepLast": 1, "keepDaily": 2, "keepWithin": "1h", "minimum": 2}"#;
    let without = plan(&history(), json, NOW);
    let mut run = history();
    run.push(good("2036", "2036-01-01T00:00:00Z"));
    run.push(partial("2037", "2037-01-01T00:00:00Z"));
    let made = plan(&run, json, NOW);
    assert_eq!(
        lines(&made[..2]),
        ["2037", "2036"].map(|id| format!("{id} kept: its time lies in the future"))
    );
    assert_eq!(made[2..], without[..]);
    // This very moment is not the future.
    let run = [good("now", NOW), good("before", "2026-11-25T11:59:59Z")];
    assert_eq!(kept(&plan(&run, r#"{"keepLast": 1}"#, NOW)), ["now"]);
    // A clock that stands at 1970 drops nothing.
    let made = plan(&history(), json, "1970-01-01T00:00:00Z");
    assert_eq!(kept(&made).len(), history().len());
}

#[test]
fn of_a_schedule_that_stopped_nothing_goes_because_time_passes() {
    let json = r#"{"keepWithin": "48h", "keepHourly": 4, "keepYearly": 1}"#;
    let today = plan(&history(), json, NOW);
    assert!(kept(&today).len() < history().len());
    for later in ["2026-12-31T00:00:00Z", "2031-01-01T00:00:00Z", "9999-12-30T00:00:00Z"] {
        assert_eq!(plan(&history(), json, later), today, "{later}");
    }
}

#[test]
fn of_two_of_the_same_second_the_greater_id_is_the_newer() {
    let run = ["b", "c", "a"].map(|id| good(id, "2026-11-25T03:00:00Z"));
    for json in [r#"{"keepLast": 1}"#, r#"{"keepHourly": 5}"#, r#"{"keepDaily": 5}"#] {
        let made = plan(&run, json, NOW);
        assert_eq!(made.iter().map(|made| made.snapshot.id).collect::<String>(), "cba");
        assert_eq!(kept(&made), ["c"], "{json}");
    }
    assert_eq!(kept(&plan(&run, r#"{"keepLast": 2}"#, NOW)), ["c", "b"]);
    assert_eq!(kept(&plan(&run, r#"{"keepWithin": "1s"}"#, NOW)), ["c", "b", "a"]);
}

#[test]
fn the_ends_of_time_are_no_exception() {
    let run = [
        by_hand(good("end", "9999-12-30T21:59:59Z"), Some(u64::MAX / 3600)),
        good("begin", "-009999-01-02T02:00:00Z"),
    ];
    let json = r#"{"keepWithin": "999999d", "keepWeekly": 1, "keepHourly": 1}"#;
    let made = plan(&run, json, "9999-12-30T22:00:00Z");
    assert_eq!(kept(&made), ["end", "begin"]);
}

#[test]
fn a_series_takes_no_snapshot_of_another_one() {
    let snapshot = good("a", NOW);
    let mut one = Series::new(NAME);
    let error = one.add("3f6c/shop/hourly", snapshot).unwrap_err();
    assert_eq!(
        error.to_string(),
        "snapshot a belongs to the series 3f6c/shop/hourly, not to 3f6c/shop/nightly"
    );
    assert!(one.newest_first().is_empty());
}

#[test]
fn a_snapshot_that_is_listed_twice_counts_once() {
    let mut one = series(&[good("a", "2026-11-25T03:00:00Z"), good("b", "2026-11-24T03:00:00Z")]);
    one.add(NAME, good("a", "2026-11-25T03:00:00Z")).unwrap();
    assert_eq!(one.newest_first().len(), 2);
    let other = good("a", "2026-11-25T03:00:01Z");
    assert_eq!(one.add(NAME, other), Err(SeriesError::Twice("a".to_owned())));
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_the_field() {
    for field in [
        "keepLast",
        "keepHourly",
        "keepDaily",
        "keepWeekly",
        "keepMonthly",
        "keepYearly",
        "minimum",
    ] {
        let spec: RetentionSpec = serde_json::from_str(&format!(r#"{{"{field}": 0}}"#)).unwrap();
        assert_eq!(
            RetentionPolicy::of(&spec).unwrap_err().to_string(),
            format!("retention.{field} is 0: write 1 or more, or leave it out")
        );
    }
    let within = |text| {
        let keep_within = Some(DurationText::new(text));
        RetentionPolicy::of(&RetentionSpec { keep_within, ..RetentionSpec::default() })
    };
    assert_eq!(within("0h0m"), Err(PolicyError::Zero("keepWithin")));
    let error = within("2 weeks").unwrap_err().to_string();
    assert!(error.starts_with(r#"retention.keepWithin: "2 weeks" is no duration"#), "{error}");
}

#[test]
fn a_policy_is_read_and_written_as_the_api_has_it() {
    let json = r#"{"keepLast":4,"keepHourly":24,"keepDaily":14,"keepWeekly":8,"keepMonthly":12,"keepYearly":3,"keepWithin":"48h","minimum":3}"#;
    let spec: RetentionSpec = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&spec).unwrap(), json);
    assert_eq!(serde_json::to_string(&RetentionSpec::default()).unwrap(), "{}");
    // A rule of a later release may be the one that keeps the most.
    let error = serde_json::from_str::<RetentionSpec>(r#"{"keepQuarterly": 9}"#).unwrap_err();
    assert!(error.to_string().contains("keepQuarterly"), "{error}");
    assert!(policy("{}").keeps_everything() && policy(r#"{"minimum": 3}"#).keeps_everything());
    assert!(!policy(r#"{"keepWithin": "1h"}"#).keeps_everything());
    assert_eq!(at(NOW).to_string(), NOW);
}
