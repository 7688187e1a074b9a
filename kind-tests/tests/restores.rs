//! Restores that must be refused, several at once, and what deletion leaves behind.

use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, restore, schedule};

/// A server with the database `shop`, a repository, a schedule, a finished backup.
fn with_backup(scenario: &Scenario) -> Server<'_> {
    let server = Server::start(scenario);
    server.create_database("shop", 2000);
    create_repository(scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let done = scenario.wait_for_condition("backup/done", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    server
}

#[test]
fn create_new_is_refused_where_the_database_exists_and_nothing_is_touched() {
    let scenario = Scenario::begin("exists");
    let server = with_backup(&scenario);
    server.sql("shop", "insert into items values (-1, 'newer than the backup', 0)");
    let before = server.digest_of_items("shop");

    scenario.apply(&restore("refused", "done", "shop", "shop"));
    let failed = scenario.wait_for_condition("restorerequest/refused", "Failed");
    assert_eq!(failed["status"]["phase"], "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "DatabaseExists");
    assert!(failed["status"]["error"]["hint"].as_str().unwrap().contains("as"));
    assert_eq!(server.digest_of_items("shop"), before);
    assert_eq!(server.scratch_databases(), "");
}

#[test]
fn a_lost_database_with_its_role_comes_back_with_owner_privileges_and_settings() {
    let scenario = Scenario::begin("globals");
    let server = Server::start(&scenario);
    server.create_database("shop", 500);
    server.sql(
        "postgres",
        "create role shop_owner login; alter database shop owner to shop_owner;
         alter database shop set work_mem = '7MB'; comment on database shop is 'the shop';",
    );
    server.sql("shop", "alter table items owner to shop_owner; grant select on items to public");
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let _ = scenario.wait_for_condition("backup/done", "Complete");
    let rows = server.digest_of_items("shop");
    server.sql("postgres", "drop database shop");
    server.sql("postgres", "drop role shop_owner");
    // Nobody notices at once: there is a newer backup, without it.
    scenario.apply(&backup("without-it", "nightly"));
    let _ = scenario.wait_for_condition("backup/without-it", "Complete");

    scenario.apply(&restore("without-role", "done", "shop", "shop"));
    let failed = scenario.wait_for_condition("restorerequest/without-role", "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "RoleNotFound");
    assert!(failed["status"]["error"]["message"].as_str().unwrap().contains("shop_owner"));
    assert!(
        !server.has_database("shop") && server.scratch_databases().is_empty(),
        "nothing was created"
    );

    let yaml = restore("with-role", "done", "shop", "shop")
        .replace("backupRef: {name: done}", "latest: {scheduleRef: {name: nightly}}")
        .replace("spec:\n", "spec:\n  globals: Merge\n");
    scenario.apply(&yaml);
    let restored = scenario.wait_for_condition("restorerequest/with-role", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop"), rows);
    let owner = "select pg_get_userbyid(datdba) || ',' || shobj_description(oid, 'pg_database') from pg_database where datname = 'shop'";
    assert_eq!(server.sql("postgres", owner), "shop_owner,the shop");
    assert_eq!(server.sql("shop", "show work_mem"), "7MB");
    assert_eq!(
        server.sql("shop", "select tableowner from pg_tables where tablename = 'items'"),
        "shop_owner"
    );
}

#[test]
fn deleting_objects_leaves_no_job_and_deletes_no_backup() {
    let scenario = Scenario::begin("deletion");
    let server = with_backup(&scenario);
    scenario.apply(&restore("look", "done", "shop", "shop_look"));
    let _ = scenario.wait_for_condition("restorerequest/look", "Complete");
    // A backup that cannot start keeps its Job for as long as it exists.
    let unstartable = schedule("stuck", "shop-db", "{}", "{nodeSelector: {nowhere: \"true\"}}");
    scenario.apply(&unstartable);
    scenario.apply(&backup("waiting", "stuck"));
    scenario.wait_until("the waiting backup has a Job", || {
        let jobs = scenario.objects("jobs", "");
        jobs.iter()
            .any(|job| job["metadata"]["ownerReferences"][0]["name"] == "waiting")
            .then_some(())
    });
    let snapshot =
        scenario.object("backup/done")["status"]["snapshotId"].as_str().unwrap().to_owned();

    for what in [
        "backup/waiting",
        "restorerequest/look",
        "backupschedule/stuck",
        "backupschedule/nightly",
        "backup/done",
        "backuprepository/main",
    ] {
        scenario.kubectl(&["delete", what, "--timeout=60s"]);
    }
    scenario.wait_until("no Job and no runner's pod is left", || {
        let jobs = scenario.objects("jobs", "");
        let pods = scenario.objects("pods", "app.kubernetes.io/name=dbbackup-runner");
        (jobs.is_empty() && pods.is_empty()).then_some(())
    });
    assert!(
        server.has_database("shop_look"),
        "a deleted request takes no restored database with it"
    );

    // The repository object again, and the snapshot by its id: nothing was deleted.
    create_repository(&scenario);
    let yaml = restore("again", "done", "shop", "shop_again").replace(
        "backupRef: {name: done}}",
        &format!("snapshot: {{repositoryRef: {{name: main}}, id: {snapshot}}}}}\n  target: {{postgresql: {{host: shop-db, credentialsSecretRef: {{name: shop-db}}, tls: {{mode: Prefer}}}}}}"),
    );
    scenario.apply(&yaml);
    let restored = scenario.wait_for_condition("restorerequest/again", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_again"), server.digest_of_items("shop"));
}

#[test]
fn a_schedule_that_is_deleted_leaves_its_backups_and_the_newest_is_found_without_objects() {
    let scenario = Scenario::begin("latest");
    let server = with_backup(&scenario);
    scenario.kubectl(&["delete", "backup/done", "--timeout=60s"]);
    let yaml = restore("latest", "done", "shop", "shop_latest")
        .replace("backupRef: {name: done}", "latest: {scheduleRef: {name: nightly}}");
    scenario.apply(&yaml);
    let restored = scenario.wait_for_condition("restorerequest/latest", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_latest"), server.digest_of_items("shop"));
}

#[test]
fn one_table_comes_back_beside_the_live_database_for_another_role_and_its_rows_are_copied() {
    let scenario = Scenario::begin("one-table");
    let server = Server::start(&scenario);
    server.create_database("shop", 500);
    server.sql("postgres", "create role app; create role app_staging; create role looks");
    server.sql(
        "shop",
        "create table lines (id int primary key, item int references items);
         insert into lines select id, id from items;
         alter table items owner to app; alter table lines owner to app; grant select on items to looks;",
    );
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let _ = scenario.wait_for_condition("backup/done", "Complete");
    let rows = server.digest_of_items("shop");
    server.sql("shop", "delete from lines; delete from items where id % 3 = 0");

    let with = |name: &str, roles: &str, tables: &str, more: &str| {
        let object = restore(name, "done", "shop", "looked_at");
        let tables = format!("as: \"looked_at\", tables: [{tables}]");
        object.replace("as: \"looked_at\"", &tables) + &format!("  roleMap: {{{roles}}}\n{more}")
    };
    scenario.apply(&with("typo", "app: app_staging", "{schema: public, name: item}", ""));
    let failed = scenario.wait_for_condition("restorerequest/typo", "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "TableNotFound");
    assert!(failed["status"]["error"]["hint"].as_str().unwrap().contains("items"));
    let items = "{schema: public, name: items}";
    scenario.apply(&with("no-role", "app: nobody_here", items, ""));
    let failed = scenario.wait_for_condition("restorerequest/no-role", "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "RoleNotFound");
    let until = "  strategy: Swap\n  validUntil: \"2099-01-01T00:00:00Z\"\n";
    let refused = scenario
        .try_apply(&with("in-place", "app: app_staging", items, until))
        .unwrap_err()
        .message;
    assert!(refused.contains("must not take the place of the whole"), "{refused}");
    assert!(!server.has_database("looked_at") && server.scratch_databases().is_empty());

    let lines = "{schema: public, name: lines}";
    scenario.apply(&with("lines", "app: app_staging", lines, "  dryRun: true\n"));
    let planned = scenario.wait_for_condition("restorerequest/lines", "Ready");
    let planned = &planned["status"]["plan"]["databases"][0];
    assert_eq!(
        (planned["tables"].as_u64(), planned["leftOut"]["total"].as_u64()),
        (Some(1), Some(1))
    );

    scenario.apply(&with("items", "app: app_staging", items, ""));
    let done = scenario.wait_for_condition("restorerequest/items", "Complete");
    assert_eq!(done["status"]["databases"][0]["tables"], 1);
    let sql = "select string_agg(tablename || ' ' || tableowner, ',') from pg_tables where schemaname = 'public'";
    assert_eq!(server.sql("looked_at", sql), "items app_staging");
    assert_eq!(
        server.sql("looked_at", "select has_table_privilege('looks', 'items', 'select')"),
        "t"
    );
    assert_eq!(server.digest_of_items("looked_at"), rows);
    // As docs/restores.md says.
    server.sql(
        "shop",
        "create extension postgres_fdw;
         create server looked_at foreign data wrapper postgres_fdw options (dbname 'looked_at');
         create user mapping for current_user server looked_at;
         create schema looked_at; import foreign schema public limit to (items) from server looked_at into looked_at;
         insert into items select * from looked_at.items on conflict do nothing;",
    );
    assert_eq!(server.digest_of_items("shop"), rows);
}

#[test]
fn one_schema_comes_back_without_the_owners_that_are_gone() {
    let scenario = Scenario::begin("one-schema");
    let server = Server::start(&scenario);
    server.create_database("shop", 500);
    server.sql("postgres", "create role archivist");
    server.sql(
        "shop",
        "create schema archive authorization archivist;
         create table archive.items as select * from items; alter table archive.items owner to archivist;",
    );
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let _ = scenario.wait_for_condition("backup/done", "Complete");
    server.sql("shop", "drop schema archive cascade");
    server.sql("postgres", "drop role archivist");

    let archive = |name: &str, more: &str| {
        let object = restore(name, "done", "shop", "archived");
        object.replace("as: \"archived\"", "as: \"archived\", schemas: [archive]") + more
    };
    scenario.apply(&archive("owned", ""));
    let failed = scenario.wait_for_condition("restorerequest/owned", "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "RoleNotFound");
    scenario.apply(&archive("archive", "  noOwner: true\n"));
    let _ = scenario.wait_for_condition("restorerequest/archive", "Complete");
    let sql =
        "select string_agg(schemaname || '.' || tablename || ' ' || tableowner, ',') from pg_tables
               where schemaname in ('public', 'archive')";
    assert_eq!(server.sql("archived", sql), "archive.items postgres");
    assert_eq!(server.sql("archived", "select count(*) from archive.items"), "500");
}
