//! Who is next where not all may run at once. The limit of all is the operator's, so these
//! scenarios run one after the other, apart from others.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::{Operator, Scenario, backup, running_backup};
use serde_json::Value;

/// Waits until the backup waits for its turn, and gives its column.
fn wait_for_queued(scenario: &Scenario, name: &str) -> String {
    scenario.wait_until(&format!("{name} waits for its turn"), || {
        let object = scenario.object(&format!("backup/{name}"));
        let is_queued = object["status"]["error"]["reason"] == "Queued";
        assert!(!is_queued || object["status"]["phase"] == "Pending", "{object}");
        is_queued.then(|| object["status"]["display"].as_str().unwrap().to_owned())
    })
}

fn is_running(scenario: &Scenario, name: &str) -> Option<()> {
    (scenario.object(&format!("backup/{name}"))["status"]["phase"] == "Running").then_some(())
}

#[test]
fn backups_wait_for_their_turn_where_the_repository_allows_one_at_once() {
    let scenario = Scenario::begin("turns");
    let _operator = Operator::alone();
    let lock = running_backup(&scenario, "first");
    let one = r#"{"spec": {"maxConcurrentJobs": 1}}"#;
    scenario.kubectl(&["patch", "backuprepository", "main", "--type=merge", "--patch", one]);
    scenario.apply(&backup("second", "nightly"));
    let display = wait_for_queued(&scenario, "second");
    assert!(display.ends_with("allows at once: 1 (spec.maxConcurrentJobs)"), "{display}");
    drop(lock);
    let first = scenario.wait_for_condition("backup/first", "Complete");
    let second = scenario.wait_for_condition("backup/second", "Complete");
    let time = |object: &Value, field: &str| object["status"][field].as_str().unwrap().to_owned();
    assert!(time(&second, "startTime") >= time(&first, "completionTime"), "{second}");
    assert_eq!(second["status"]["error"], Value::Null);
}

#[test]
fn a_team_with_many_backups_keeps_no_other_team_waiting() {
    let (many, few) = (Scenario::begin("many"), Scenario::begin("few"));
    let operator = Operator::alone();
    let few_lock = running_backup(&few, "done");
    drop(few_lock);
    let _ = few.wait_for_condition("backup/done", "Complete");
    operator.upgrade(&["maxConcurrentJobs=3", "maxConcurrentJobsPerNamespace=2"]);
    let lock = running_backup(&many, "first");
    many.apply(&backup("second", "nightly"));
    many.wait_until("the second one runs", || is_running(&many, "second"));
    // Its namespace's limit, though there is a place left.
    many.apply(&backup("third", "nightly"));
    let display = wait_for_queued(&many, "third");
    assert!(display.contains("as the operator allows a namespace at once: 2"), "{display}");
    // The last place is another team's, which comes late.
    few.apply(&backup("late", "nightly"));
    let _ = few.wait_for_condition("backup/late", "Complete");
    let _ = wait_for_queued(&many, "third");

    // With one place for all, the next is of the team of which fewer run.
    operator.upgrade(&["maxConcurrentJobs=2", "maxConcurrentJobsPerNamespace=2"]);
    few.apply(&backup("later", "nightly"));
    let display = wait_for_queued(&few, "later");
    assert!(display.ends_with("as the operator allows at once: 2"), "{display}");
    many.kubectl(&["delete", "backup", "second"]);
    let _ = few.wait_for_condition("backup/later", "Complete");
    drop(lock);
    let first = many.wait_for_condition("backup/first", "Complete");
    let third = many.wait_for_condition("backup/third", "Complete");
    for ended in [first, third] {
        assert_eq!(ended["status"]["phase"], "Succeeded");
    }
}
