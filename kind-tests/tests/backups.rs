//! Backups: whole, partial and failed.

use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, restore, schedule};
use serde_json::Value;

/// Names of the outcomes in `status.databases`.
fn outcome_of(object: &Value, database: &str) -> String {
    let databases = object["status"]["databases"].as_array().cloned().unwrap_or_default();
    let found = databases.iter().find(|found| found["name"] == database);
    found.and_then(|found| found["outcome"].as_str()).unwrap_or("absent").to_owned()
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
