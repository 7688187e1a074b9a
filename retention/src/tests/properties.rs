use std::collections::BTreeSet;

use dbbackup_contract::Outcome;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{NAME, at, by_hand, good, kept, zone};
use crate::{
    Decision, DropReason, RetentionPolicy, Series, Snapshot, State, Verdict, plan_retention,
};

const ZONES: [&str; 4] =
    ["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Kiritimati"];
const NOW: &str = "2026-11-25T12:00:00Z";
const START: &str = "2024-12-28T00:00:00Z";

/// A snapshot before it has a name.
#[derive(Clone, Debug)]
struct Draft {
    snapshot: Snapshot<'static>,
    id: String,
}

fn draft(number: usize, (minutes, state, made_by, pinned, in_use): Parts) -> Draft {
    let time = at(START) + SignedDuration::from_mins(minutes);
    let made = good("", START);
    let made = match made_by {
        0 => by_hand(made, None),
        1 => by_hand(made, Some(72)),
        2 => by_hand(made, Some(24 * 400)),
        _ => made,
    };
    // Not in the order of the times, and every id once.
    let id = format!("{:03}", (number * 619) % 1000);
    Draft { snapshot: Snapshot { time, state, pinned, in_use, ..made }, id }
}

type Parts = (i64, State, u8, bool, bool);

/// Two years of snapshots, some of them in the future; often several in one hour.
fn parts() -> impl Strategy<Value = Parts> {
    let states = vec![
        State::Ended(Outcome::Succeeded),
        State::Ended(Outcome::Succeeded),
        State::Ended(Outcome::Succeeded),
        State::Ended(Outcome::PartiallyFailed),
        State::Ended(Outcome::Failed),
        State::BeingMade,
        State::Unreadable,
    ];
    let minutes = prop_oneof![0..1_010_000_i64, 999_000..1_003_000_i64, Just(1_000_000)];
    (minutes, select(states), 0..9_u8, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
}

fn drafts(most: usize) -> impl Strategy<Value = Vec<Draft>> {
    vec(parts(), 0..most)
        .prop_map(|all| all.into_iter().enumerate().map(|(n, one)| draft(n, one)).collect())
}

/// A policy with at least one rule.
fn policies() -> impl Strategy<Value = RetentionPolicy> {
    let count = || prop_oneof![Just(0_u32), 1..6_u32];
    let within = prop_oneof![Just(None), (1..2000_u64).prop_map(Some)];
    (count(), count(), count(), count(), count(), count(), within, count())
        .prop_map(|(last, hourly, daily, weekly, monthly, yearly, hours, minimum)| {
            let within = hours.map(|hours| std::time::Duration::from_secs(hours * 3600));
            RetentionPolicy { last, hourly, daily, weekly, monthly, yearly, within, minimum }
        })
        .prop_filter("it has a rule", |policy| !policy.keeps_everything())
}

/// The same with larger numbers here and there, or more rules.
fn more_generous(policy: &RetentionPolicy, by: [u32; 8]) -> RetentionPolicy {
    let hours = u64::from(by[6]) * 100;
    let within = policy.within.unwrap_or_default() + std::time::Duration::from_secs(hours * 3600);
    RetentionPolicy {
        last: policy.last + by[0],
        hourly: policy.hourly + by[1],
        daily: policy.daily + by[2],
        weekly: policy.weekly + by[3],
        monthly: policy.monthly + by[4],
        yearly: policy.yearly + by[5],
        within: Some(within).filter(|within| !within.is_zero()),
        minimum: policy.minimum + by[7],
    }
}

fn apply<'a>(
    snapshots: impl IntoIterator<Item = Snapshot<'a>>,
    policy: &RetentionPolicy,
    in_zone: &str,
    now: Timestamp,
) -> Vec<Decision<'a>> {
    let mut series = Series::new(NAME);
    for snapshot in snapshots {
        series.add(NAME, snapshot).unwrap();
    }
    plan_retention(&series, policy, &zone(in_zone), now)
}

