//! Repositories in object storage.

use dbbackup_kind_tests::{
    BUCKET, Scenario, Server, backup, repository, restore, schedule, start_bucket,
};

/// The repository in such a place.
fn in_place(storage: &str) -> String {
    repository(storage, "  maintenance: {schedule: \"* * * * *\"}\n")
}

#[test]
fn a_bucket_holds_backups_that_are_maintained_and_restored() {
    let scenario = Scenario::begin("buckets");
    let server = Server::start(&scenario);
    server.create_database("shop", 20_000);
    let digest = server.digest_of_items("shop");
    start_bucket(&scenario);

    // What is wrong with the place is said in words of the place, until it is put right.
    scenario.apply(&in_place(&BUCKET.replace("name: s3-keys", "name: s3-key")));
    let failed = scenario.wait_for_warning("backuprepository/main", "SecretNotFound");
    assert!(failed.contains("the Secret s3-key"), "{failed}");
    assert!(failed.contains("storage.s3.credentialsSecretRef"), "{failed}");
    scenario.kubectl(&["delete", "backuprepository", "main"]);
    scenario.apply(&in_place(&BUCKET.replace("bucket: backups", "bucket: backup")));
    let failed = scenario.wait_for_warning("backuprepository/main", "InvalidSpec");
    assert!(failed.contains("backup"), "{failed}");
    scenario.kubectl(&["delete", "backuprepository", "main"]);

    scenario.apply(&in_place(BUCKET));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    scenario.apply(&backup("first", "nightly"));
    let first = scenario.wait_for_condition("backup/first", "Complete");
    assert_eq!(first["status"]["phase"], "Succeeded");
    scenario.wait_until("the repository is maintained and checked", || {
        let status = scenario.object("backuprepository/main")["status"].take();
        let is_checked = status["lastCheck"]["outcome"] == "Passed";
        (is_checked && status["lastMaintenance"]["time"].is_string()).then_some(())
    });

    // The place is what the repository is: another one is another object.
    let moved = in_place(&BUCKET.replace("prefix: shop", "prefix: elsewhere"));
    let Err(refusal) = scenario.try_apply(&moved) else { panic!("the place was changed") };
    assert!(refusal.message.contains("create another BackupRepository"), "{refusal}");

    scenario.apply(&restore("back", "first", "shop", "again"));
    let done = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("again"), digest);
}
