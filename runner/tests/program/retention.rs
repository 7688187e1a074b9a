//! Letting snapshots go, pinning them, and freeing their space.

use std::path::Path;

use serde_json::Value;

use crate::days::a_day_later;
use crate::support::Place;

fn store(place: &Place, content: &[u8]) -> String {
    let stored = place.feed(["store", "data", "--json"], content).well();
    let stored: Value = serde_json::from_str(stored.text()).unwrap();
    stored["id"].as_str().unwrap().to_owned()
}

/// Bytes that share nothing.
fn bytes(seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) << 32 | 1;
    let next = || {
        // xorshift64 (Marsaglia, 2003): nothing compresses it.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(300_000).collect()
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => size(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

#[test]
fn snapshots_go_by_rules_and_their_space_is_freed() {
    let place = Place::new();
    let folder = place.path("repository");
    let ids: Vec<_> = (1..=3).map(|seed| store(&place, &bytes(seed))).collect();
    let before = size(&folder);
    let dry = place.call(["forget", "--keep-last", "1", "--dry-run"]).well();
    assert!(dry.text().contains("2 of 3 snapshots would be let go"), "{}", dry.text());
    let refused = place.call(["forget", "--keep-last", "1", "--max-delete-percent", "50"]);
    assert_eq!(refused.code, Some(71), "{}", refused.err);
    let plan = refused.err.split("the plan is ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(dry.text().contains(plan), "{plan} is not in {}", dry.text());

    let [pinned, gone, _newest] = &ids[..] else { panic!("{ids:?}") };
    place.call(["pin", pinned, "--note", "before the migration"]).well();
    let done = place.call(["forget", "--keep-last", "1"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.text().contains("kept: pinned"), "{}", done.text());
    assert!(done.text().contains("1 of 3 snapshots to be let go"), "{}", done.text());
    assert!(done.err.contains("prune"), "{}", done.err);
    let left: Value =
        serde_json::from_str(place.call(["snapshots", "--json"]).well().text()).unwrap();
    assert_eq!(left.as_array().unwrap().len(), 2);

    let mut deleted = 0;
    for _ in 0..3 {
        a_day_later(&folder);
        let pruned = place.call(["prune", "--json"]).well();
        let pruned: Value = serde_json::from_str(pruned.text()).unwrap();
        deleted += pruned["deletedBytes"].as_u64().unwrap();
    }
    assert!(deleted > 100_000, "{deleted}");
    assert!(size(&folder) < before - 100_000);
    let fetched = place.call(["fetch", gone]);
    assert_eq!(fetched.code, Some(66), "{}", fetched.err);
    assert!(fetched.err.contains("SnapshotForgotten"), "{}", fetched.err);
    assert_eq!(place.call(["check", "--level", "data"]).code, Some(0));

    let pinned_still = place.call(["forget", "--snapshot", pinned]);
    assert_eq!(pinned_still.code, Some(71), "{}", pinned_still.err);
    place.call(["unpin", pinned]).well();
    place.call(["forget", "--snapshot", pinned]).well();
}

#[test]
fn rules_that_make_no_sense_are_refused_before_anything_is_opened() {
    let place = Place::without_repository();
    for (arguments, expected) in [
        (vec!["forget"], "no rule was given"),
        (vec!["forget", "--minimum", "3"], "no rule was given"),
        (vec!["forget", "--keep-last", "0"], "keepLast is 0"),
        (vec!["forget", "--keep-within", "soon"], "is no duration"),
        (vec!["forget", "--keep-last", "1", "--time-zone", "Mars/Base"], "is no time zone"),
        (vec!["prune", "--grace", "5s"], "less than 10m"),
    ] {
        let refused = place.call(&arguments);
        assert_eq!(refused.code, Some(64), "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(expected), "{arguments:?}: {}", refused.err);
    }
    let partial = Place::new().call(["forget", "--snapshot", "abc"]);
    assert_eq!(partial.code, Some(64), "{}", partial.err);
}
