//! SQL of somebody else: what is carried out, whose fault it is when it is not, and what is
//! told of that.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use dbbackup_contract::{Failure, Reason, SqlText};
use dbbackup_engine::StatementError;
use dbbackup_postgres::{ServerConnection, execute, open_database};
use support::{TestServer, connection, connection_as};
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_secs(60);

async fn carry_out(
    way: &ServerConnection,
    sql: &str,
    limit: Duration,
) -> Result<(), StatementError> {
    let never = CancellationToken::new();
    execute(way, "shop", &SqlText(sql.to_owned()), limit, &never).await
}

async fn done(way: &ServerConnection, sql: &str) {
    carry_out(way, sql, MINUTE).await.unwrap();
}

/// Why the statement is at fault.
async fn fault(way: &ServerConnection, sql: &str, limit: Duration) -> Failure {
    match carry_out(way, sql, limit).await.unwrap_err() {
        StatementError::Statement(failure) => failure,
        StatementError::Server(failure) => panic!("the server is said to be at fault: {failure}"),
    }
}

/// Why the server is at fault.
fn server_fault(ended: Result<(), StatementError>) -> Failure {
    match ended.unwrap_err() {
        StatementError::Server(failure) => failure,
        StatementError::Statement(failure) => panic!("the statement is at fault: {failure}"),
    }
}

fn with_shop() -> (TestServer, tempfile::TempDir, ServerConnection) {
    let server = TestServer::start(17, &[]);
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE notes (note text UNIQUE)");
    let dir = tempfile::tempdir().unwrap();
    let way = connection(&server, dir.path());
    (server, dir, way)
}

#[tokio::test]
async fn what_psql_would_do_is_done() {
    let (server, _dir, way) = with_shop();
    // Alone, a statement may be one that no transaction takes.
    for alone in ["CHECKPOINT", "VACUUM notes", "", "SELECT * FROM generate_series(1, 100000)"] {
        done(&way, alone).await;
    }
    // Several are one transaction.
    let half = "INSERT INTO notes VALUES ('half'); SELECT 1/0";
    assert_eq!(fault(&way, half, MINUTE).await.reason, Reason::StatementFailed);
    let note = "INSERT INTO notes VALUES ('one'); INSERT INTO notes VALUES ('two')";
    done(&way, note).await;
    done(&way, "BEGIN; INSERT INTO notes VALUES ('three'); COMMIT").await;
    assert_eq!(server.sql("shop", "SELECT string_agg(note, ' ') FROM notes"), "one two three");
    // The role's own settings are in force, and its session is its own.
    server.sql("postgres", "ALTER ROLE postgres SET search_path = elsewhere");
    server.sql("shop", "CREATE SCHEMA elsewhere CREATE TABLE notes (note text)");
    done(&way, "SET application_name = 'x'; INSERT INTO notes VALUES ('there')").await;
    assert_eq!(server.sql("shop", "SELECT note FROM elsewhere.notes"), "there");
    let open = fault(&way, "BEGIN; INSERT INTO notes VALUES ('lost')", MINUTE).await;
    assert!(open.message.contains("COMMIT"), "{open}");
    assert_eq!(server.sql("shop", "SELECT note FROM elsewhere.notes"), "there");
}

#[tokio::test]
async fn what_the_server_says_is_told_without_rows_and_without_the_statement() {
    let (server, dir, way) = with_shop();
    server.sql("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'clerk'");
    let clerk = connection_as(&server, dir.path(), "clerk", "clerk");
    server.sql("shop", "INSERT INTO notes VALUES ('hunter2')");
    let raise = |code: &str| {
        format!("DO $$ BEGIN RAISE EXCEPTION 'hunter2' USING ERRCODE = '{code}'; END $$")
    };
    let table = [
        (&way, "INSERT INTO notes VALUES ('hunter2')".to_owned(), "23505"),
        (&way, "SELECT 'hunter2'::int".to_owned(), "22P02"),
        (&way, "SELECT 1 hunter2 hunter2".to_owned(), "at character 18 of it (SQLSTATE 42601)"),
        (&way, "SELECT 'hunter2".to_owned(), "42601"),
        (&way, raise("P0001"), "P0001"),
        (&way, raise("42P01"), "42P01"),
        (&way, "SELECT * FROM nosuch".to_owned(), "relation \"nosuch\" does not exist"),
        (&clerk, "DELETE FROM notes".to_owned(), "permission denied for table notes"),
        (&clerk, "CHECKPOINT".to_owned(), "42501"),
        (&way, "COPY notes TO STDOUT".to_owned(), "COPY"),
        (&way, "COPY notes FROM STDIN".to_owned(), "COPY"),
        (&way, "SELECT '\0'".to_owned(), "number 0"),
    ];
    for (way, sql, expected) in table {
        let failure = fault(way, &sql, MINUTE).await;
        assert!(failure.message.contains(expected), "{sql}: {failure}");
        assert!(!failure.to_string().contains("hunter2"), "{sql}: {failure}");
        assert!(!failure.is_retryable(), "{sql}: {failure}");
    }
    // A COPY that waits for the client would hold its locks.
    server.sql("shop", "SET lock_timeout = '5s'; LOCK TABLE notes");
}

#[tokio::test]
async fn what_takes_too_long_or_is_stopped_ends_on_the_server_as_well() {
    let (server, _dir, way) = with_shop();
    let held = server.hold("shop", "BEGIN; LOCK TABLE notes");
    let waits = "INSERT INTO notes VALUES ('late')";
    let failure = fault(&way, waits, Duration::from_secs(1)).await;
    assert!(failure.is_retryable() && failure.message.contains("longer than 1 s"), "{failure}");
    let stop = CancellationToken::new();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO notes%'";
    let (sql, stopping) = (SqlText(waits.to_owned()), stop.clone());
    let stopper = async {
        while server.sql("postgres", waiting) == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stopping.cancel();
    };
    let (ended, ()) = tokio::join!(execute(&way, "shop", &sql, MINUTE, &stop), stopper);
    assert_eq!(server_fault(ended).reason, Reason::Interrupted);
    assert_eq!(server.sql("postgres", waiting), "0");
    drop(held);
    assert_eq!(server.sql("shop", "SELECT count(*) FROM notes"), "0");
}

#[tokio::test]
async fn a_server_that_is_not_reached_or_goes_is_nobodys_fault() {
    let (server, dir, way) = with_shop();
    let wrong = connection_as(&server, dir.path(), "nobody", "x");
    let failure = server_fault(carry_out(&wrong, "SELECT 1", MINUTE).await);
    assert_eq!(failure.reason, Reason::WrongPassword);
    let never = CancellationToken::new();
    assert_eq!(open_database(&way, "shop", &never).await, Ok(()));
    let failure = open_database(&way, "crm", &never).await.unwrap_err();
    assert_eq!(failure.reason, Reason::DatabaseNotFound);
    let ended = "SELECT pg_terminate_backend(pg_backend_pid())";
    let failure = server_fault(carry_out(&way, ended, MINUTE).await);
    assert!(failure.reason == Reason::ServerGoneAway && failure.is_retryable(), "{failure}");
    let stop = server.stopper();
    let stopping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        stop();
    });
    let failure = server_fault(carry_out(&way, "SELECT pg_sleep(50)", MINUTE).await);
    assert!(failure.is_retryable(), "{failure}");
    stopping.join().unwrap();
}
