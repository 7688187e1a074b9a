//! What becomes of runs when the operator, its leader or the API server is away,
//! and an operator that looks after some namespaces only. The operator is one for
//! all, so these scenarios run one after the other, apart from others.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::runner::{name_of, pods_of, snapshots};
use dbbackup_kind_tests::{
    Operator, Scenario, Server, StoppedApiServer, backup, create_objects, create_repository,
    kubectl, restore, running_backup, schedule, schedule_at,
};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

/// The backup has succeeded in its first attempt, with one snapshot.
fn assert_undisturbed(scenario: &Scenario) {
    let done = scenario.wait_for_condition("backup/running", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(pods_of(scenario, "running").len(), 1, "it was tried again");
    let snapshots = snapshots(scenario);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["id"], done["status"]["snapshotId"]);
}

/// Waits until another pod than this one leads, and gives its name.
fn wait_for_other_leader(scenario: &Scenario, than: &str) -> String {
    scenario.wait_until(&format!("another one than {than} leads"), || {
        let next = Operator::leader();
        (!next.is_empty() && next != than).then_some(next)
    })
}

#[test]
fn an_operator_killed_in_the_middle_of_a_backup_goes_on_with_it() {
    let scenario = Scenario::begin("orphaned");
    let operator = Operator::alone();
    let lock = running_backup(&scenario, "running");
    let leader = Operator::leader();
    for pod in Operator::pods() {
        operator.kill(&pod);
    }
    wait_for_other_leader(&scenario, &leader);
    drop(lock);
    assert_undisturbed(&scenario);
}

#[test]
fn of_the_slots_that_passed_meanwhile_the_newest_runs_where_it_is_not_too_late() {
    let scenario = Scenario::begin("missed");
    let operator = Operator::alone();
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    operator.stop();
    let minute = |time: Timestamp| Timestamp::from_second(time.as_second() / 60 * 60).unwrap();
    let slot = minute(Timestamp::now() + 90.seconds());
    let at = slot.to_zoned(TimeZone::UTC);
    let once = format!("\"{} {} * * *\"", at.minute(), at.hour());
    scenario.apply(&schedule_at("patient", &once));
    scenario.apply(&schedule_at("strict", &format!("{once}\n  startingDeadlineSeconds: 10")));
    scenario.apply(&schedule_at("minutely", "\"* * * * *\""));
    scenario.wait_patiently("the slots have passed", || {
        (Timestamp::now() > slot + 65.seconds()).then_some(())
    });
    let newest = minute(Timestamp::now());
    operator.start();

    let number = |slot: Timestamp| slot.as_second() / 60;
    let patient = format!("backup/patient-{}", number(slot));
    let _ = scenario.wait_for_condition(&patient, "Complete");
    let told = scenario.wait_for_warning("backupschedule/strict", "DeadlineExceeded");
    assert!(told.contains(&format!("the slot {slot} was left out")), "{told}");
    assert!(scenario.objects("backups", "dbbackup.dev/schedule=strict").is_empty());
    // The machine may be slow: a further slot may have come until it looked.
    let made = scenario.wait_until("the newest is made up for", || {
        let made = scenario.objects("backups", "dbbackup.dev/schedule=minutely");
        made.iter().map(name_of).min()
    });
    assert!(made >= format!("minutely-{}", number(newest)), "{made} at {newest}");
}

#[test]
fn a_second_replica_takes_over_from_a_leader_that_dies_and_both_renew_the_certificate() {
    let scenario = Scenario::begin("replicas");
    let operator = Operator::alone();
    operator.run("2");
    let (leader, other) = scenario.wait_until("one of two leads", || {
        let (leader, pods) = (Operator::leader(), Operator::pods());
        let other = pods.iter().find(|pod| **pod != leader)?.clone();
        (pods.len() == 2 && pods.contains(&leader)).then_some((leader, other))
    });
    // A certificate whose time has come: each replica looks once a minute.
    let certificate = [
        "--namespace",
        "dbbackup",
        "get",
        "secret/dbbackup-report-tls",
        "--output",
        "jsonpath={.data.ca\\.crt} {.data.tls\\.crt}",
    ];
    let before = kubectl(&certificate).unwrap();
    kubectl(&[
        "--namespace",
        "dbbackup",
        "annotate",
        "--overwrite",
        "secret/dbbackup-report-tls",
        "dbbackup.dev/renew-after=2020-01-01T00:00:00Z",
    ])
    .unwrap();

    let lock = running_backup(&scenario, "running");
    operator.kill(&leader);
    let next = wait_for_other_leader(&scenario, &leader);
    drop(lock);
    assert_undisturbed(&scenario);
    // A replica that begins after the renewal has never had another one.
    scenario.wait_until("the replica that was there before serves the new certificate", || {
        let log = kubectl(&["--namespace", "dbbackup", "logs", &other]).ok()?;
        log.contains("the report channel has a new certificate").then_some(())
    });
    let after = kubectl(&certificate).unwrap();
    let (old, new) = (before.split_once(' ').unwrap(), after.split_once(' ').unwrap());
    assert_eq!(old.0, new.0, "running Jobs know this CA");
    assert!(old.1 != new.1, "the certificate is the old one");
    // Told to stop, a leader gives its place up at once.
    kubectl(&["--namespace", "dbbackup", "delete", "pod", &next, "--wait=false"]).unwrap();
    wait_for_other_leader(&scenario, &next);
    scenario.apply(&backup("later", "nightly"));
    let _ = scenario.wait_for_condition("backup/later", "Complete");
}

