//! A cluster that is new to a repository: its backups become objects again.

use std::collections::BTreeSet;

use dbbackup_kind_tests::{CLAIM, FOLDER, Scenario, Server, backup, repository, restore, schedule};
use serde_json::Value;

/// Maintained each minute, so that pins and what is erased are recorded soon.
const MAINTENANCE: &str = "  maintenance: {schedule: \"* * * * *\", maxDeletePercent: 100}\n";

const IMPORTED: &str = "dbbackup.dev/imported=true";

/// A target for a backup that does not know its server.
const TARGET: &str = "  target: {postgresql: {host: shop-db, credentialsSecretRef: {name: shop-db}, tls: {mode: Prefer}}}\n";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Makes a backup, and gives the id of its snapshot.
fn back_up(scenario: &Scenario, name: &str) -> String {
    scenario.apply(&backup(name, "nightly"));
    let done = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{name}");
    text(&done["status"]["snapshotId"])
}

/// The repository's object as a new cluster makes it.
fn found_again() -> String {
    repository(FOLDER, &format!("{MAINTENANCE}  initialize: Never\n"))
}

/// The imported backups that have a status, once there are so many.
fn wait_for_imported(scenario: &Scenario, count: usize) -> Vec<Value> {
    scenario.wait_until(&format!("{count} backups are imported"), || {
        let mut found = scenario.objects("backups", IMPORTED);
        found.retain(|object| object["status"]["phase"] == "Succeeded");
        (found.len() == count).then_some(found)
    })
}