fn named(drafts: &[Draft]) -> Vec<Snapshot<'_>> {
    drafts.iter().map(|draft| Snapshot { id: &draft.id, ..draft.snapshot }).collect()
}

fn kept_set<'a>(decisions: &[Decision<'a>]) -> BTreeSet<&'a str> {
    kept(decisions).into_iter().collect()
}

/// Verdicts of all but the snapshot `id`.
fn others<'a, 'b>(decisions: &'b [Decision<'a>], id: &str) -> Vec<&'b Decision<'a>> {
    decisions.iter().filter(|made| made.snapshot.id != id).collect()
}

fn is_good_by_now(snapshot: &Snapshot<'_>) -> bool {
    snapshot.is_good() && snapshot.time <= at(NOW)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_input_does_not_matter(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
    ) {
        let snapshots = named(&drafts);
        let made = apply(snapshots.iter().copied(), &policy, in_zone, at(NOW));
        let turned = apply(snapshots.iter().rev().copied(), &policy, in_zone, at(NOW));
        prop_assert_eq!(&made, &turned);
        prop_assert_eq!(made.len(), snapshots.len());
        let order = |pair: &[Decision<'_>]| pair[0].snapshot.time >= pair[1].snapshot.time;
        prop_assert!(made.windows(2).all(order), "newest first");
    }

    #[test]
    fn carried_out_and_planned_again_everything_stays_for_the_same_reasons(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
    ) {
        let once = apply(named(&drafts), &policy, in_zone, at(NOW));
        let left: Vec<_> = once.into_iter().filter(|made| made.verdict.is_kept()).collect();
        let again = apply(left.iter().map(|made| made.snapshot), &policy, in_zone, at(NOW));
        prop_assert_eq!(again, left);
    }

    /// A plan that was carried out in part, before the Job was killed, goes on as it was.
    #[test]
    fn half_carried_out_the_rest_is_dropped_and_nothing_else(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]), half: u64,
    ) {
        let whole = apply(named(&drafts), &policy, in_zone, at(NOW));
        let left: Vec<_> = whole
            .into_iter()
            .enumerate()
            .filter(|(n, made)| made.verdict.is_kept() || half >> (n % 64) & 1 == 0)
            .map(|(_, made)| made)
            .collect();
        let again = apply(left.iter().map(|made| made.snapshot), &policy, in_zone, at(NOW));
        prop_assert_eq!(again, left);
    }

    #[test]
    fn a_more_generous_policy_keeps_all_that_and_perhaps_more(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
        by in prop::array::uniform8(0..4_u32),
    ) {
        let generous = more_generous(&policy, by);
        let less = apply(named(&drafts), &policy, in_zone, at(NOW));
        let more = apply(named(&drafts), &generous, in_zone, at(NOW));
        prop_assert!(kept_set(&less).is_subset(&kept_set(&more)));
    }

    #[test]
    fn never_fewer_complete_ones_than_the_minimum_and_the_newest_always(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
    ) {
        let made = apply(named(&drafts), &policy, in_zone, at(NOW));
        let good: Vec<_> = made.iter().filter(|made| is_good_by_now(&made.snapshot)).collect();
        let stay = good.iter().filter(|made| made.verdict.is_kept()).count();
        let wanted = usize::try_from(policy.minimum).unwrap().max(1).min(good.len());
        prop_assert!(stay >= wanted, "{stay} of {} stay, {wanted} must", good.len());
        prop_assert!(good.first().is_none_or(|newest| newest.verdict.is_kept()));
    }

    #[test]
    fn what_is_exempt_stays_whatever_the_policy_and_whatever_is_added(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
    ) {
        for made in apply(named(&drafts), &policy, in_zone, at(NOW)) {
            let snapshot = made.snapshot;
            let for_ever = by_hand(snapshot, None).made_by;
            let exempt = snapshot.pinned
                || snapshot.in_use
                || matches!(snapshot.state, State::BeingMade | State::Unreadable)
                || snapshot.time > at(NOW)
                || snapshot.made_by == for_ever;
            prop_assert!(!exempt || made.verdict.is_kept(), "{made:?}");
        }
    }

    #[test]
    fn a_newer_snapshot_drops_nothing_that_is_pinned_and_what_lies_ahead_nothing_at_all(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
        ahead in 1..1_000_000_i64,
    ) {
        let before = apply(named(&drafts), &policy, in_zone, at(NOW));
        let newest = Snapshot { time: at(NOW), ..good("new", NOW) };
        let after = apply(named(&drafts).into_iter().chain([newest]), &policy, in_zone, at(NOW));
        for made in after {
            prop_assert!(!made.snapshot.pinned || made.verdict.is_kept(), "{made:?}");
        }
        let future = Snapshot { time: at(NOW) + SignedDuration::from_mins(ahead), ..newest };
        let after = apply(named(&drafts).into_iter().chain([future]), &policy, in_zone, at(NOW));
        prop_assert_eq!(others(&after, "new"), others(&before, "new"));
    }

    #[test]
    fn a_pin_changes_nothing_for_the_others(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]), which: Index,
    ) {
        prop_assume!(!drafts.is_empty());
        let before = apply(named(&drafts), &policy, in_zone, at(NOW));
        let mut pinned = named(&drafts);
        let index = which.index(pinned.len());
        pinned[index].pinned = true;
        let id = pinned[index].id;
        let after = apply(pinned, &policy, in_zone, at(NOW));
        prop_assert_eq!(others(&after, id), others(&before, id));
    }

    #[test]
    fn a_run_by_hand_pushes_out_no_complete_one_of_the_schedule(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
        parts in parts(), hours in prop_oneof![Just(None), (1..9000_u64).prop_map(Some)],
    ) {
        let before = apply(named(&drafts), &policy, in_zone, at(NOW));
        // The one of which a policy of nothing but keepWithin counts, if there is no other.
        prop_assume!(drafts.iter().any(|draft| {
            is_good_by_now(&draft.snapshot) && draft.snapshot.is_scheduled()
        }));
        let hand = Snapshot { id: "hand", ..by_hand(draft(0, parts).snapshot, hours) };
        let after = apply(named(&drafts).into_iter().chain([hand]), &policy, in_zone, at(NOW));
        let slots = |decisions: &[Decision<'_>]| -> BTreeSet<String> {
            let mine = decisions.iter().filter(|made| {
                made.verdict.is_kept() && made.snapshot.is_good() && made.snapshot.is_scheduled()
            });
            mine.map(|made| made.snapshot.id.to_owned()).collect()
        };
        prop_assert_eq!(slots(&after), slots(&before));
    }

    #[test]
    fn time_alone_ends_nothing_but_what_people_wanted_for_a_while(
        drafts in drafts(60), policy in policies(), in_zone in select(&ZONES[..]),
        days in 0..4000_i64,
    ) {
        let past = |snapshot: &Snapshot<'_>| {
            snapshot.time <= at(NOW) && by_hand(*snapshot, None).made_by != snapshot.made_by
                && snapshot.is_scheduled()
        };
        let snapshots: Vec<_> = named(&drafts).into_iter().filter(past).collect();
        let today = apply(snapshots.iter().copied(), &policy, in_zone, at(NOW));
        let later = at(NOW) + SignedDuration::from_hours(24 * days);
        prop_assert_eq!(apply(snapshots, &policy, in_zone, later), today);
    }

    #[test]
    fn without_rules_nothing_goes_but_what_was_wanted_until_now(
        drafts in drafts(60), minimum in 0..9_u32, in_zone in select(&ZONES[..]),
    ) {
        let policy = RetentionPolicy { minimum, ..RetentionPolicy::default() };
        let made = apply(named(&drafts), &policy, in_zone, at(NOW));
        prop_assert_eq!(made.len(), drafts.len());
        for gone in made.iter().filter(|made| !made.verdict.is_kept()) {
            prop_assert!(matches!(gone.verdict, Verdict::Drop(DropReason::RetainForEnded(_))));
        }
    }
}
