//! What restores left behind and nobody takes up any more is cleared away by a
//! later restore; what somebody works with, or may still want, is not touched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use dbbackup_contract::Reason;
use dbbackup_postgres::{LeftBehind, Leftover, RestoreOptions, RestoreResult};
use sha2::{Digest, Sha256};
use support::{
    MemoryBackup, Silent, TestServer, assert_all_succeeded, back_up, backup_of, connection,
    killed_at, put_back, restore_to, scratch_of,
};
use tokio_util::sync::CancellationToken;

/// The stream at which restores are killed or held.
const LATE: &str = "tables/public/orders";

struct Shop {
    server: TestServer,
    backup: MemoryBackup,
    dir: tempfile::TempDir,
}

impl Shop {
    async fn new() -> Self {
        let server = TestServer::start(17, &[]);
        let dir = tempfile::tempdir().unwrap();
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("shop", "CREATE TABLE items AS SELECT g FROM generate_series(1, 5000) g");
        server.sql("shop", "CREATE TABLE orders AS SELECT g FROM generate_series(1, 77) g");
        let backup = MemoryBackup::default();
        let options = backup_of(connection(&server, dir.path()), &["shop"]);
        assert_all_succeeded(&back_up(&options, &backup).await.unwrap().databases);
        Self { server, backup, dir }
    }

    /// A request with this UID to restore the shop as `target`.
    fn request(&self, uid: &str, target: &str) -> RestoreOptions {
        let mut options =
            restore_to(connection(&self.server, self.dir.path()), &[("shop", target)]);
        options.request_uid = uid.to_owned();
        options
    }

    async fn restored(&self, uid: &str, target: &str) -> RestoreResult {
        let restored = put_back(&self.request(uid, target), &self.backup).await.unwrap();
        assert_all_succeeded(&restored.databases);
        restored
    }

    /// The scratch database of a request that was killed while it loaded.
    async fn half_loaded(&self, uid: &str, target: &str) -> String {
        killed_at(&self.request(uid, target), &self.backup, LATE).await;
        scratch_of(&self.server)
    }

    /// Databases but the usual ones, sorted.
    fn databases(&self) -> Vec<String> {
        let names = self.server.databases();
        names.into_iter().filter(|name| !matches!(name.as_str(), "postgres" | "shop")).collect()
    }