#[test]
fn a_repository_without_objects_brings_its_backups_back_and_they_are_like_others() {
    let scenario = Scenario::begin("import");
    let server = Server::start(&scenario);
    server.create_database("shop", 2000);
    scenario.apply(CLAIM);
    scenario.apply(&repository(FOLDER, MAINTENANCE));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    let first = back_up(&scenario, "first");
    server.sql("shop", "update items set name = name || '!'");
    let second = back_up(&scenario, "second");
    let digest = server.digest_of_items("shop");
    let own = scenario.objects("backups", IMPORTED);
    assert!(own.is_empty(), "a backup that has its object is not imported: {own:?}");

    for what in ["backuprepository/main", "backupschedule/nightly", "backup/first", "backup/second"]
    {
        scenario.kubectl(&["delete", what, "--timeout=60s"]);
    }
    scenario.apply(&found_again());
    let imported = wait_for_imported(&scenario, 2);
    let snapshots: BTreeSet<_> =
        imported.iter().map(|object| text(&object["status"]["snapshotId"])).collect();
    assert_eq!(snapshots, BTreeSet::from([first, second.clone()]));
    for object in &imported {
        assert_eq!(object["spec"]["imported"]["snapshotId"], object["status"]["snapshotId"]);
        assert_eq!(object["metadata"]["ownerReferences"], Value::Null);
        let (name, column) =
            (text(&object["metadata"]["name"]), text(&object["status"]["display"]));
        assert!(name.starts_with("nightly-"), "{name}");
        assert!(column.starts_with("imported: 1 database, "), "{column}");
        assert!(column.ends_with("/nightly"), "{column}");
    }
    let repository = scenario.wait_for_condition("backuprepository/main", "Ready");
    assert_eq!(repository["status"]["lastImport"]["error"], Value::Null);

    let is_second = |object: &&Value| object["status"]["snapshotId"] == second.as_str();
    let name_of = |object: &Value| text(&object["metadata"]["name"]);
    let newest = imported.iter().find(is_second).map(name_of).unwrap();
    let oldest = imported.iter().find(|object| !is_second(object)).map(name_of).unwrap();

    scenario.apply(&restore("nowhere", &newest, "shop", "shop_nowhere"));
    let words = ["spec.target is missing", "Say target.postgresql"];
    scenario.wait_for_failure("restorerequest/nowhere", "InvalidSpec", &words);
    scenario.apply(&(restore("back", &newest, "shop", "shop_back") + TARGET));
    let restored = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_back"), digest);

    // A pin of one holds, and comes back with it; what is erased does not.
    let pin = r#"{"spec": {"pinned": true}}"#;
    scenario.kubectl(&["patch", "backup", &oldest, "--type=merge", "--patch", pin]);
    scenario.wait_until("the pin is recorded", || {
        let object = scenario.object(&format!("backup/{oldest}"));
        (object["status"]["pinned"] == true).then_some(())
    });
    let erase = format!(r#"{{"spec": {{"erase": {{"confirm": "{second}"}}}}}}"#);
    scenario.kubectl(&["patch", "backup", &newest, "--type=merge", "--patch", &erase]);
    scenario.wait_until("the newest has expired", || {
        let object = scenario.object(&format!("backup/{newest}"));
        (object["status"]["phase"] == "Expired").then_some(())
    });
    scenario.kubectl(&["delete", "backup", &oldest, &newest, "--timeout=60s"]);
    let again = wait_for_imported(&scenario, 1);
    assert_eq!(name_of(&again[0]), oldest, "the same snapshot has the same name");
    assert_eq!(
        (&again[0]["spec"]["pinned"], &again[0]["status"]["pinned"]),
        (&true.into(), &true.into())
    );
}

#[test]
fn a_backup_by_hand_stands_for_a_snapshot_and_none_is_imported_where_none_is_wanted() {
    let scenario = Scenario::begin("import-by-hand");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    scenario.apply(CLAIM);
    scenario.apply(&repository(FOLDER, &format!("{MAINTENANCE}  import: None\n")));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    let snapshot = back_up(&scenario, "first");
    scenario.kubectl(&["delete", "backup/first", "--timeout=60s"]);

    let by_hand = |name: &str, id: &str| {
        format!(
            "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata: {{name: {name}}}\n\
             spec: {{imported: {{repositoryRef: {{name: main}}, snapshotId: {id}}}}}\n"
        )
    };
    scenario.apply(&by_hand("again", &snapshot));
    let done = scenario.wait_for_condition("backup/again", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(done["status"]["snapshotId"], snapshot.as_str());
    assert_eq!(done["status"]["databases"][0]["name"], "shop");

    let (rest, _) = snapshot.rsplit_once('-').unwrap();
    scenario.apply(&by_hand("nothing", &format!("{rest}-7")));
    scenario.wait_for_failure("backup/nothing", "SnapshotNotFound", &[rest]);
    assert!(scenario.objects("backups", IMPORTED).is_empty());
    let repository = scenario.object("backuprepository/main");
    assert_eq!(repository["status"]["lastImport"], Value::Null);
}

#[test]
fn a_repository_that_is_only_read_is_restored_from_and_takes_no_backup() {
    let scenario = Scenario::begin("read-only");
    let server = Server::start(&scenario);
    server.create_database("shop", 2000);
    scenario.apply(CLAIM);
    scenario.apply(&repository(FOLDER, "  import: None\n"));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    let snapshot = back_up(&scenario, "first");
    let digest = server.digest_of_items("shop");
    for what in ["backupschedule/nightly", "backup/first", "backuprepository/main"] {
        scenario.kubectl(&["delete", what, "--timeout=60s"]);
    }

    scenario.apply(&repository(FOLDER, "  access: ReadOnly\n"));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    let imported = wait_for_imported(&scenario, 1);
    assert_eq!(imported[0]["status"]["snapshotId"], snapshot.as_str());
    let name = text(&imported[0]["metadata"]["name"]);
    scenario.apply(&(restore("back", &name, "shop", "shop_back") + TARGET));
    let restored = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_back"), digest);
    // The kernel itself keeps each of its Jobs from writing.
    let pods = scenario.objects("pods", "app.kubernetes.io/name=dbbackup-runner");
    let of_now =
        pods.iter().filter(|pod| pod["metadata"]["annotations"]["dbbackup.dev/subject"] == "back");
    let mounts = of_now.flat_map(|pod| pod["spec"]["containers"][0]["volumeMounts"].as_array());
    let repository_mount =
        mounts.flatten().find(|mount| mount["mountPath"] == "/repository").unwrap().clone();
    assert_eq!(repository_mount["readOnly"], true, "{repository_mount}");

    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    let told = scenario.wait_until("the schedule tells that the repository is only read", || {
        let schedule = scenario.object("backupschedule/nightly");
        let conditions = schedule["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|condition| condition["reason"] == "RepositoryReadOnly")
    });
    assert_eq!((&told["type"], &told["status"]), (&"Ready".into(), &"False".into()), "{told}");
    let repository = scenario.object("backuprepository/main");
    assert_eq!(repository["status"]["lastMaintenance"], Value::Null);
}
