//! A full life of everything, and then a search for each secret where anybody may look.

use std::collections::BTreeMap;

use dbbackup_kind_tests::{
    BUCKET, Operator, Scenario, Server, backup, kubectl, repository, restore, schedule,
    second_repository, start_bucket,
};

/// What is secret, by the place where it stands. Each is found by no accident.
fn secrets() -> BTreeMap<&'static str, &'static str> {
    [
        ("the server's password", "Pw4-marzipan-lighthouse"),
        ("a wrong password", "Pw5-wrong-lighthouse"),
        ("the passphrase", "Pp6 saffron velvet anchor"),
        ("the second repository's passphrase", "Pp7 copper quiet meadow"),
        ("the bucket's secret key", "Sk8-juniper-cobalt"),
    ]
    .into()
}

fn set(scenario: &Scenario, secret: &str, key: &str, value: &str) {
    if scenario.object(&format!("secret/{secret}")).is_null() {
        scenario.kubectl(&["create", "secret", "generic", secret]);
    }
    let patch = serde_json::json!({"stringData": {key: value}}).to_string();
    scenario.kubectl(&["patch", "secret", secret, "--type=merge", "--patch", &patch]);
}

#[test]
fn no_secret_shows_in_a_log_an_event_a_status_or_a_job_after_a_full_life() {
    let scenario = Scenario::begin("secrets");
    let begun = scenario.object("namespace/e2e-secrets")["metadata"]["creationTimestamp"].take();
    let secrets = secrets();
    live(&scenario, &secrets);

    let operator = Operator::log_since(begun.as_str().unwrap_or_default()).join("\n");
    let mut looked_at = vec![("the operator's log".to_owned(), operator)];
    for pod in scenario.kubectl(&["get", "pods", "--output", "name"]).lines() {
        let log = scenario.kubectl(&["logs", pod, "--all-containers"]);
        looked_at.push((format!("the log of {pod}"), log));
    }
    let kinds = kubectl(&["api-resources", "--namespaced", "--verbs=list", "--output=name"]);
    let kinds = kinds.unwrap_or_else(|error| panic!("{error}"));
    for kind in kinds.lines().filter(|kind| *kind != "secrets" && !kind.contains("metrics")) {
        let objects = scenario.kubectl(&["get", kind, "--output", "yaml"]);
        looked_at.push((format!("the {kind}"), objects));
    }
    looked_at.push(("the metrics".to_owned(), Operator::metrics()));
    // The runner's pods are among them, and each has said something.
    let logs = looked_at
        .iter()
        .filter(|(place, text)| place.contains("nightly") || text.contains("task ended"));
    assert!(
        logs.count() >= 6,
        "{:?}",
        looked_at.iter().map(|(place, _)| place).collect::<Vec<_>>()
    );
    let mut sought: Vec<(String, String)> =
        secrets.iter().map(|(what, text)| ((*what).to_owned(), (*text).to_owned())).collect();
    // As they stand in their objects.
    for secret in scenario.objects("secrets", "") {
        for key in ["password", "passphrase", "secretAccessKey"] {
            if let Some(encoded) = secret["data"][key].as_str() {
                sought
                    .push((format!("{key} of {}", secret["metadata"]["name"]), encoded.to_owned()));
            }
        }
    }
    assert_eq!(sought.len(), 2 * secrets.len(), "{sought:?}");
    for (place, text) in &looked_at {
        for (what, secret) in &sought {
            assert!(!text.contains(secret), "{what} shows in {place}");
        }
    }
}

/// A repository, backups that succeed and fail, restores, a copy, maintenance, wrong keys.
fn live(scenario: &Scenario, secrets: &BTreeMap<&str, &str>) {
    let server = Server::start(scenario);
    server.create_database("shop", 1000);
    let password = secrets["the server's password"];
    server.sql("postgres", &format!("alter role postgres password '{password}'"));
    set(scenario, "shop-db", "password", password);
    start_bucket(scenario);
    scenario.apply(&second_repository(""));
    set(scenario, "second-key", "passphrase", secrets["the second repository's passphrase"]);
    set(scenario, "s3-keys", "secretAccessKey", secrets["the bucket's secret key"]);
    scenario.kubectl(&["exec", "s3", "--", "sh", "-c", "kill 1"]);
    scenario.wait_until("the S3 server runs anew", || {
        let pod = scenario.object("pod/s3");
        let server = &pod["status"]["containerStatuses"][0];
        (server["restartCount"] == 1 && server["ready"] == true).then_some(())
    });
    let maintained = "  maintenance: {schedule: \"* * * * *\"}\n";
    let passphrase = secrets["the passphrase"];
    let main = repository(BUCKET, maintained);
    scenario.apply(&main.replace("correct horse battery staple", passphrase));
    for name in ["main", "second"] {
        let _ = scenario.wait_for_condition(&format!("backuprepository/{name}"), "Ready");
    }
    let nightly = schedule("nightly", "shop-db", "{include: [shop]}", "{}");
    let copies = "  copies: [{name: far, repositoryRef: {name: second}}]\n  job: {}";
    scenario.apply(&nightly.replace("  job: {}", copies));
    scenario.apply(&backup("good", "nightly"));
    let _ = scenario.wait_for_condition("backup/good", "Complete");
    scenario.apply(&restore("back", "good", "shop", "shop_again"));
    let _ = scenario.wait_for_condition("restorerequest/back", "Complete");
    scenario.apply(&restore("refused", "good", "shop", "shop"));
    let _ = scenario.wait_for_condition("restorerequest/refused", "Failed");
    scenario.wait_until("the backup is copied", || {
        let copy = scenario.object("backup/good")["status"]["copies"][0]["phase"].take();
        (copy == "Succeeded").then_some(())
    });
    scenario.wait_until("the repository is maintained", || {
        let status = scenario.object("backuprepository/main")["status"].take();
        status["lastMaintenance"]["time"].is_string().then_some(())
    });
    set(scenario, "wrong", "password", secrets["a wrong password"]);
    scenario.kubectl(&[
        "patch",
        "secret",
        "wrong",
        "--patch",
        "{\"stringData\": {\"username\": \"postgres\"}}",
    ]);
    scenario.apply(&schedule("wrong", "wrong", "{}", "{}"));
    scenario.apply(&backup("bad", "wrong"));
    scenario.wait_for_failure("backup/bad", "WrongPassword", &[]);
    // The other repository's key opens nothing here.
    let wrong_key = repository(BUCKET, "").replace("name: main", "name: locked");
    let wrong_key = wrong_key.split_once("---\n").map(|(_, object)| object.to_owned());
    scenario
        .apply(&wrong_key.unwrap_or_default().replace("{name: backup-key}", "{name: second-key}"));
    scenario.wait_for_reason("backuprepository/locked", "WrongKey");
}
