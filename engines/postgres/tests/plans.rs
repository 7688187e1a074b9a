//! What a restore says that it will do, and that it does nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::time::Duration;

use dbbackup_contract::{Assertion, OnError, PlannedAction, PlannedDatabase, Reason, RestorePlan};
use dbbackup_postgres::{Replace, RestoreOptions, Strategy, placed, settle};
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, put_back,
    report, restore_to,
};
use tokio_util::sync::CancellationToken;

/// A server with the databases `crm` and `shop`, and their backup.
async fn two(dir: &Path) -> (TestServer, MemoryBackup) {
    let server = TestServer::start(17, &[]);
    for name in ["crm", "shop"] {
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
        server.sql("postgres", &format!("COMMENT ON DATABASE {name} IS 'the {name}'"));
        server.sql(name, "CREATE TABLE items AS SELECT g FROM generate_series(1, 50) g");
    }
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(connection(&server, dir), &["crm", "shop"]), &backup).await;
    assert_all_succeeded(&made.unwrap().databases);
    (server, backup)
}

/// A restore of both: the shop in its own place, the other under a new name.
fn request(server: &TestServer, dir: &Path, terminate_sessions: bool) -> RestoreOptions {
    let mut options = restore_to(connection(server, dir), &[("crm", "crm2"), ("shop", "shop")]);
    options.strategy = Strategy::Swap(Replace {
        terminate_sessions,
        lock_timeout: Duration::from_secs(20),
        stamp: "20261120t081200z".into(),
    });
    options
}

fn databases(server: &TestServer) -> Vec<String> {
    server.databases().into_iter().filter(|name| name != "postgres").collect()
}

fn planned<'a>(plan: &'a RestorePlan, name: &str) -> &'a PlannedDatabase {
    plan.databases.iter().find(|database| database.name == name).unwrap()
}

#[tokio::test]
async fn a_plan_touches_nothing_and_just_it_is_carried_out_once_approved() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = two(dir.path()).await;
    let mut options = request(&server, dir.path(), true);
    options.dry_run = true;
    let session = server.hold("shop", "SELECT 1");
    let told = put_back(&options, &backup).await.unwrap();
    assert!(!told.is_carried_out && told.databases.is_empty() && told.placed.is_empty());
    assert_eq!(databases(&server), ["crm", "shop"]);
    let plan = told.plan;
    assert_eq!(planned(&plan, "crm").action, PlannedAction::Create);
    let shop = planned(&plan, "shop");
    let replaced = shop.replaces.as_ref().unwrap();
    assert_eq!((shop.action, replaced.sessions), (PlannedAction::Replace, 1));
    assert_eq!(replaced.kept_as.as_deref(), Some("shop_before_20261120t081200z"));
    let oid = server.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'shop'");
    assert_eq!(replaced.oid.to_string(), oid);
    assert!(replaced.size_bytes > 1_000_000 && shop.bytes > 0 && shop.tables == 1);

    // Somebody puts another database in its place.
    drop(session);
    options =
        RestoreOptions { dry_run: false, approved_plan: Some(plan.digest.clone()), ..options };
    server.sql("postgres", "ALTER DATABASE shop RENAME TO aside");
    server.sql("postgres", "CREATE DATABASE shop");
    let told = put_back(&options, &backup).await.unwrap();
    assert!(!told.is_carried_out);
    assert_ne!(told.plan.digest, plan.digest);
    assert_eq!(databases(&server), ["aside", "crm", "shop"]);

    server.sql("postgres", "DROP DATABASE shop");
    server.sql("postgres", "ALTER DATABASE aside RENAME TO shop");
    let done = put_back(&options, &backup).await.unwrap();
    assert!(done.is_carried_out);
    assert_all_succeeded(&done.databases);
    assert_eq!(databases(&server), ["crm", "crm2", "shop", "shop_before_20261120t081200z"]);
}

