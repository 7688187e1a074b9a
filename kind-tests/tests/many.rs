//! A server with more databases than a status can name.

use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, restore, schedule};
use serde_json::Value;

const DATABASES: usize = 300;

#[test]
fn three_hundred_databases_are_counted_failures_come_first_and_one_is_restored() {
    let scenario = Scenario::begin("many");
    let server = Server::start(&scenario);
    create_repository(&scenario);
    server.sql(
        "postgres",
        "create role backup_user login password 'readonly' in role pg_read_all_data",
    );
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: limited}\nstringData: {username: backup_user, password: readonly}\n",
    );
    server.sql("template1", "create table items (id bigint primary key, name text)");
    let create: String =
        (0..DATABASES).map(|number| format!("create database shop_{number:03};\n")).collect();
    server.sql("postgres", &create);
    server
        .sql("shop_123", "insert into items select n, md5(n::text) from generate_series(1, 100) n");
    // Two that the role may not read, far behind the first hundred.
    for number in [222, 299] {
        let database = format!("shop_{number}");
        server.sql(&database, "create schema closed; create table closed.items as select 1");
        server.sql(&database, "alter table closed.items enable row level security");
    }
    scenario.apply(&schedule("nightly", "limited", "{include: ['shop_*']}", "{}"));
    scenario.apply(&backup("all", "nightly"));

    let done = scenario.wait_patiently("the backup has ended", || {
        let object = scenario.object("backup/all");
        object["status"]["completionTime"].is_string().then_some(object)
    });
    let status = &done["status"];
    assert_eq!(status["phase"], "PartiallyFailed", "{status}");
    let count = &status["databaseCount"];
    let number = |field: &str| count[field].as_u64().unwrap_or_default();
    assert_eq!((number("succeeded"), number("failed")), (298, 2), "{count}");
    let listed: Vec<_> = status["databases"].as_array().into_iter().flatten().collect();
    assert_eq!(listed.len(), 100, "as many as a status names");
    let failed = |entry: &&&Value| entry["outcome"] == "Failed";
    let first: Vec<_> = listed.iter().take_while(failed).map(|it| it["name"].clone()).collect();
    assert_eq!(first, ["shop_222", "shop_299"]);
    let column = status["display"].as_str().unwrap_or_default();
    assert!(column.starts_with("298 of 300 databases are in the snapshot"), "{column}");
    // etcd takes 1.5 MB.
    let bytes = done.to_string().len();
    assert!(bytes < 200_000, "the object has {bytes} bytes");

    let one = restore("one", "all", "shop_123", "shop_again");
    let target = "  target: {postgresql: {host: shop-db, credentialsSecretRef: {name: shop-db}, tls: {mode: Prefer}}}\n";
    scenario.apply(&(one + target));
    let restored = scenario.wait_for_condition("restorerequest/one", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_again"), server.digest_of_items("shop_123"));
    // One that failed is in no snapshot.
    scenario.apply(&(restore("failed", "all", "shop_299", "shop_failed") + target));
    scenario.wait_for_failure("restorerequest/failed", "DatabaseNotFound", &["shop_299"]);
}
