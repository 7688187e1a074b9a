//! When backups start by themselves, when they do not, and whether they would work.

use dbbackup_kind_tests::{
    Scenario, Server, create_objects, create_repository, schedule, schedule_at,
};
use jiff::civil::Weekday;
use jiff::{RoundMode, Timestamp, ToSpan as _, Unit, Zoned, ZonedRound, tz::TimeZone};
use serde_json::Value;

const SUSPENDED: &str = r#"{"spec": {"suspend": true}}"#;

fn time(object: &Value, field: &str) -> Option<Timestamp> {
    object["status"][field].as_str()?.parse().ok()
}

/// The backups of a schedule that are in this phase.
fn backups_of(scenario: &Scenario, schedule: &str, phase: &str) -> Vec<Value> {
    let mut found = scenario.objects("backups", &format!("dbbackup.dev/schedule={schedule}"));
    found.retain(|backup| backup["status"]["phase"] == phase);
    found
}

#[test]
fn a_schedule_fires_by_its_cron_line_in_its_zone() {
    let scenario = Scenario::begin("schedule");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    // Kathmandu is 5:45 ahead of UTC: neither the hour nor the minute is UTC's.
    let zone = TimeZone::get("Asia/Kathmandu").unwrap();
    let slot = (Timestamp::now().to_zoned(zone) + 75.seconds()).round(Unit::Minute).unwrap();
    let cron = format!("{} {} * * *", slot.minute(), slot.hour());
    let line = format!("\"{cron}\"\n  timeZone: Asia/Kathmandu");
    scenario.apply(&schedule_at("nightly", &line));

    let accepted = scenario.wait_for_condition("backupschedule/nightly", "Ready");
    let next: Timestamp = accepted["status"]["nextScheduleTime"].as_str().unwrap().parse().unwrap();
    assert_eq!(next, slot.timestamp(), "next slot of {cron:?} in Kathmandu");

    let name = format!("backup/nightly-{}", slot.timestamp().as_second() / 60);
    let done = scenario.wait_for_condition(&name, "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(done["metadata"]["ownerReferences"], Value::Null);
    let after = scenario.wait_until("the schedule shows its success", || {
        let object = scenario.object("backupschedule/nightly");
        object["status"]["lastSuccessfulTime"].is_string().then_some(object)
    });
    assert_eq!(
        after["status"]["lastScheduleTime"].as_str().unwrap().parse::<Timestamp>().unwrap(),
        slot.timestamp()
    );
    let upcoming: Timestamp =
        after["status"]["nextScheduleTime"].as_str().unwrap().parse().unwrap();
    assert_eq!(upcoming, (slot + 1.day()).timestamp());
}

#[test]
fn a_schedule_is_ready_when_a_look_ahead_has_passed_and_says_what_is_wrong_before_its_slot() {
    let scenario = Scenario::begin("preflight");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    server.sql("postgres", "create role clerk login password 'of the clerk'");
    create_repository(&scenario);
    let clerk = |password: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: clerk}}\nstringData: {{username: clerk, password: {password}}}\n"
        )
    };
    scenario.apply(&clerk("wrong"));
    scenario.apply(&schedule("nightly", "clerk", "{include: [shop]}", "{}"));
    let (column, message) = scenario.wait_for_reason("backupschedule/nightly", "WrongPassword");
    assert!(column.starts_with("a backup would fail: WrongPassword, next "), "{column}");
    assert!(message.starts_with("a backup would fail: "), "{message}");

    // Corrected, but for a right: the next generation is looked at at once.
    scenario.apply(&clerk("of the clerk"));
    scenario.apply(&schedule("nightly", "clerk", "{include: [sh*]}", "{}"));
    scenario.wait_for_reason("backupschedule/nightly", "PermissionDenied");
    let looked = scenario.object("backupschedule/nightly");
    let last = &looked["status"]["lastPreflight"];
    assert_eq!(last["databases"][0]["name"], "shop", "{last}");
    assert!(last["server"]["version"].as_str().unwrap().starts_with("17."), "{last}");

    server.sql("postgres", "grant pg_read_all_data to clerk");
    scenario.apply(&schedule("nightly", "clerk", "{include: [shop*]}", "{}"));
    let ready = scenario.wait_for_condition("backupschedule/nightly", "Ready");
    assert_eq!(ready["status"]["conditions"][0]["reason"], "PreflightPassed");
    assert_eq!(ready["status"]["lastPreflight"]["databaseCount"]["succeeded"], 1);
    assert!(scenario.objects("backups", "").is_empty());
    let missing = schedule("nightly", "clerk", "{include: [crm]}", "{}");
    scenario.apply(&missing);
    scenario.wait_for_reason("backupschedule/nightly", "DatabaseNotFound");
}

