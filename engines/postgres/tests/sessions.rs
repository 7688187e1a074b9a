//! What the sessions of clients are told: a server notices soon that one of them
//! has vanished, and a pooler that lends no sessions does not stand in the way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, put_back,
    restore_to,
};

/// A view that is filled again by the session that restores it.
const SEEN: &str = "CREATE MATERIALIZED VIEW seen AS SELECT \
    current_setting('tcp_keepalives_idle') AS idle, \
    current_setting('tcp_keepalives_interval') AS interval, \
    current_setting('tcp_keepalives_count') AS count, \
    current_setting('tcp_user_timeout') AS timeout, \
    current_setting('synchronous_commit') AS commit";

/// Writes down what each session of the database begins with.
const NOTE_LOGINS: &str = "
    CREATE TABLE logins (application text, settings text);
    CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO public.logins SELECT current_setting('application_name'),
                string_agg(name || '=' || current_setting(name), ' ' ORDER BY name)
                FROM pg_settings WHERE name LIKE 'tcp\\_%';
        END $$;
    CREATE EVENT TRIGGER note ON login EXECUTE FUNCTION note();";

#[tokio::test]
async fn a_server_notices_clients_that_vanish() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", SEEN);
    server.sql("shop", NOTE_LOGINS);
    let dir = tempfile::tempdir().unwrap();
    let backup = MemoryBackup::default();
    let options = backup_of(connection(&server, dir.path()), &["shop"]);
    assert_all_succeeded(&back_up(&options, &backup).await.unwrap().databases);
    let of_dump = "SELECT settings FROM logins WHERE application LIKE 'dbbackup dump %'";
    // A dump may be paused for as long as the repository takes nothing.
    assert_eq!(
        server.sql("shop", of_dump),
        "tcp_keepalives_count=3 tcp_keepalives_idle=30 tcp_keepalives_interval=10 \
         tcp_user_timeout=0"
    );
    let restore = restore_to(connection(&server, dir.path()), &[("shop", "shop2")]);
    assert_all_succeeded(&put_back(&restore, &backup).await.unwrap().databases);
    assert_eq!(server.sql("shop2", "SELECT * FROM seen"), "30|10|3|60000|off");
}

#[tokio::test]
async fn a_pooler_that_refuses_settings_is_no_obstacle() {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", SEEN);
    server.sql("shop", "CREATE TABLE items AS SELECT g FROM generate_series(1, 500) g");
    let dir = tempfile::tempdir().unwrap();
    let (port, _pooler) = server.pooler("session");
    let mut way = connection(&server, dir.path());
    way.access.port = port;
    let backup = MemoryBackup::default();
    let made = back_up(&backup_of(way.clone(), &["shop"]), &backup).await.unwrap();
    assert_all_succeeded(&made.databases);
    let restored = put_back(&restore_to(way, &[("shop", "shop2")]), &backup).await.unwrap();
    assert_all_succeeded(&restored.databases);
    assert_eq!(server.sql("shop2", "SELECT * FROM seen"), "30|10|3|60000|off");
    assert_eq!(server.sql("shop2", "SELECT count(*) FROM items"), "500");
}
