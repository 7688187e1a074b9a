//! `check` and `repair` of repositories that lack something.

use serde_json::Value;

use crate::support::{Place, corrupt, first_file};

fn ids(place: &Place) -> Vec<String> {
    let list: Value = serde_json::from_str(place.call(["snapshots", "--json"]).text()).unwrap();
    list.as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_lost_snapshot_is_planned_then_written_off_and_no_damage_any_more() {
    let place = Place::new();
    place.feed(["store", "name"], &[7; 1000]).well();
    corrupt(&first_file(&place.path("repository/snapshots")));
    assert_eq!(place.call(["check"]).code, Some(72));
    let before = place.call(["check", "--json"]);
    let report: Value = serde_json::from_str(before.text()).unwrap();
    assert_eq!(report["problems"][0]["reason"], "RepositoryDamaged");
    assert_eq!(report["problems"][0]["touched"][0]["all"], true);
    let id = report["problems"][0]["touched"][0]["snapshot"].as_str().unwrap();
    assert_eq!(report["problems"][0]["object"], format!("snapshots/{id}"));
    assert_eq!(report["losses"][0]["snapshot"], id);

    let plan = place.call(["repair"]);
    assert_eq!(plan.code, Some(0), "{}", plan.err);
    assert!(plan.text().contains(&format!("write off snapshot {id}: ")), "{}", plan.text());
    assert!(plan.err.contains("nothing was done"), "{}", plan.err);
    assert_eq!(place.call(["check"]).code, Some(72));

    let done = place.call(["repair", "--yes"]).well();
    assert!(done.text().contains("wrote off 1 snapshot"), "{}", done.text());
    assert_eq!(place.call(["check"]).code, Some(0));
    place.call(["snapshots"]).well();
    assert_eq!(place.call(["repair"]).well().text(), "nothing to repair\n");
}

#[test]
fn a_snapshot_that_was_written_off_by_name_is_given_back_only_on_demand() {
    let place = Place::new();
    place.feed(["store", "name"], b"content").well();
    let [id] = &ids(&place)[..] else { panic!() };
    let prefix = &id[..12];
    place.call(["repair", "--write-off", prefix, "--reason", "a test", "--yes"]).well();
    let listed = place.call(["snapshots"]).well();
    assert!(listed.text().contains("(written off)"), "{}", listed.text());
    let refused = place.call(["fetch", id]);
    assert_eq!(refused.code, Some(72), "{}", refused.err);
    assert!(refused.err.contains("a test (SnapshotWrittenOff)"), "{}", refused.err);
    let given = place.call(["fetch", id, "--even-if-written-off"]).well();
    assert_eq!(given.out, b"content");
    let nobody = place.call(["repair", "--write-off", "zzz"]);
    assert_eq!(nobody.code, Some(66), "{}", nobody.err);
}

#[test]
fn a_share_of_the_data_is_read_and_a_wrong_share_refused() {
    let place = Place::new();
    place.feed(["store", "name"], &[7; 1000]).well();
    let mut read = std::collections::BTreeSet::new();
    for number in 0..6 {
        let number = format!("--check-number={number}");
        let ended = place.call(["check", "--json", "--read-data=50%", &number]);
        let report: Value = serde_json::from_str(ended.text()).unwrap();
        assert_eq!((ended.code, &report["level"]), (Some(0), &"data".into()));
        read.insert(report["packsRead"].as_u64().unwrap());
    }
    assert_eq!(read, [0, 1].into());
    for wrong in ["0", "101%", "x", "5.123%", "-1"] {
        let ended = place.call(["check", &format!("--read-data={wrong}")]);
        assert_eq!(ended.code, Some(64), "{wrong}: {}", ended.err);
    }
}
