//! The worked example of `docs/retention.md` is what the code says.

use std::fmt::Write as _;

use super::{at, by_hand, good, partial, policy, series, zone};
use crate::{Snapshot, State, plan_retention};

const PAGE: &str = include_str!("../../../docs/retention.md");
const POLICY: &str = r#"{"keepLast": 2, "keepDaily": 3, "keepWeekly": 3, "keepMonthly": 2, "keepWithin": "12h", "minimum": 2}"#;

fn example() -> Vec<(Snapshot<'static>, &'static str)> {
    let pinned = Snapshot { pinned: true, ..good("m", "2026-09-10T02:15:00+02:00") };
    let running = Snapshot { state: State::BeingMade, ..good("a", "2026-11-25T14:15:00+01:00") };
    vec![
        (running, "runs"),
        (partial("b", "2026-11-25T08:15:00+01:00"), "partial"),
        (good("c", "2026-11-25T02:15:00+01:00"), "complete"),
        (good("d", "2026-11-24T20:15:00+01:00"), "complete"),
        (by_hand(good("e", "2026-11-24T16:00:00+01:00"), Some(12)), "by hand, `retainFor: 12h`"),
        (good("f", "2026-11-24T14:15:00+01:00"), "complete"),
        (partial("g", "2026-11-24T08:15:00+01:00"), "partial"),
        (by_hand(good("h", "2026-11-23T11:00:00+01:00"), None), "by hand"),
        // Sunday; the schedule was suspended on Monday.
        (good("i", "2026-11-22T20:15:00+01:00"), "complete"),
        (good("j", "2026-11-20T20:15:00+01:00"), "complete"),
        (good("k", "2026-11-01T02:15:00+01:00"), "complete"),
        (good("l", "2026-10-31T20:15:00+01:00"), "complete"),
        (pinned, "complete, pinned"),
        (good("n", "2026-09-09T02:15:00+02:00"), "complete"),
    ]
}

#[test]
fn the_example_in_the_documentation_is_what_the_plan_says() {
    let example = example();
    let snapshots = example.iter().map(|(snapshot, _)| *snapshot).collect::<Vec<_>>();
    let berlin = zone("Europe/Berlin");
    let now = at("2026-11-25T14:20:00+01:00");
    let decisions = plan_retention(&series(&snapshots), &policy(POLICY), &berlin, now);
    let mut table = String::from("| | slot | run | what becomes of it |\n|---|---|---|---|\n");
    for (made, (snapshot, what)) in decisions.iter().zip(&example) {
        assert_eq!(made.snapshot, *snapshot, "the example stands in the plan's order");
        let slot = made.snapshot.time.to_zoned(berlin.clone()).strftime("%a %Y-%m-%d %H:%M");
        let _ = writeln!(table, "| {} | {slot} | {what} | {} |", snapshot.id, made.verdict);
    }
    let (begin, end) = ("<!-- example: begin -->\n", "<!-- example: end -->");
    let (_, rest) = PAGE.split_once(begin).unwrap();
    let (written, _) = rest.split_once(end).unwrap();
    assert_eq!(written, table, "docs/retention.md should have this table:\n{table}");
    let yaml = POLICY.replace('"', "");
    assert!(PAGE.contains(&format!("retention: {yaml}")), "the page has another policy");
}