    /// Waits until nobody is connected to `database` any more, and no restore to the server.
    async fn left_alone(&self, database: &str) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' \
             OR application_name LIKE 'dbbackup%'"
        );
        let started = std::time::Instant::now();
        while self.server.sql("postgres", &sql) != "0" {
            assert!(started.elapsed() < Duration::from_secs(60), "sessions stay behind");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn stays(left: &[LeftBehind], name: &str) -> String {
    match left {
        [LeftBehind { name: found, leftover: Leftover::Stays(why) }] if found == name => {
            why.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_deleted_request_left_half_loaded_is_dropped_by_the_next_restore() {
    let shop = Shop::new().await;
    let scratch = shop.half_loaded("gone", "lost").await;
    shop.left_alone(&scratch).await;
    let restored = shop.restored("next", "shop2").await;
    let dropped = Leftover::Dropped("gone".to_owned());
    assert_eq!(restored.left_behind, [LeftBehind { name: scratch, leftover: dropped }]);
    assert_eq!(shop.databases(), ["shop2"]);
    // To the request nothing is lost, if it was only waiting for its next attempt.
    assert!(shop.restored("gone", "lost").await.left_behind.is_empty());
    assert_eq!(shop.databases(), ["lost", "shop2"]);
}

#[tokio::test]
async fn what_a_running_restore_loads_is_never_touched() {
    let shop = Shop::new().await;
    let (running, next) = (shop.request("running", "slow"), shop.request("next", "shop2"));
    let slow = shop.backup.copy();
    *slow.hangs_at.lock().unwrap() = Some(LATE.to_owned());
    let cancel = CancellationToken::new();
    let first = dbbackup_postgres::restore(&running, &slow, &Silent, &cancel);
    let second = async {
        while !slow.read.lock().unwrap().iter().any(|name| name.ends_with("orders")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let scratch = scratch_of(&shop.server);
        let never = CancellationToken::new();
        let restored = dbbackup_postgres::restore(&next, &shop.backup, &Silent, &never).await;
        let restored = restored.unwrap();
        assert_all_succeeded(&restored.databases);
        assert!(restored.left_behind.is_empty(), "{:?}", restored.left_behind);
        assert_eq!(scratch_of(&shop.server), scratch);
    };
    tokio::select! {
        ended = first => panic!("{ended:?}"),
        () = second => {}
    }
}

#[tokio::test]
async fn what_is_loaded_stays_and_is_named() {
    let shop = Shop::new().await;
    // Killed between loading and renaming.
    let scratch = shop.half_loaded("gone", "lost").await;
    shop.left_alone(&scratch).await;
    shop.restored("gone", "lost").await;
    shop.server.sql("postgres", &format!("ALTER DATABASE lost RENAME TO {scratch}"));
    let restored = shop.restored("next", "shop2").await;
    let why = stays(&restored.left_behind, &scratch);
    assert_eq!(why, "restore gone has loaded it and only has to rename it");
    // Its own restore takes it up, all the same.
    shop.restored("gone", "lost").await;
    assert_eq!(shop.databases(), ["lost", "shop2"]);
}

#[tokio::test]
async fn what_bears_no_mark_or_is_used_by_somebody_stays() {
    let shop = Shop::new().await;
    let scratch = shop.half_loaded("gone", "lost").await;
    shop.left_alone(&scratch).await;
    let held = shop.server.hold(&scratch, "SELECT 1");
    let restored = shop.restored("next", "a").await;
    let why = stays(&restored.left_behind, &scratch);
    assert!(why.contains("is being accessed by other users"), "{why}");
    drop(held);
    shop.left_alone(&scratch).await;

    shop.server.sql("postgres", &format!("COMMENT ON DATABASE {scratch} IS NULL"));
    let restored = shop.restored("next", "b").await;
    assert_eq!(stays(&restored.left_behind, &scratch), "it was created and not marked");

    shop.server.sql("postgres", &format!("COMMENT ON DATABASE {scratch} IS 'my own: loading'"));
    assert!(shop.restored("next", "c").await.left_behind.is_empty());
    assert_eq!(scratch_of(&shop.server), scratch);
}

#[tokio::test]
async fn a_drop_that_hangs_is_no_failure_of_the_restore() {
    let shop = Shop::new().await;
    let scratch = shop.half_loaded("gone", "lost").await;
    shop.left_alone(&scratch).await;
    // Somebody changes the mark, and does not end his transaction.
    let _held = shop.server.hold(
        "postgres",
        &format!("BEGIN; COMMENT ON DATABASE {scratch} IS 'dbbackup restore gone: loading'"),
    );
    let mut options = shop.request("next", "shop2");
    options.server.stall_timeout = Duration::from_secs(1);
    let restored = put_back(&options, &shop.backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    let why = stays(&restored.left_behind, &scratch);
    assert!(why.starts_with("no byte moved for 1 s, waiting for the server to drop"), "{why}");
    assert_eq!(shop.databases(), [scratch.as_str(), "shop2"]);
}

#[tokio::test]
async fn a_backup_of_everything_leaves_out_what_a_restore_makes_or_left() {
    let shop = Shop::new().await;
    let scratch = shop.half_loaded("gone", "lost").await;
    shop.left_alone(&scratch).await;
    let backed_up = async |include: &[&str]| {
        let options = backup_of(connection(&shop.server, shop.dir.path()), include);
        let made = back_up(&options, &MemoryBackup::default()).await.unwrap();
        assert_all_succeeded(&made.databases);
        let mut names: Vec<_> = made.databases.into_iter().map(|report| report.name).collect();
        names.sort();
        names
    };
    assert_eq!(backed_up(&[]).await, ["postgres", "shop"]);
    assert_eq!(backed_up(&["*"]).await, ["postgres", "shop"]);
    assert_eq!(backed_up(&[&scratch]).await, [scratch.as_str()]);
    // By a name of that kind alone it is somebody's data.
    shop.server.sql("postgres", &format!("COMMENT ON DATABASE {scratch} IS 'mine'"));
    assert_eq!(backed_up(&[]).await, [scratch.as_str(), "postgres", "shop"]);
}

#[tokio::test]
async fn what_another_role_owns_stays() {
    let shop = Shop::new().await;
    let scratch = shop.half_loaded("gone", "lost").await;
    shop.left_alone(&scratch).await;
    shop.server.sql("postgres", "CREATE ROLE weak LOGIN CREATEDB PASSWORD 'weak'");
    shop.server.sql("postgres", "GRANT postgres TO weak WITH INHERIT FALSE");
    shop.server.sql("postgres", "CREATE DATABASE weakly OWNER weak");
    shop.server.sql("weakly", "SET ROLE weak; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS a");
    let backup = MemoryBackup::default();
    let way = connection(&shop.server, shop.dir.path());
    back_up(&backup_of(way, &["weakly"]), &backup).await.unwrap();
    let weak = support::connection_as(&shop.server, shop.dir.path(), "weak", "weak");
    let mut options = restore_to(weak, &[("weakly", "weakly2")]);
    options.request_uid = "next".to_owned();
    let restored = put_back(&options, &backup).await.unwrap();
    let why = stays(&restored.left_behind, &scratch);
    assert!(why.contains("must be owner of database"), "{why}");
    assert_eq!(scratch_of(&shop.server), scratch);
}

/// The lock of a name, as `restore/locks.rs` has it.
fn lock_of(kind: &str, name: &str) -> i64 {
    let digest = Sha256::digest(format!("dbbackup {kind}\0{name}"));
    i64::from_le_bytes(digest[..8].try_into().unwrap())
}

#[tokio::test]
async fn a_lock_counts_whatever_database_its_session_is_connected_to() {
    let shop = Shop::new().await;
    let scratch = shop.half_loaded("gone", "lost").await;
    shop.left_alone(&scratch).await;
    for database in ["postgres", "shop"] {
        let lock = |kind, name| {
            let sql = format!("SELECT pg_advisory_lock({})", lock_of(kind, name));
            shop.server.hold(database, &sql)
        };
        let held = lock("scratch", &scratch);
        let restored = shop.restored("next", &format!("beside_{database}")).await;
        assert!(restored.left_behind.is_empty(), "{database}: {:?}", restored.left_behind);
        assert_eq!(scratch_of(&shop.server), scratch);
        drop(held);

        let held = lock("restore", "wanted");
        let refused = put_back(&shop.request("next", "wanted"), &shop.backup).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RestoreInProgress, "{database}: {refused}");
        assert_eq!(scratch_of(&shop.server), scratch, "a restore that does nothing clears nothing");
        drop(held);
    }
}
