//! `--json`: what scripts build upon.

use serde_json::Value;

use crate::support::{Ended, Place};

fn json(ended: Ended) -> Value {
    let ended = ended.well();
    serde_json::from_str(ended.text()).unwrap_or_else(|error| panic!("{error}: {}", ended.text()))
}

/// The names of an object's fields, sorted.
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_outcome_as_json_has_the_same_fields_every_time() {
    let place = Place::without_repository();
    let init = json(place.call(["init", "--json"]));
    let expected = [
        "created",
        "keySlots",
        "logicalBytes",
        "outcome",
        "repositoryId",
        "snapshotCount",
        "storedBytes",
    ];
    assert_eq!(fields(&init), expected);
    assert_eq!((&init["outcome"], &init["created"]), (&"Succeeded".into(), &true.into()));
    let again = json(place.call(["init", "--json"]));
    assert_eq!((&again["created"], &again["repositoryId"]), (&false.into(), &init["repositoryId"]));

    let stored = json(place.feed(["store", "name", "--json"], b"content"));
    assert_eq!(fields(&stored), ["bytes", "id"]);
    assert_eq!(fields(&stored["bytes"]), ["new", "read", "stored"]);
    assert_eq!(stored["bytes"]["read"], 7);

    let list = json(place.call(["snapshots", "--json"]));
    let [snapshot] = list.as_array().unwrap().as_slice() else { panic!("{list}") };
    let expected = [
        "bytes",
        "commitTime",
        "id",
        "kind",
        "labels",
        "report",
        "sequence",
        "series",
        "slotTime",
        "startTime",
        "streams",
        "writtenOff",
    ];
    assert_eq!(fields(snapshot), expected);
    assert_eq!(snapshot["id"], stored["id"]);
    assert_eq!((&snapshot["series"], &snapshot["kind"]), (&"name".into(), &"stream".into()));

    let check = json(place.call(["check", "--json", "--level=data"]));
    let expected = [
        "bytesRead",
        "configs",
        "isCut",
        "keySlots",
        "level",
        "losses",
        "moreNotes",
        "notes",
        "packs",
        "packsRead",
        "problems",
        "snapshots",
        "unneeded",
    ];
    assert_eq!(fields(&check), expected);
    assert_eq!((&check["snapshots"], &check["problems"]), (&1.into(), &Value::Array(vec![])));
    assert_eq!(check["notes"], Value::Array(vec![]), "nothing of a volume is foreign");

    let slot = "--slot=2026-01-01T00:00:00Z";
    let run = json(place.call(["inspect", "--series=name", "--run=x", slot]));
    assert_eq!(run, serde_json::json!({"state": "NotCommitted"}));
}

#[test]
fn a_failure_is_json_too_where_a_report_was_asked_for() {
    let place = Place::without_repository();
    let arguments = ["backup", "postgresql://me@127.0.0.1:1", "--tls=disable", "--json"];
    let ended = place.call(arguments);
    assert_eq!(ended.code, Some(66), "{}", ended.err);
    let report: Value = serde_json::from_str(ended.text()).unwrap();
    assert_eq!(report["outcome"], "Failed");
    assert_eq!(report["error"]["reason"], "RepositoryNotFound");
}