#[tokio::test]
async fn who_is_connected_is_told_and_is_no_part_of_what_is_approved() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = two(dir.path()).await;
    let mut options = request(&server, dir.path(), false);
    options.dry_run = true;
    let plan = put_back(&options, &backup).await.unwrap().plan;
    let session = server.hold("shop", "SELECT 1");
    let told = put_back(&options, &backup).await.unwrap();
    assert_eq!((told.plan.digest.as_str(), told.refused), (plan.digest.as_str(), None));
    let error = planned(&told.plan, "shop").error.clone().unwrap();
    assert_eq!(error.reason, Reason::DatabaseInUse);

    options = RestoreOptions {
        dry_run: false,
        approved_plan: Some(plan.digest),
        on_error: OnError::Stop,
        ..options
    };
    let refused = put_back(&options, &backup).await.unwrap();
    assert!(refused.is_carried_out);
    let reason = |name: &str| report(&refused.databases, name).error.clone().unwrap().reason;
    assert_eq!((reason("shop"), reason("crm")), (Reason::DatabaseInUse, Reason::NotBegun));
    assert_eq!(databases(&server), ["crm", "shop"]);
    drop(session);
    while !server
        .sql("postgres", "SELECT 1 FROM pg_stat_activity WHERE datname = 'shop'")
        .is_empty()
    {}
    assert_all_succeeded(&put_back(&options, &backup).await.unwrap().databases);
}

/// An attempt that was killed after the first of two was in place: what was approved is not what
/// is seen any more, and what is in place is told and settled whatever becomes of the other.
#[tokio::test]
async fn an_approved_restore_goes_on_where_the_attempt_before_it_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = two(dir.path()).await;
    let mut options = request(&server, dir.path(), false);
    options.databases.reverse();
    options.on_error = OnError::Stop;
    options.dry_run = true;
    let plan = put_back(&options, &backup).await.unwrap().plan;
    options = RestoreOptions { dry_run: false, approved_plan: Some(plan.digest), ..options };
    let first = RestoreOptions { databases: options.databases[..1].to_vec(), ..options.clone() };
    let first = RestoreOptions { approved_plan: None, ..first };
    assert_all_succeeded(&put_back(&first, &backup).await.unwrap().databases);

    // Somebody takes the other name, and stays.
    server.sql("postgres", "CREATE DATABASE crm2");
    let held = server.hold("crm2", "SELECT 1");
    let done = put_back(&options, &backup).await.unwrap();
    assert!(done.is_carried_out);
    let shop = report(&done.databases, "shop");
    assert!(shop.error.is_none() && shop.kept_as.is_some(), "{shop:?}");
    assert!(done.placed.iter().any(|placed| placed.name == "shop"));
    let crm = report(&done.databases, "crm").error.clone().unwrap();
    assert_eq!(crm.reason, Reason::DatabaseInUse, "{crm}");
    drop(held);
}

#[tokio::test]
async fn another_database_than_the_planned_one_is_not_replaced_at_the_end_either() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = two(dir.path()).await;
    let options = request(&server, dir.path(), true);
    server.sql("postgres", "CREATE DATABASE other");
    let change = "ALTER DATABASE shop RENAME TO aside; ALTER DATABASE other RENAME TO shop";
    backup.at("databases/shop/tables/public/items", server.later("postgres", change));
    let ended = put_back(&options, &backup).await.unwrap();
    let error = report(&ended.databases, "shop").error.clone().unwrap();
    assert_eq!(error.reason, Reason::PlanChanged, "{error}");
    assert_eq!(databases(&server), ["aside", "crm", "crm2", "shop"]);
}

#[tokio::test]
async fn what_was_carried_out_and_not_settled_is_settled_by_whoever_knows_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = two(dir.path()).await;
    let options = request(&server, dir.path(), false);
    let done = put_back(&options, &backup).await.unwrap();
    let again = placed(&options, &backup, &CancellationToken::new()).await.unwrap();
    assert_eq!(again, done.placed);
    settle(&options, &again).await.unwrap();
    for (database, comment) in [("shop", "the shop"), ("crm2", "the crm")] {
        let sql = format!(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'"
        );
        assert_eq!(server.sql("postgres", &sql), comment);
    }
    // Then it touches nothing.
    server.sql("postgres", "COMMENT ON DATABASE shop IS 'later'");
    settle(&options, &again).await.unwrap();
}