#[test]
fn a_report_waits_for_an_api_server_that_is_away() {
    let scenario = Scenario::begin("away");
    let _operator = Operator::alone();
    let mut lock = running_backup(&scenario, "running");
    lock.drop_after(5);
    let api_server = StoppedApiServer::stop();
    // The runner ends meanwhile, and the operator gives up what it cannot renew.
    scenario.wait_until("the runner has ended", || {
        api_server.log_of(scenario.namespace(), "running").contains("task ended").then_some(())
    });
    scenario.wait_until("the operator has given up", || {
        let log = api_server.log_of("dbbackup", "dbbackup");
        log.contains("the Lease could not be renewed").then_some(())
    });
    api_server.go_on();
    assert_undisturbed(&scenario);
}

#[test]
fn a_swap_whose_outcome_is_lost_is_told_all_the_same_and_not_done_again() {
    let scenario = Scenario::begin("lost-swap");
    let operator = Operator::alone();
    let server = Server::start(&scenario);
    server.create_database("shop", 2000);
    server.slow_restores_of("shop");
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let _ = scenario.wait_for_condition("backup/done", "Complete");
    server.sql("shop", "insert into items values (-1, 'newer than the backup', 0)");
    let swap = restore("back", "done", "shop", "shop")
        + "  strategy: Swap\n  validUntil: \"2099-01-01T00:00:00Z\"\n";
    scenario.apply(&swap);
    server.wait_for_slow_restore();
    operator.stop();
    let job = scenario.wait_until("the Job has ended", || {
        let jobs = scenario.objects("jobs", "");
        let job =
            jobs.iter().find(|job| job["metadata"]["ownerReferences"][0]["name"] == "back")?;
        let conditions = job["status"]["conditions"].as_array()?;
        let ended = conditions.iter().any(|it| it["type"] == "Complete" && it["status"] == "True");
        ended.then(|| job["metadata"]["name"].as_str().unwrap().to_owned())
    });
    // Report, Job and pod are gone: what was done is known to the repository alone.
    scenario.kubectl(&["delete", "job", &job, "--cascade=foreground"]);
    server.sql("shop", "insert into items values (-2, 'after the restore', 0)");
    operator.start();
    let told = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(told["status"]["phase"], "Succeeded");
    let kept = told["status"]["databases"][0]["keptAs"].as_str().unwrap();
    for database in ["shop", kept] {
        assert_eq!(server.sql(database, "select count(*) from items"), "2001");
    }
    let marked = "select count(*) from pg_database
                  where shobj_description(oid, 'pg_database') like 'dbbackup restore%'";
    scenario
        .wait_until("the mark is gone", || (server.sql("postgres", marked) == "0").then_some(()));
}

#[test]
fn a_runner_image_that_does_not_exist_is_told_where_the_operator_looks_and_nowhere_else() {
    let scenario = Scenario::begin("watched");
    let ignored = Scenario::begin("ignored");
    let operator = Operator::alone();
    let watched = format!("watchNamespaces={{{}}}", scenario.namespace());
    operator.upgrade(&[&watched]);
    create_repository(&scenario);
    create_objects(&ignored);

    operator.upgrade(&[&watched, "images.runner.tag=none"]);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{startTimeout: 15s}"));
    scenario.apply(&backup("imageless", "nightly"));
    let (column, _) = scenario.wait_for_reason("backup/imageless", "ImagePullFailed");
    assert!(column.starts_with("starting: the image localhost/dbbackup-runner:none"), "{column}");
    let words = ["localhost/dbbackup-runner:none", "it was given up after 15s", "imagePullSecrets"];
    scenario.wait_for_failure("backup/imageless", "ImagePullFailed", &words);
    assert!(ignored.object("backuprepository/main")["status"]["conditions"].is_null());
}
