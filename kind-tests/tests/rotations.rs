//! Secrets that are rotated, removed and mixed up while a schedule lives: what goes on by
//! itself, what is told, and that nothing is lost by it.

use dbbackup_kind_tests::runner::{snapshots, snapshots_in_the_bucket};
use dbbackup_kind_tests::{
    BUCKET, Scenario, Server, backup, create_repository, repository, restore, schedule,
    start_bucket,
};
use serde_json::Value;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Makes a backup by the schedule, which must succeed.
fn back_up(scenario: &Scenario, name: &str) {
    scenario.apply(&backup(name, "nightly"));
    let done = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{name}");
}

/// Restores a backup, which must give the database as it is.
fn prove(scenario: &Scenario, server: &Server<'_>, backup: &str) {
    let name = format!("of-{backup}");
    let database = format!("shop_{backup}");
    scenario.apply(&restore(&name, backup, "shop", &database));
    let done = scenario.wait_for_condition(&format!("restorerequest/{name}"), "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{name}");
    assert_eq!(server.digest_of_items(&database), server.digest_of_items("shop"));
}

/// Writes one key of a secret.
fn set(scenario: &Scenario, secret: &str, key: &str, value: &str) {
    let patch = format!(r#"{{"stringData": {{"{key}": "{value}"}}}}"#);
    scenario.kubectl(&["patch", "secret", secret, "--type=merge", "--patch", &patch]);
}

fn secret(name: &str, passphrase: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{passphrase: {passphrase}}}\n"
    )
}

#[test]
fn a_databases_password_is_rotated_between_and_during_runs_and_its_secret_is_missed_by_name() {
    let scenario = Scenario::begin("password-rotated");
    let server = Server::start(&scenario);
    server.create_database("shop", 1000);
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    back_up(&scenario, "before");
    let role = |password: &str| {
        server.sql("postgres", &format!("alter role postgres password '{password}'"));
    };

    role("second");
    set(&scenario, "shop-db", "password", "second");
    back_up(&scenario, "between");

    // A run keeps the sessions that it has.
    let lock = server.begin_held("during", "nightly");
    role("third");
    set(&scenario, "shop-db", "password", "third");
    drop(lock);
    let during = scenario.wait_for_condition("backup/during", "Complete");
    assert_eq!(during["status"]["attempts"], 1);

    // The secret comes late.
    role("fourth");
    scenario.apply(&backup("early", "nightly"));
    scenario.wait_for_failure("backup/early", "WrongPassword", &["credentialsSecretRef"]);
    scenario.wait_for_reason("backupschedule/nightly", "WrongPassword");
    set(&scenario, "shop-db", "password", "fourth");
    back_up(&scenario, "late");
    let _ = scenario.wait_for_condition("backupschedule/nightly", "Ready");

    let kept = scenario.kubectl(&["get", "secret/shop-db", "--output", "json"]);
    scenario.kubectl(&["delete", "secret", "shop-db"]);
    scenario.apply(&backup("missed", "nightly"));
    scenario.wait_for_failure("backup/missed", "SecretNotFound", &["the Secret shop-db"]);
    let (column, _) = scenario.wait_for_reason("backupschedule/nightly", "SecretNotFound");
    assert!(column.contains("SecretNotFound"), "{column}");
    let mut kept: Value = serde_json::from_str(&kept).unwrap_or_default();
    kept["metadata"] = serde_json::json!({"name": "shop-db"});
    scenario.apply(&kept.to_string());
    back_up(&scenario, "found-again");
    let _ = scenario.wait_for_condition("backupschedule/nightly", "Ready");
    assert_eq!(snapshots(&scenario).len(), 5);
    prove(&scenario, &server, "before");
}

