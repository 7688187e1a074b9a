//! What becomes of a run whose pod, Job or operator is taken away. The operator
//! is stopped here, so these scenarios run one after the other, apart from others.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::runner::{name_of, pods_of, snapshots, wait_for_bytes, wait_for_log};
use dbbackup_kind_tests::{
    Operator, Scenario, Server, backup, create_repository, restore, schedule,
};

/// A server with a database of so many rows, and a schedule whose Jobs have so much of a core.
fn prepare<'a>(scenario: &'a Scenario, rows: u32, cpu: &str) -> Server<'a> {
    let server = Server::start(scenario);
    server.create_database("shop", rows);
    create_repository(scenario);
    let job =
        format!("{{resources: {{requests: {{cpu: 10m}}, limits: {{cpu: {cpu}, memory: 256Mi}}}}}}");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", &job));
    server
}

#[test]
fn a_runner_killed_in_the_middle_is_tried_again_and_succeeds() {
    let scenario = Scenario::begin("killed");
    let _operator = Operator::alone();
    prepare(&scenario, 400_000, "1");
    // Its dump takes up more than ten megabytes. What is written after that waits for its
    // turn, so that the end is twenty seconds away on the fastest machine.
    let limit = r#"{"spec": {"bandwidth": {"upload": "500k"}}}"#;
    scenario.kubectl(&["patch", "backuprepository", "main", "--type=merge", "--patch", limit]);
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&backup("tough", "nightly"));
    wait_for_bytes(&scenario, "backup/tough");
    let pod = name_of(&pods_of(&scenario, "tough")[0]);
    scenario.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);

    let done = scenario.wait_for_condition("backup/tough", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert!(pods_of(&scenario, "tough").iter().all(|other| name_of(other) != pod));
    let snapshots = snapshots(&scenario);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["id"], done["status"]["snapshotId"]);
    scenario.apply(&restore("proof", "tough", "shop", "shop_again"));
    let restored = scenario.wait_for_condition("restorerequest/proof", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
}

#[test]
fn a_pod_deleted_between_commit_and_report_is_a_success_with_one_snapshot() {
    let scenario = Scenario::begin("unreported");
    let operator = Operator::alone();
    let server = prepare(&scenario, 20_000, "1");
    let lock = server.begin_held("quiet", "nightly");
    // The report cannot arrive: nobody listens.
    operator.stop();
    drop(lock);
    let pod = wait_for_log(&scenario, "quiet", "snapshot committed");
    scenario.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    operator.start();

    let done = scenario.wait_for_condition("backup/quiet", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    let snapshots = snapshots(&scenario);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["id"], done["status"]["snapshotId"]);
}

#[test]
fn a_job_deleted_after_the_commit_is_looked_up_in_the_repository() {
    let scenario = Scenario::begin("jobless");
    let operator = Operator::alone();
    let server = prepare(&scenario, 20_000, "1");
    let lock = server.begin_held("lost", "nightly");
    operator.stop();
    drop(lock);
    wait_for_log(&scenario, "lost", "snapshot committed");
    scenario.kubectl(&[
        "delete",
        "jobs",
        "--all",
        "--grace-period=0",
        "--force",
        "--cascade=foreground",
    ]);
    operator.start();

    let done = scenario.wait_for_condition("backup/lost", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(snapshots(&scenario).len(), 1);
}

#[test]
fn a_job_deleted_before_the_commit_is_never_read_as_success() {
    let scenario = Scenario::begin("undone");
    let operator = Operator::alone();
    let server = prepare(&scenario, 20_000, "1");
    let lock = server.begin_held("undone", "nightly");
    operator.stop();
    scenario.kubectl(&["delete", "jobs", "--all", "--cascade=foreground"]);
    drop(lock);
    operator.start();

    let failed = scenario.wait_for_condition("backup/undone", "Failed");
    assert_eq!(failed["status"]["phase"], "Failed");
    assert_eq!(snapshots(&scenario).len(), 0);
}