#[test]
fn a_first_backup_is_made_at_once_and_later_ones_start_behind_their_slots() {
    let scenario = Scenario::begin("at-once");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    let wanted = "\"0 0 1 1 *\"\n  immediate: true\n  jitter: 10h";
    scenario.apply(&schedule_at("nightly", wanted));
    let done = scenario.wait_until("a first backup succeeds", || {
        let object = scenario.object("backupschedule/nightly");
        object["status"]["lastSuccessfulTime"].is_string().then_some(object)
    });
    let next: Timestamp = done["status"]["nextScheduleTime"].as_str().unwrap().parse().unwrap();
    let midnight = next.to_zoned(TimeZone::UTC).start_of_day().unwrap();
    let behind = next.duration_since(midnight.timestamp());
    assert!((0..10 * 3600).contains(&behind.as_secs()), "{next}");
    assert_eq!(scenario.objects("backups", "").len(), 1, "one, and no second one");
}

#[test]
fn a_macro_names_the_slots_that_its_name_says_in_its_zone() {
    let scenario = Scenario::begin("macros");
    create_objects(&scenario);
    let zone = TimeZone::get("Asia/Kathmandu").unwrap();
    let now = Timestamp::now().to_zoned(zone);
    let midnight = |day: Zoned| day.start_of_day().unwrap().timestamp();
    let year = now.first_of_year().unwrap();
    let expected = [
        (
            "hourly",
            now.round(ZonedRound::new().smallest(Unit::Hour).mode(RoundMode::Expand))
                .unwrap()
                .timestamp(),
        ),
        ("daily", midnight(&now + 1.day())),
        ("midnight", midnight(&now + 1.day())),
        ("weekly", midnight(now.nth_weekday(1, Weekday::Sunday).unwrap())),
        ("monthly", midnight(now.first_of_month().unwrap() + 1.month())),
        ("yearly", midnight(&year + 1.year())),
        ("annually", midnight(&year + 1.year())),
    ];
    for (name, slot) in expected {
        let line = format!("\"@{name}\"\n  timeZone: Asia/Kathmandu");
        scenario.apply(&schedule_at(name, &line));
        let next = scenario.wait_until(&format!("{name} has a next slot"), || {
            time(&scenario.object(&format!("backupschedule/{name}")), "nextScheduleTime")
        });
        assert_eq!(next, slot, "@{name} behind {now}");
    }
}

#[test]
fn a_slot_waits_for_the_backup_before_it_or_runs_beside_it_as_the_schedule_says() {
    let scenario = Scenario::begin("policies");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    let lock = server.lock_table("shop", "items");
    for (name, policy) in [("waits", "Forbid"), ("beside", "Allow")] {
        let line = format!("\"* * * * *\"\n  concurrencyPolicy: {policy}");
        scenario.apply(&schedule_at(name, &line));
    }
    scenario.wait_patiently("two run side by side", || {
        (backups_of(&scenario, "beside", "Running").len() >= 2).then_some(())
    });
    let all = scenario.objects("backups", "dbbackup.dev/schedule=waits");
    assert_eq!(all.len(), 1, "the later slot has waited: {all:?}");
    scenario.kubectl(&["patch", "dbbs", "beside", "--type=merge", "--patch", SUSPENDED]);
    drop(lock);

    // The newest slot that waited runs at once, and nobody overtakes it.
    let mut ended = scenario.wait_patiently("the next one has run", || {
        let ended = backups_of(&scenario, "waits", "Succeeded");
        (ended.len() >= 2).then_some(ended)
    });
    ended.sort_by_key(|backup| time(backup, "startTime"));
    for pair in ended.windows(2) {
        let (end, start) = (time(&pair[0], "completionTime"), time(&pair[1], "startTime"));
        assert!(end.is_some() && end <= start, "{end:?}, then {start:?}");
    }
}

#[test]
fn what_is_suspended_starts_nothing_and_does_not_make_up_for_it() {
    let scenario = Scenario::begin("suspended");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    let line = "\"* * * * *\"\n  suspend: true\n  immediate: true";
    let made = Timestamp::now();
    scenario.apply(&schedule_at("nightly", line));
    scenario.wait_patiently("two slots have passed", || {
        (Timestamp::now().duration_since(made).as_secs() > 125).then_some(())
    });
    assert!(scenario.objects("backups", "").is_empty());
    let resting = scenario.object("backupschedule/nightly");
    assert_eq!(resting["status"]["display"], "suspended, never succeeded");

    let ended = Timestamp::now();
    let goes_on = r#"{"spec": {"suspend": false, "immediate": false}}"#;
    scenario.kubectl(&["patch", "dbbs", "nightly", "--type=merge", "--patch", goes_on]);
    let first = scenario.wait_until("the next slot's backup is there", || {
        scenario.objects("backups", "").into_iter().next()
    });
    let slot = &first["metadata"]["annotations"]["dbbackup.dev/slot"];
    let slot: Timestamp = slot.as_str().unwrap().parse().unwrap();
    assert!(slot > ended, "{slot} had passed at {ended}");
}
