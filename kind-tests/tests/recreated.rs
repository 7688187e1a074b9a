//! Objects that come into being once more, clusters that share a repository, and one that is
//! swapped beneath: what is not done again, and whose snapshots stay.

use dbbackup_kind_tests::runner::{
    on_the_volume, pods_of, run_by_hand, snapshots, wait_for_snapshots,
};
use dbbackup_kind_tests::{
    CLAIM, FOLDER, Scenario, Server, backup, create_repository, repository, restore, schedule,
};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

/// A backup as the schedule makes it at a slot.
fn slot_of(name: &str, slot: Timestamp) -> String {
    format!(
        "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata:\n  name: {name}\n  \
         annotations: {{dbbackup.dev/slot: \"{slot}\"}}\n\
         spec: {{scheduleRef: {{name: nightly}}}}\n"
    )
}

fn succeed(scenario: &Scenario, what: &str) -> Value {
    let done = scenario.wait_for_condition(what, "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{what}");
    done
}

/// The objects of our kinds as a tool for whole clusters keeps them: without status, uid and owners.
fn kept(scenario: &Scenario) -> String {
    let kinds = "backuprepositories,backupschedules,backups,restorerequests";
    let mut items = scenario.objects(kinds, "");
    for item in &mut items {
        let metadata = &item["metadata"];
        let mut of_old = json!({"name": metadata["name"], "labels": metadata["labels"]});
        of_old["annotations"] = metadata["annotations"].clone();
        item["metadata"] = of_old;
        if let Some(object) = item.as_object_mut() {
            object.remove("status");
        }
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

#[test]
fn objects_that_come_back_without_status_run_nothing_and_replace_nothing() {
    let scenario = Scenario::begin("brought-back");
    let server = Server::start(&scenario);
    server.create_database("shop", 1000);
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    // Its slot is nearly a day ago: it still runs, and what comes back later does not.
    let slot = Timestamp::now() - 24.hours() + 40.seconds();
    scenario.apply(&slot_of("of-a-slot", slot));
    let before = succeed(&scenario, "backup/of-a-slot");
    scenario.apply(&restore("beside", "of-a-slot", "shop", "shop_beside"));
    succeed(&scenario, "restorerequest/beside");
    let swap = restore("instead", "of-a-slot", "shop", "shop")
        + "  strategy: Swap\n  validUntil: \"2099-01-01T00:00:00Z\"\n";
    scenario.apply(&swap);
    succeed(&scenario, "restorerequest/instead");
    for database in ["shop", "shop_beside"] {
        server.sql(database, "insert into items values (-1, 'newer than the restore', 0)");
    }
    let databases = "select string_agg(datname, ' ' order by datname) from pg_database";
    let known = server.sql("postgres", databases);
    scenario.wait_until("the slot is a day ago", || {
        (Timestamp::now() > slot + 24.hours() + 1.second()).then_some(())
    });

    let kept = kept(&scenario);
    let kinds = "backuprepositories,backupschedules,backups,restorerequests";
    scenario.kubectl(&["delete", kinds, "--all", "--timeout=60s"]);
    scenario.apply(&kept);
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    // The repository is asked, and knows of no run of this object; it has that of the old one.
    let words = ["is longer ago than 24h", "holds no snapshot of this run"];
    let after = scenario.wait_for_failure("backup/of-a-slot", "DeadlineExceeded", &words);
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    let is_a_run = |pod: &Value| pod["metadata"]["labels"]["dbbackup.dev/purpose"] == "backup";
    assert!(!pods_of(&scenario, "of-a-slot").iter().any(is_a_run));
    let imported = scenario.wait_until("the snapshot has an object again", || {
        let found = scenario.objects("backups", "dbbackup.dev/imported=true");
        found.into_iter().find(|it| it["status"]["phase"] == "Succeeded")
    });
    assert_eq!(imported["status"]["snapshotId"], before["status"]["snapshotId"]);
    for name in ["beside", "instead"] {
        let what = format!("restorerequest/{name}");
        scenario.wait_for_failure(&what, "InvalidSpec", &["the Backup of-a-slot has failed"]);
    }
    assert_eq!(server.sql("postgres", databases), known);
    for database in ["shop", "shop_beside"] {
        assert_eq!(server.sql(database, "select count(*) from items"), "1001", "{database}");
    }
    assert_eq!(snapshots(&scenario).len(), 1);
}

#[test]
fn two_clusters_with_the_same_names_in_one_repository_leave_each_others_snapshots_alone() {
    let scenario = Scenario::begin("two-clusters");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    scenario.apply(CLAIM);
    let maintained =
        "  import: None\n  maintenance: {schedule: \"* * * * *\", maxDeletePercent: 100}\n";
    scenario.apply(&repository(FOLDER, maintained));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    let nightly = schedule("nightly", "shop-db", "{include: [shop]}", "{}");
    scenario.apply(&nightly.replace("  job: {}", "  retention: {keepLast: 1}\n  job: {}"));
    let now = Timestamp::now();
    scenario.apply(&slot_of("ours", now - 5.hours()));
    succeed(&scenario, "backup/ours");

    // What another cluster's Job does: the task of this one's, under the other's id.
    let other = "0a0a0a0a-0000-4000-8000-00000000000b";
    let made_elsewhere = |number: i64| {
        let slot = now - (10 - number).hours();
        run_by_hand(&scenario, "ours", &format!("theirs-{number}"), |task| {
            to_cluster(task, other);
            let action = &mut task["action"]["backup"];
            action["runId"] = json!(format!("0b0b0b0b-0000-4000-8000-00000000000{number}"));
            action["slotTime"] = json!(slot.to_string());
        });
    };
    made_elsewhere(1);
    made_elsewhere(2);
    scenario.apply(&slot_of("ours-newer", now - 1.hours()));
    succeed(&scenario, "backup/ours-newer");
    scenario.wait_until("our older one has expired", || {
        (scenario.object("backup/ours")["status"]["phase"] == "Expired").then_some(())
    });
    let of = |cluster: &str, found: &[Value]| {
        found
            .iter()
            .filter(|it| it["series"].as_str().unwrap_or_default().starts_with(cluster))
            .count()
    };
    let found = snapshots(&scenario);
    assert_eq!((found.len(), of(other, &found)), (3, 2), "{found:?}");

    // The other cluster's maintenance, by its retention of the same schedule.
    run_by_hand(&scenario, "main", "their-maintenance", |task| to_cluster(task, other));
    let found = wait_for_snapshots(&scenario, 2);
    assert_eq!(of(other, &found), 1, "{found:?}");
    scenario.apply(&restore("back", "ours-newer", "shop", "shop_again"));
    succeed(&scenario, "restorerequest/back");
}

/// Gives a task to another cluster: every text that begins with the id of this one.
fn to_cluster(task: &mut Value, other: &str) {
    let here = dbbackup_kind_tests::kubectl(&[
        "get",
        "namespace/kube-system",
        "--output",
        "jsonpath={.metadata.uid}",
    ]);
    let here = here.unwrap_or_else(|error| panic!("{error}"));
    let text = task.to_string();
    assert!(text.contains(&here), "the task names its cluster: {text}");
    *task = serde_json::from_str(&text.replace(&here, other))
        .unwrap_or_else(|error| panic!("{error}: {text}"));
}

#[test]
fn a_repository_that_is_swapped_beneath_is_noticed_and_taken_again_when_it_is_back() {
    let scenario = Scenario::begin("swapped");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    let other = repository("{volume: {claimName: backups, path: other}}", "");
    scenario.apply(&other.replace("name: main", "name: other"));
    let _ = scenario.wait_for_condition("backuprepository/other", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    scenario.apply(&backup("before", "nightly"));
    succeed(&scenario, "backup/before");

    on_the_volume(&scenario, "cd /repository && mv dbbackup aside && mv other dbbackup");
    scenario.apply(&backup("elsewhere", "nightly"));
    scenario.wait_for_failure("backup/elsewhere", "RepositoryChanged", &["the right volume"]);
    scenario.apply(&restore("nothing", "before", "shop", "shop_nothing"));
    scenario.wait_for_failure("restorerequest/nothing", "RepositoryChanged", &[]);
    assert!(!server.has_database("shop_nothing"));
    assert_eq!(snapshots(&scenario).len(), 0, "nothing was written to the other one");

    on_the_volume(&scenario, "cd /repository && mv dbbackup other && mv aside dbbackup");
    scenario.apply(&backup("after", "nightly"));
    succeed(&scenario, "backup/after");
    assert_eq!(snapshots(&scenario).len(), 2);
}
