//! Maintenance: what retention lets go, the breaker, pins.

use dbbackup_kind_tests::{CLAIM, FOLDER, Scenario, Server, backup, repository, schedule};
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

/// Each minute, and almost nothing may go without being asked.
const MAINTENANCE: &str =
    "  maintenance: {schedule: \"* * * * *\", maxDeletePercent: 10, check: {readPercent: 100}}\n";

/// A backup as the schedule makes it at a slot.
fn slot_of(name: &str, slot: Timestamp, pinned: bool) -> String {
    format!(
        "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata:\n  name: {name}\n  \
         annotations: {{dbbackup.dev/slot: \"{slot}\"}}\n\
         spec: {{scheduleRef: {{name: nightly}}, pinned: {pinned}}}\n"
    )
}

fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|found| found["type"] == type_)
}

#[test]
fn retention_waits_for_approval_then_lets_go_what_is_neither_kept_nor_pinned() {
    let scenario = Scenario::begin("maintenance");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    scenario.apply(CLAIM);
    scenario.apply(&repository(FOLDER, MAINTENANCE));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    let nightly = schedule("nightly", "shop-db", "{}", "{}");
    scenario.apply(&nightly.replace("  job: {}", "  retention: {keepLast: 1}\n  job: {}"));
    let now = Timestamp::now();
    for (name, hours, pinned) in [("oldest", 3, true), ("middle", 2, false), ("newest", 1, false)] {
        scenario.apply(&slot_of(name, now - hours.hours(), pinned));
    }
    for name in ["oldest", "middle", "newest"] {
        let done = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
        assert_eq!(done["status"]["phase"], "Succeeded", "{name}");
    }

    // The plan of the next maintenance has the middle one alone.
    scenario.wait_until("the pin is recorded", || {
        let pinned = scenario.object("backup/oldest")["status"]["pinned"] == true;
        pinned.then_some(())
    });
    let (plan, message) = scenario.wait_until("a plan waits to be approved", || {
        let repository = scenario.object("backuprepository/main");
        let found = condition(&repository, "Maintained")?;
        let plan = repository["status"]["lastMaintenance"]["waitingPlan"].as_str()?.to_owned();
        let message = found["message"].as_str()?.to_owned();
        let is_whole = message.contains("1 of 3 snapshots");
        (found["reason"] == "TooMuchToDelete" && is_whole).then_some((plan, message))
    });
    assert!(message.contains(&format!("approvedPlan to {plan}")), "{message}");
    let waiting = scenario.wait_for_condition("backuprepository/main", "Ready");
    let column = waiting["status"]["display"].as_str().unwrap();
    assert!(column.contains("maintenance: TooMuchToDelete"), "{column}");
    let _ = scenario.wait_for_warning("backuprepository/main", "TooMuchToDelete");
    assert_eq!(scenario.object("backup/middle")["status"]["phase"], "Succeeded");

    let approval = format!(r#"{{"spec": {{"maintenance": {{"approvedPlan": "{plan}"}}}}}}"#);
    scenario.kubectl(&["patch", "dbbr", "main", "--type=merge", "--patch", &approval]);
    scenario.wait_until("the middle one has expired", || {
        (scenario.object("backup/middle")["status"]["phase"] == "Expired").then_some(())
    });
    for kept in ["oldest", "newest"] {
        assert_eq!(scenario.object(&format!("backup/{kept}"))["status"]["phase"], "Succeeded");
    }
    let maintained = scenario.wait_until("the repository tells of two snapshots", || {
        let repository = scenario.object("backuprepository/main");
        (repository["status"]["snapshotCount"] == 2).then_some(repository)
    });
    let intact = condition(&maintained, "Intact").unwrap();
    assert_eq!(intact["status"], "True", "{intact}");
    assert_eq!(intact["reason"], "CheckPassed", "{intact}");
    assert_eq!(maintained["status"]["lastCheck"]["outcome"], "Passed");
    assert!(maintained["status"]["lastCheck"]["asOf"].is_string());
}

#[test]
fn what_a_person_made_goes_when_its_time_is_over_and_stays_where_none_was_said() {
    let scenario = Scenario::begin("retain-for");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    scenario.apply(CLAIM);
    let often = "  maintenance: {schedule: \"* * * * *\", maxDeletePercent: 100}\n";
    scenario.apply(&repository(FOLDER, often));
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    for (name, more) in [("short", ", retainFor: 1s"), ("long", ", retainFor: 365d"), ("ever", "")]
    {
        let named = format!("{{scheduleRef: {{name: nightly}}{more}}}");
        scenario.apply(&backup(name, "nightly").replace("{scheduleRef: {name: nightly}}", &named));
        let _ = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
    }
    scenario.wait_patiently("the short one has expired", || {
        (scenario.object("backup/short")["status"]["phase"] == "Expired").then_some(())
    });
    for kept in ["long", "ever"] {
        assert_eq!(scenario.object(&format!("backup/{kept}"))["status"]["phase"], "Succeeded");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_when_it_is_written() {
    let scenario = Scenario::begin("maintenance-refusals");
    let nightly = schedule("nightly", "shop-db", "{}", "{}");
    for (retention, words) in [
        ("{keepLast: 0}", "greater than or equal to 1"),
        ("{minimum: 3}", "minimum alone lets nothing go"),
        ("{keepWithin: 0h}", "keepWithin of zero keeps nothing"),
    ] {
        let yaml = nightly.replace("  job: {}", &format!("  retention: {retention}\n  job: {{}}"));
        let refused = scenario.try_apply(&yaml).unwrap_err().message;
        assert!(refused.contains(words), "{retention}: {refused}");
    }
    for (field, words) in [
        ("erase: {confirm: abc}", "status.snapshotId"),
        ("pinned: true, erase: {confirm: abc}", "a pinned backup cannot be erased"),
    ] {
        let yaml = format!(
            "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata: {{name: b}}\n\
             spec: {{scheduleRef: {{name: nightly}}, {field}}}\n"
        );
        let refused = scenario.try_apply(&yaml).unwrap_err().message;
        assert!(refused.contains(words), "{field}: {refused}");
    }
}