#[tokio::test]
async fn one_that_is_refused_keeps_all_from_being_created_unless_it_may_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = two(dir.path()).await;
    let mut options =
        restore_to(connection(&server, dir.path()), &[("crm", "crm2"), ("shop", "shop")]);
    options.on_error = OnError::Stop;
    let stopped = put_back(&options, &backup).await.unwrap();
    assert_eq!(databases(&server), ["crm", "shop"]);
    let reason = |name: &str| report(&stopped.databases, name).error.clone().unwrap().reason;
    assert_eq!((reason("crm"), reason("shop")), (Reason::NotBegun, Reason::DatabaseExists));
    assert_eq!(planned(&stopped.plan, "crm").action, PlannedAction::Create);
    assert_eq!(planned(&stopped.plan, "shop").action, PlannedAction::Refuse);

    options.on_error = OnError::Continue;
    let went_on = put_back(&options, &backup).await.unwrap();
    assert_eq!(databases(&server), ["crm", "crm2", "shop"]);
    assert!(report(&went_on.databases, "crm").error.is_none());
}

#[tokio::test]
async fn after_one_that_fails_no_other_is_begun_unless_it_may_go_on() {
    for (on_error, expected) in [(OnError::Stop, Some(Reason::NotBegun)), (OnError::Continue, None)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (server, backup) = two(dir.path()).await;
        let targets = [("crm", "crm2"), ("shop", "shop2")];
        let options =
            RestoreOptions { on_error, ..restore_to(connection(&server, dir.path()), &targets) };
        backup.change("databases/crm/tables/public/items", |bytes| bytes[0] = b'x');
        let ended = put_back(&options, &backup).await.unwrap();
        assert!(report(&ended.databases, "crm").error.is_some(), "{on_error:?}");
        let other = &report(&ended.databases, "shop").error;
        assert_eq!(other.as_ref().map(|error| error.reason), expected, "{on_error:?}");
        assert_eq!(server.databases().iter().any(|name| name == "shop2"), expected.is_none());
        assert!(!server.databases().iter().any(|name| name == "crm2"));
    }
}

#[tokio::test]
async fn what_does_not_answer_as_it_must_is_not_put_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let (server, backup) = two(dir.path()).await;
    let asking = |queries: &[&str], database: &str| {
        let mut options = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
        options.request_uid = format!("{queries:?}");
        options.assertions = queries
            .iter()
            .map(|query| Assertion {
                name: "rows".to_owned(),
                database: database.to_owned(),
                query: (*query).to_owned(),
            })
            .collect();
        options
    };
    for (query, why) in [
        ("select count(*) > 50 from items", "it is false"),
        ("select null::boolean", "it is null"),
        ("select count(*) from items", "the type int8"),
        ("select true from items", "it gave several rows"),
        ("select true where false", "it gave no row"),
        ("select true from nothing", "nothing"),
        ("select true; drop table items", "cannot insert multiple commands"),
        ("delete from items returning true", "read-only transaction"),
        ("select ('4111' || '-1111')::int > 0", "invalid input syntax for type integer: …"),
    ] {
        let options = asking(&["select count(*) = 50 from items", query], "shop");
        let ended = put_back(&options, &backup).await.unwrap();
        let error = report(&ended.databases, "shop").error.clone().unwrap();
        assert_eq!(error.reason, Reason::AssertionFailed, "{query}: {error}");
        assert!(error.message.contains(why), "{query}: {error}");
        assert_eq!(databases(&server), ["crm", "shop"], "{query}");
    }
    let stray = put_back(&asking(&["select true"], "crm"), &backup).await.unwrap_err();
    assert_eq!(stray.reason, Reason::InvalidSpec, "{stray}");
    let right =
        asking(&["select count(*) = 50 from items", "select exists(select from items)"], "shop");
    assert_all_succeeded(&put_back(&right, &backup).await.unwrap().databases);
    assert_eq!(databases(&server), ["crm", "shop", "shop2"]);
}
