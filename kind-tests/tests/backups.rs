//! Backups: by schedule and by hand, whole, partial and failed.

use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, restore, schedule};
use jiff::{Timestamp, ToSpan as _, Unit, tz::TimeZone};
use serde_json::Value;

/// Names of the outcomes in `status.databases`.
fn outcome_of(object: &Value, database: &str) -> String {
    let databases = object["status"]["databases"].as_array().cloned().unwrap_or_default();
    let found = databases.iter().find(|found| found["name"] == database);
    found.and_then(|found| found["outcome"].as_str()).unwrap_or("absent").to_owned()
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
    let yaml = schedule("nightly", "shop-db", "{}", "{}")
        .replace("\"0 0 1 1 *\"", &format!("\"{cron}\"\n  timeZone: Asia/Kathmandu"));
    scenario.apply(&yaml);

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
    let yaml = schedule("nightly", "shop-db", "{}", "{}").replace("\"0 0 1 1 *\"", wanted);
    scenario.apply(&yaml);
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
fn a_manual_backup_is_restored_beside_the_live_database_and_is_equal() {
    let scenario = Scenario::begin("manual");
    let server = Server::start(&scenario);
    server.create_database("shop", 20_000);
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    scenario.apply(&backup("by-hand", "nightly"));

    let done = scenario.wait_for_condition("backup/by-hand", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(outcome_of(&done, "shop"), "Succeeded");
    assert!(
        done["status"]["snapshotId"].is_string() && done["status"]["position"]["lsn"].is_string()
    );

    scenario.apply(&restore("look", "by-hand", "shop", "shop_before"));
    let restored = scenario.wait_for_condition("restorerequest/look", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_before"), server.digest_of_items("shop"));
    assert_eq!(server.scratch_databases(), "");
}

#[test]
fn backups_wait_for_their_turn_where_the_repository_allows_one_at_once() {
    let scenario = Scenario::begin("turns");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    let one = r#"{"spec": {"maxConcurrentJobs": 1}}"#;
    scenario.kubectl(&["patch", "backuprepository", "main", "--type=merge", "--patch", one]);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    let lock = server.begin_held("first", "nightly");
    scenario.apply(&backup("second", "nightly"));
    let waits = scenario.wait_until("the second one waits", || {
        let object = scenario.object("backup/second");
        (object["status"]["error"]["reason"] == "Queued").then_some(object)
    });
    assert_eq!(waits["status"]["phase"], "Pending");
    let display = waits["status"]["display"].as_str().unwrap();
    assert!(display.ends_with("allows at once: 1 (spec.maxConcurrentJobs)"), "{display}");
    drop(lock);
    let first = scenario.wait_for_condition("backup/first", "Complete");
    let second = scenario.wait_for_condition("backup/second", "Complete");
    let time = |object: &Value, field: &str| object["status"][field].as_str().unwrap().to_owned();
    assert!(time(&second, "startTime") >= time(&first, "completionTime"), "{second}");
    assert_eq!(second["status"]["error"], Value::Null);
}

#[test]
fn a_second_backup_of_unchanged_data_stores_next_to_nothing() {
    let scenario = Scenario::begin("unchanged");
    let server = Server::start(&scenario);
    server.create_database("shop", 50_000);
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    let stored = |name: &str| {
        scenario.apply(&backup(name, "nightly"));
        let done = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
        done["status"]["bytes"]["stored"].as_u64().unwrap()
    };
    let (first, second) = (stored("first"), stored("second"));
    assert!(second * 10 < first, "first {first} bytes, second {second}");
}

#[test]
fn one_database_that_fails_does_not_take_the_others_with_it() {
    let scenario = Scenario::begin("partial");
    let server = Server::start(&scenario);
    server.create_database("shop", 1000);
    server.create_database("crm", 1000);
    // A role that may read one of the two.
    server.sql("postgres", "create role backup_user login password 'readonly'");
    server.sql("shop", "grant select on all tables in schema public to backup_user");
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: limited}\nstringData: {username: backup_user, password: readonly}\n",
    );
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "limited", "{}", "{}"));
    scenario.apply(&backup("partly", "nightly"));

    let failed = scenario.wait_for_condition("backup/partly", "Failed");
    let status = &failed["status"];
    assert_eq!(status["phase"], "PartiallyFailed");
    assert_eq!(outcome_of(&failed, "crm"), "Failed");
    assert_eq!(outcome_of(&failed, "shop"), "Succeeded");
    assert_eq!(status["databases"][0]["name"], "crm", "failures come first");
    assert_eq!(status["databases"][0]["error"]["reason"], "PermissionDenied");
    assert!(
        status["databases"][0]["error"]["message"].as_str().unwrap().contains("items"),
        "{status}"
    );
    assert_eq!(status["databaseCount"]["failed"], 1);
    assert_eq!(
        scenario.objects("pods", "").iter().filter(|pod| is_pod_of(pod, "partly")).count(),
        1,
        "not tried again"
    );
    scenario.assert_exit_code("partly", 65);

    let yaml = restore("others", "partly", "shop", "shop_again").replace(
        "  databases:",
        "  target: {postgresql: {host: shop-db, credentialsSecretRef: {name: shop-db}, tls: {mode: Prefer}}}\n  databases:",
    );
    scenario.apply(&yaml);
    let restored = scenario.wait_for_condition("restorerequest/others", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_again"), server.digest_of_items("shop"));
}

/// Whether a pod's Job belongs to the backup of this name.
fn is_pod_of(pod: &Value, backup: &str) -> bool {
    pod["metadata"]["name"].as_str().is_some_and(|name| name.contains(backup))
}

#[test]
fn a_wrong_password_is_said_at_once_and_not_tried_again() {
    let scenario = Scenario::begin("password");
    let server = Server::start(&scenario);
    server.create_database("shop", 10);
    create_repository(&scenario);
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: wrong}\nstringData: {username: postgres, password: not-this-one}\n",
    );
    scenario.apply(&schedule("nightly", "wrong", "{}", "{}"));
    scenario.apply(&backup("refused", "nightly"));

    let failed = scenario.wait_for_condition("backup/refused", "Failed");
    assert_eq!(failed["status"]["phase"], "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "WrongPassword");
    assert!(failed["status"]["error"]["hint"].as_str().unwrap().contains("credentialsSecretRef"));
    assert_eq!(
        scenario.objects("pods", "").iter().filter(|pod| is_pod_of(pod, "refused")).count(),
        1
    );
    let shown =
        format!("{}{}", failed, scenario.kubectl(&["get", "pods,jobs,events", "--output", "yaml"]));
    assert!(!shown.contains("not-this-one"), "the password shows");
}

#[test]
fn an_absent_secret_is_a_reason_and_not_a_pod_that_hangs() {
    let scenario = Scenario::begin("secret");
    let server = Server::start(&scenario);
    server.create_database("shop", 10);
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "nowhere", "{}", "{}"));
    scenario.apply(&backup("absent", "nightly"));
    let failed = scenario.wait_for_condition("backup/absent", "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "SecretNotFound");
    assert!(failed["status"]["error"]["message"].as_str().unwrap().contains("nowhere"));

    scenario.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: nowhere}\nstringData: {username: postgres}\n");
    scenario.apply(&backup("half", "nightly"));
    let failed = scenario.wait_for_condition("backup/half", "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "SecretKeyNotFound");
}