#[test]
fn a_buckets_keys_are_rotated_and_the_secret_may_come_late() {
    let scenario = Scenario::begin("bucket-keys");
    let server = Server::start(&scenario);
    server.create_database("shop", 1000);
    start_bucket(&scenario);
    // The server reads its own secret when it starts, the repository another one at each run.
    let keys = "
apiVersion: v1
kind: Secret
metadata: {name: bucket-keys}
stringData: {accessKeyId: e2e-user, secretAccessKey: e2e-only-secret}
";
    scenario.apply(keys);
    scenario.apply(&repository(&BUCKET.replace("s3-keys", "bucket-keys"), ""));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    back_up(&scenario, "before");

    set(&scenario, "s3-keys", "secretAccessKey", "another-only-secret");
    scenario.kubectl(&["exec", "s3", "--", "sh", "-c", "kill 1"]);
    scenario.wait_until("the S3 server runs anew", || {
        let pod = scenario.object("pod/s3");
        let server = &pod["status"]["containerStatuses"][0];
        (server["restartCount"] == 1 && server["ready"] == true).then_some(())
    });
    scenario.apply(&backup("early", "nightly"));
    let words = ["the Secret bucket-keys", "storage.s3.credentialsSecretRef"];
    scenario.wait_for_failure("backup/early", "StoragePermissionDenied", &words);
    set(&scenario, "bucket-keys", "secretAccessKey", "another-only-secret");
    back_up(&scenario, "late");
    assert_eq!(snapshots_in_the_bucket(&scenario).len(), 2);
    prove(&scenario, &server, "before");
}

/// Says which keys the repository has, in its object.
fn say_keys(scenario: &Scenario, keys: &[(&str, &str)]) {
    let keys: Vec<_> = keys
        .iter()
        .map(|(name, secret)| {
            serde_json::json!({"name": name, "passphraseSecretRef": {"name": secret}})
        })
        .collect();
    let patch = serde_json::json!({"spec": {"encryption": {"keys": keys}}}).to_string();
    scenario.kubectl(&["patch", "dbbr", "main", "--type=merge", "--patch", &patch]);
}

/// Waits until exactly these keys open the repository.
fn wait_for_keys(scenario: &Scenario, expected: &[&str]) {
    scenario.wait_until(&format!("the repository is opened by {expected:?}"), || {
        let object = scenario.object("backuprepository/main");
        let status = &object["status"];
        let slots = status["keySlots"].as_array()?;
        let opened: Vec<_> = slots
            .iter()
            .filter(|slot| slot["opened"] == true)
            .map(|slot| text(&slot["name"]))
            .collect();
        let current = status["observedGeneration"] == object["metadata"]["generation"];
        (current && opened == expected).then_some(())
    });
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
}

#[test]
fn keys_are_rotated_one_after_the_other_and_a_wrong_order_is_refused_and_loses_nothing() {
    let scenario = Scenario::begin("key-rotation");
    let server = Server::start(&scenario);
    server.create_database("shop", 1000);
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    wait_for_keys(&scenario, &["first"]);
    back_up(&scenario, "before");

    // The new one beside the old one, then without it.
    scenario.apply(&secret("second-key", "staple battery horse correct"));
    say_keys(&scenario, &[("first", "backup-key"), ("second", "second-key")]);
    wait_for_keys(&scenario, &["first", "second"]);
    say_keys(&scenario, &[("second", "second-key")]);
    wait_for_keys(&scenario, &["second"]);
    let message = {
        let object = scenario.object("backuprepository/main");
        object["status"]["conditions"].to_string()
    };
    assert!(message.contains("Key slots removed: first"), "{message}");
    back_up(&scenario, "after");

    // The old one alone opens nothing any more; a third one in its place opens nothing yet.
    scenario.apply(&secret("third-key", "a third one"));
    for (name, secret) in [("first", "backup-key"), ("third", "third-key")] {
        say_keys(&scenario, &[(name, secret)]);
        let (_, message) = scenario.wait_for_reason("backuprepository/main", "WrongKey");
        assert!(message.contains(&format!("encryption.keys[{name}]")), "{message}");
        scenario.apply(&backup(&format!("waits-{name}"), "nightly"));
        scenario.wait_for_reason(&format!("backup/waits-{name}"), "ReferenceNotReady");
    }
    say_keys(&scenario, &[("second", "second-key"), ("third", "third-key")]);
    wait_for_keys(&scenario, &["second", "third"]);
    for name in ["waits-first", "waits-third"] {
        let _ = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
    }
    say_keys(&scenario, &[("third", "third-key")]);
    wait_for_keys(&scenario, &["third"]);
    scenario.kubectl(&["delete", "secret", "backup-key", "second-key"]);
    prove(&scenario, &server, "before");
}
