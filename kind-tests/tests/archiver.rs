//! The server's log is archived as it is written, whatever happens to the archiver; and where it
//! is archived no more, the server keeps nothing for it.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, schedule};
use jiff::Timestamp;
use serde_json::{Value, json};

const FINALIZER: &str = "dbbackup.dev/replication-slot";
const OFF: &str = r#"{"spec": {"pointInTimeRecovery": {"enabled": false}}}"#;
const ON: &str = r#"{"spec": {"pointInTimeRecovery": {"enabled": true}}}"#;
/// Those of backups that run are temporary.
const SLOTS: &str = r"select slot_name from pg_replication_slots where slot_name like 'dbbackup\_%' and not temporary";

/// A schedule `nightly` whose log is archived.
fn archiving(credentials: &str) -> String {
    let yaml = schedule("nightly", credentials, "{}", "{}").replace("      databases: {}\n", "");
    let wanted =
        "  method: Physical\n  pointInTimeRecovery: {enabled: true, maxLag: 1s}\n  schedule:";
    yaml.replace("  schedule:", wanted)
}

fn nightly(scenario: &Scenario) -> Value {
    scenario.object("backupschedule/nightly")
}

fn condition(object: &Value, type_: &str) -> Option<Value> {
    let all = object["status"]["conditions"].as_array()?;
    all.iter().find(|condition| condition["type"] == type_).cloned()
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn patch(scenario: &Scenario, patch: &str) {
    scenario.kubectl(&["patch", "dbbs", "nightly", "--type=merge", "--patch", patch]);
}

/// Writes rows, and waits until all up to then is archived. Gives the server's time of that.
fn write_and_wait(scenario: &Scenario, server: &Server<'_>) -> Timestamp {
    server.sql("shop", "insert into items select max(id) + 1, 'more', 1 from items");
    let clock = server.sql(
        "shop",
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    let written: Timestamp = clock.parse().unwrap();
    scenario.wait_until("the rows are in the archive", || {
        let kept = time(&nightly(scenario)["status"]["log"]["keptTime"])?;
        (kept >= written).then_some(())
    });
    written
}

/// A server, a repository and the schedule, whose log is archived by now.
fn prepare(scenario: &Scenario) -> Server<'_> {
    let server = Server::start(scenario);
    server.create_database("shop", 1000);
    create_repository(scenario);
    scenario.apply(&archiving("shop-db"));
    let _ = scenario.wait_for_condition("backupschedule/nightly", "LogArchived");
    server
}

#[test]
fn a_log_is_archived_and_with_a_base_there_is_a_window_that_grows() {
    let scenario = Scenario::begin("archiver");
    let server = prepare(&scenario);
    let before = nightly(&scenario);
    let message = condition(&before, "LogArchived").unwrap()["message"].to_string();
    assert!(message.contains("before the first base"), "{message}");
    assert_eq!(before["status"]["recoveryWindow"]["earliest"], Value::Null);
    let ready = scenario.wait_for_condition("backupschedule/nightly", "Ready");
    let message = condition(&ready, "Ready").unwrap()["message"].to_string();
    assert!(message.contains("Physical by the replication protocol"), "{message}");

    // A base that begins before anything is kept would not be one of the window.
    write_and_wait(&scenario, &server);
    scenario.apply(&backup("base", "nightly"));
    let base = scenario.wait_for_condition("backup/base", "Complete");
    assert_eq!(base["status"]["method"]["used"], "Physical");
    assert!(base["status"]["logStart"]["lsn"].is_string(), "{}", base["status"]);
    let window = scenario.wait_until("the window has both edges", || {
        let window = nightly(&scenario)["status"]["recoveryWindow"].clone();
        time(&window["earliest"]).zip(time(&window["latest"]))
    });
    assert_eq!(Some(window.0), time(&base["status"]["consistentTime"]));
    let written = write_and_wait(&scenario, &server);
    let grown = scenario.wait_until("the window has grown", || {
        let latest = time(&nightly(&scenario)["status"]["recoveryWindow"]["latest"])?;
        (latest >= written).then_some(latest)
    });
    assert!(grown > window.1, "{grown}, after {}", window.1);
    let display = nightly(&scenario)["status"]["display"].to_string();
    assert!(display.contains("log ") && display.contains(" behind"), "{display}");
}

#[test]
fn an_archiver_whose_pod_is_deleted_or_killed_goes_on_without_a_gap() {
    let scenario = Scenario::begin("archiver-pods");
    let server = prepare(&scenario);
    write_and_wait(&scenario, &server);
    let pods = ["delete", "pods", "--selector=dbbackup.dev/purpose=archive", "--wait=false"];
    for further in [&[][..], &["--grace-period=0", "--force"][..]] {
        scenario.kubectl(&[&pods[..], further].concat());
        write_and_wait(&scenario, &server);
    }
    let _ = scenario.wait_for_condition("backupschedule/nightly", "LogArchived");
    let after = nightly(&scenario);
    assert_eq!(after["status"]["log"]["gapCount"].as_u64().unwrap_or(0), 0, "{after}");
    // One slot, whoever reads from it.
    assert_eq!(server.sql("postgres", SLOTS).lines().count(), 1);

    // Another lag, another archiver; a suspension is none.
    let archiver = |object: &Value| object["status"]["archiver"]["number"].as_u64();
    let number = archiver(&nightly(&scenario));
    patch(&scenario, r#"{"spec": {"suspend": true}}"#);
    write_and_wait(&scenario, &server);
    assert_eq!(archiver(&nightly(&scenario)), number);
    patch(&scenario, r#"{"spec": {"pointInTimeRecovery": {"maxLag": "2s"}}}"#);
    scenario.wait_until("the next archiver is begun", || {
        (archiver(&nightly(&scenario)) > number).then_some(())
    });
    write_and_wait(&scenario, &server);
}

#[test]
fn a_role_that_may_not_read_the_log_is_told_and_goes_on_once_it_may() {
    let scenario = Scenario::begin("archiver-role");
    let server = Server::start(&scenario);
    server.create_database("shop", 10);
    server.sql("postgres", "create role archivist login password 'of the archivist'");
    create_repository(&scenario);
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: archivist}\nstringData: {username: archivist, password: of the archivist}\n",
    );
    scenario.apply(&archiving("archivist"));
    let told = scenario.wait_until("it is told what the role lacks", || {
        let condition = condition(&nightly(&scenario), "LogArchived")?;
        (condition["reason"] == "PermissionDenied").then_some(condition)
    });
    assert_eq!(told["status"], "False");
    assert!(told["message"].as_str().unwrap().contains("REPLICATION"), "{told}");
    let shown = nightly(&scenario)["status"]["display"].to_string();
    assert!(shown.contains("log not archived: PermissionDenied"), "{shown}");
    server.sql("postgres", "alter role archivist replication");
    scenario.wait_patiently("the log is archived by itself", || {
        let condition = condition(&nightly(&scenario), "LogArchived")?;
        (condition["status"] == "True").then_some(())
    });
}

#[test]
fn where_it_is_switched_off_or_deleted_the_server_keeps_no_slot() {
    let scenario = Scenario::begin("archiver-end");
    let server = prepare(&scenario);
    assert_eq!(server.sql("postgres", SLOTS).lines().count(), 1);
    assert_eq!(nightly(&scenario)["metadata"]["finalizers"], json!([FINALIZER]));
    patch(&scenario, OFF);
    scenario
        .wait_until("the slot is gone", || server.sql("postgres", SLOTS).is_empty().then_some(()));
    let off = scenario.wait_until("nothing is left of the archiver", || {
        let object = nightly(&scenario);
        let is_left =
            object["metadata"]["finalizers"].is_array() || object["status"]["archiver"].is_object();
        (!is_left).then_some(object)
    });
    assert_eq!(condition(&off, "LogArchived"), None);

    for cascade in ["background", "foreground"] {
        scenario.apply(&archiving("shop-db"));
        patch(&scenario, ON);
        let _ = scenario.wait_for_condition("backupschedule/nightly", "LogArchived");
        assert_eq!(server.sql("postgres", SLOTS).lines().count(), 1, "{cascade}");
        let how = format!("--cascade={cascade}");
        scenario.kubectl(&["delete", "dbbs", "nightly", &how, "--timeout=180s"]);
        assert_eq!(nightly(&scenario), Value::Null, "{cascade}");
        assert_eq!(server.sql("postgres", SLOTS), "", "{cascade}");
    }
    let told = scenario.objects("events", "");
    let dropped = told.iter().filter(|event| event["reason"] == "SlotDropped").count();
    assert!(dropped >= 1, "{dropped}");
    assert!(!told.iter().any(|event| event["reason"] == "SlotLeft"));
}

#[test]
fn a_schedule_whose_server_was_never_there_is_deleted_without_a_long_wait() {
    let scenario = Scenario::begin("archiver-nowhere");
    create_repository(&scenario);
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: shop-db}\nstringData: {username: postgres, password: none}\n",
    );
    scenario.apply(&archiving("shop-db"));
    scenario.wait_until("it is told that the server is not there", || {
        let condition = condition(&nightly(&scenario), "LogArchived")?;
        (condition["reason"] == "HostNotFound").then_some(())
    });
    scenario.kubectl(&["delete", "dbbs", "nightly", "--timeout=180s"]);
    assert_eq!(nightly(&scenario), Value::Null);
    let told = scenario.objects("events", "");
    let left = told.iter().find(|event| event["reason"] == "SlotLeft").unwrap();
    assert!(left["message"].as_str().unwrap().contains("pg_drop_replication_slot"), "{left}");
}

#[test]
fn what_cannot_be_archived_is_refused_with_the_reason() {
    let scenario = Scenario::begin("archiver-refused");
    let good = archiving("shop-db");
    for (from, to, words) in [
        ("method: Physical", "method: Logical", "pointInTimeRecovery needs method: Physical"),
        ("maxLag: 1s", "maxLag: 2d", "maxLag lies between 100ms and 24h"),
        ("maxLag: 1s", "maxLag: 50ms", "maxLag lies between 100ms and 24h"),
        ("{mode: Prefer}", "{mode: Prefer}\n      databases: {include: [shop]}", "whole server"),
    ] {
        let refused = scenario.try_apply(&good.replace(from, to)).unwrap_err();
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    for lag in ["100ms", "1m30s", "24h", "1d"] {
        scenario.apply(&good.replace("maxLag: 1s", &format!("maxLag: {lag}")));
    }
}
