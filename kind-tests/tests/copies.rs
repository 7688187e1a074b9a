//! Copies of backups in a second repository, and what is left of the first one's loss.

use dbbackup_kind_tests::{Scenario, Server, create_repository, schedule, second_repository};
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

/// The key of the repository that copies go to.
const KEY: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: second-key}\n\
                   stringData: {passphrase: another horse battery staple}\n";

/// Each minute, and whatever retention says.
const MAINTENANCE: &str = "  maintenance: {schedule: \"* * * * *\", maxDeletePercent: 100}\n";

/// A schedule of the shop with these copies.
fn copied(copies: &str) -> String {
    let nightly = schedule("nightly", "shop-db", "{include: [shop]}", "{}");
    nightly.replace("  job: {}", &format!("  copies: {copies}\n  job: {{}}"))
}

/// A backup as the schedule makes it at a slot: what a person makes no rule lets go.
fn slot_of(name: &str, slot: Timestamp) -> String {
    format!(
        "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata:\n  name: {name}\n  \
         annotations: {{dbbackup.dev/slot: \"{slot}\"}}\n\
         spec: {{scheduleRef: {{name: nightly}}}}\n"
    )
}

/// The only copy of a backup, and the backup's phase.
fn copy_of(scenario: &Scenario, name: &str) -> (Value, Value) {
    let status = scenario.object(&format!("backup/{name}"))["status"].take();
    (status["copies"][0].clone(), status["phase"].clone())
}

fn condition(object: &Value, type_: &str) -> Value {
    let all = object["status"]["conditions"].as_array();
    let found = all.and_then(|all| all.iter().find(|found| found["type"] == type_));
    found.cloned().unwrap_or_default()
}

fn wait_for_copy(scenario: &Scenario, name: &str, expected: &str) -> Value {
    scenario.wait_until(&format!("the copy of {name} is {expected}"), || {
        let (copy, phase) = copy_of(scenario, name);
        assert_eq!(phase, "Succeeded", "the backup stays as it is");
        (copy["phase"] == expected).then_some(copy)
    })
}

#[test]
fn backups_are_copied_and_restored_from_the_copy_when_the_first_repository_is_gone() {
    let scenario = Scenario::begin("copies");
    let server = Server::start(&scenario);
    server.create_database("shop", 20_000);
    create_repository(&scenario);
    let copies = "[{name: far, repositoryRef: {name: second}, retention: {keepLast: 1}}]";
    scenario.apply(&copied(copies));

    // The destination is not there yet: the copy waits and says so, the backup does not.
    let now = Timestamp::now();
    scenario.apply(&slot_of("first", now - 2.hours()));
    let _ = scenario.wait_for_condition("backup/first", "Complete");
    scenario.wait_until("the copy says what it waits for", || {
        let (copy, _) = copy_of(&scenario, "first");
        (copy["error"]["reason"] == "ReferenceNotFound").then_some(())
    });
    let behind = scenario.wait_until("the schedule tells that the copy is behind", || {
        let copied = condition(&scenario.object("dbbs/nightly"), "Copied");
        (copied["status"] == "False").then_some(copied)
    });
    let message = behind["message"].as_str().unwrap();
    assert!(message.starts_with("far is behind since "), "{message}");
    assert!(message.contains("the BackupRepository second does not exist"), "{message}");

    scenario.apply(KEY);
    scenario.apply(&second_repository(MAINTENANCE));
    let first = wait_for_copy(&scenario, "first", "Succeeded");
    assert_eq!(first["repository"]["name"], "second");
    assert!(first["bytes"]["read"].as_u64().unwrap() > 0, "{first}");
    let ready = scenario.wait_until("the schedule tells that all is copied", || {
        let schedule = scenario.object("dbbs/nightly");
        (condition(&schedule, "Copied")["status"] == "True").then_some(schedule)
    });
    assert_eq!(ready["status"]["copies"][0]["missing"], 0);

    server.sql("shop", "insert into items select n, 'new', 1 from generate_series(20001, 20100) n");
    let digest = server.digest_of_items("shop");
    scenario.apply(&slot_of("second", now - 1.hours()));
    let _ = scenario.wait_for_condition("backup/second", "Complete");
    let second = wait_for_copy(&scenario, "second", "Succeeded");
    let own = scenario.object("backup/second")["status"]["snapshotId"].clone();
    assert_ne!(second["snapshotId"], own);
    // The copy's own retention, and no other: the first backup itself stays.
    let expired = wait_for_copy(&scenario, "first", "Expired");
    assert_eq!(expired["snapshotId"], first["snapshotId"]);

    scenario.kubectl(&["delete", "backuprepository", "main"]);
    scenario.kubectl(&["delete", "secret", "backup-key"]);
    scenario.kubectl(&["delete", "pvc", "backups", "--wait=false"]);
    let id = second["snapshotId"].as_str().unwrap();
    scenario.apply(&format!(
        r#"
apiVersion: dbbackup.dev/v1alpha1
kind: RestoreRequest
metadata: {{name: from-the-copy}}
spec:
  from: {{snapshot: {{repositoryRef: {{name: second}}, id: {id}}}}}
  target:
    postgresql:
      host: shop-db
      credentialsSecretRef: {{name: shop-db}}
      tls: {{mode: Prefer}}
  databases: [{{name: shop, as: shop_from_the_copy}}]
"#
    ));
    let restored = scenario.wait_for_condition("restorerequest/from-the-copy", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_from_the_copy"), digest);
}

#[test]
fn copies_that_would_be_none_are_refused_when_they_are_written() {
    let scenario = Scenario::begin("copies-refusals");
    for (copies, words) in [
        ("[{name: a, repositoryRef: {name: main}}]", "another repository than the backup"),
        (
            "[{name: a, repositoryRef: {name: b}}, {name: c, repositoryRef: {name: b}}]",
            "two of copies go to one repository",
        ),
        (
            "[{name: a, repositoryRef: {name: b}}, {name: a, repositoryRef: {name: c}}]",
            "Duplicate value",
        ),
        (
            "[{name: a, repositoryRef: {name: b}, retention: {minimum: 3}}]",
            "minimum alone lets nothing go",
        ),
    ] {
        let refused = scenario.try_apply(&copied(copies)).unwrap_err().message;
        assert!(refused.contains(words), "{copies}: {refused}");
    }
    let refused = scenario.try_apply(
        "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata: {name: single}\nspec:\n  \
         template:\n    repositoryRef: {name: main}\n    \
         source: {postgresql: {host: h, credentialsSecretRef: {name: s}}}\n    \
         copies: [{name: a, repositoryRef: {name: main}}]\n",
    );
    let refused = refused.unwrap_err().message;
    assert!(refused.contains("another repository than the backup"), "{refused}");
}
