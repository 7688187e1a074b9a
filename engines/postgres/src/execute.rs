//! SQL of somebody else, carried out for them: what comes back is whether it was.

use std::time::Duration;

use dbbackup_contract::{ErrorClass, Failure, Reason, SqlText};
use dbbackup_engine::StatementError;
use tokio_postgres::SimpleQueryMessage;
use tokio_util::sync::CancellationToken;

use crate::ServerConnection;
use crate::connection::{Session, keep_alive_statements};
use crate::errors::{failure_of_foreign_statement, query_failure};
use crate::watch::{Guard, interrupted};

/// How long ending a session on the server may take: a run that was told to stop has not
/// much more.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// What is longer ends by the server's own clock, should nobody be left to end it.
const SERVER_MARGIN: Duration = Duration::from_secs(5);
/// PostgreSQL 14 and newer notice that a client has vanished while they work for it, where
/// their operating system can.
const NOTICE_VANISHED: &str = "SET client_connection_check_interval = '10s'";

/// Has the server carry out `sql` in `database`, as one simple query in a session of its own
/// (PostgreSQL's documentation, "Multiple Statements in a Simple Query"): one statement may be
/// any, several are one transaction unless they say otherwise. Settings are those of the role
/// and the database, as `psql` would get them. Rows are thrown away.
///
/// What takes longer than `limit`, or is under way when `cancel` comes, is ended on the server.
///
/// # Errors
/// Whose fault it is. No message holds rows, or more of `sql` than names of objects.
pub async fn execute(
    server: &ServerConnection,
    database: &str,
    sql: &SqlText,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<(), StatementError> {
    let session = opened(server, database, cancel).await.map_err(StatementError::Server)?;
    let cut = tokio::select! {
        biased;
        () = cancel.cancelled() => Cut::Stop,
        done = carry_out(&session, sql, limit) => match done {
            Ok(()) => return Ok(()),
            Err(Ended::With(error)) => return Err(error),
            Err(Ended::InACopy) => Cut::Copy,
        },
        () = tokio::time::sleep(limit) => Cut::Limit,
    };
    // What waits for a lock, or for more of a COPY, would stay there and hold its own.
    let ended = end(server, database, &session).await;
    if let Err(lost) = &ended {
        tracing::warn!(database, %lost, "what was asked for may still run on the server");
    }
    Err(match (cut, ended) {
        (Cut::Stop, _) => StatementError::Server(interrupted()),
        (Cut::Copy, _) => refused("it asks for a COPY from or to the client, which has nothing"),
        // It is not the statement that is slow, then.
        (Cut::Limit, Err(lost)) => StatementError::Server(lost),
        (Cut::Limit, Ok(())) => StatementError::Statement(too_long(limit)),
    })
}

/// Why what the server is at is not waited for.
enum Cut {
    Stop,
    Copy,
    Limit,
}

/// How something ended that was not carried out.
enum Ended {
    With(StatementError),
    /// It has not: the server waits for the client's part of a COPY.
    InACopy,
}

/// Looks whether `database` can be opened, as [`execute`] would.
///
/// # Errors
/// Why not.
pub async fn open_database(
    server: &ServerConnection,
    database: &str,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    opened(server, database, cancel).await.map(drop)
}

async fn opened(
    server: &ServerConnection,
    database: &str,
    cancel: &CancellationToken,
) -> Result<Session, Failure> {
    let guard = Guard::new(server, cancel);
    guard.waiting_for(format!("the server to open a session in database {database}"));
    guard.wait(Session::open(server, database)).await
}

async fn carry_out(session: &Session, sql: &SqlText, limit: Duration) -> Result<(), Ended> {
    if sql.0.contains('\0') {
        return Err(Ended::With(refused("the protocol knows no character of the number 0")));
    }
    let ours = |failure| Ended::With(StatementError::Server(failure));
    let longest = (limit + SERVER_MARGIN).as_millis();
    // Notices may hold anything; nobody reads them.
    let settings = format!(
        "RESET ALL; {}SET client_min_messages = error; SET statement_timeout = {longest}",
        keep_alive_statements()
    );
    session.run(&settings, "setting up the session").await.map_err(ours)?;
    if session.major >= 14 {
        // One that cannot refuses it.
        let _ = session.run(NOTICE_VANISHED, "setting up the session").await;
    }
    session.batch_execute(&sql.0).await.map_err(|error| failed(&error))?;
    // In a transaction that is still open its time, and not the statement's, is `now`.
    let is_closed = "SELECT 1 WHERE \
        pg_catalog.now() OPERATOR(pg_catalog.=) pg_catalog.statement_timestamp()";
    let answer = session.simple_query(is_closed).await.map_err(|error| failed(&error))?;
    if answer.iter().any(|part| matches!(part, SimpleQueryMessage::Row(_))) {
        return Ok(());
    }
    let message = "it leaves a transaction open, and nothing of that stays: end it with COMMIT";
    Err(Ended::With(refused(message)))
}

fn failed(error: &tokio_postgres::Error) -> Ended {
    let Some(said) = error.as_db_error() else {
        let failure = query_failure(error, "waiting for an answer");
        return match failure.reason {
            Reason::ServerGoneAway => Ended::With(StatementError::Server(failure)),
            // Nothing else is answered by what the client does not expect.
            _ => Ended::InACopy,
        };
    };
    let failure = failure_of_foreign_statement(said);
    Ended::With(match failure.reason {
        Reason::ServerGoneAway | Reason::ServerNotReady => StatementError::Server(failure),
        _ => StatementError::Statement(failure),
    })
}

fn refused(message: &str) -> StatementError {
    StatementError::Statement(Failure::new(Reason::StatementFailed, message))
}

/// Somebody held a lock, or the server had much to do: another time it may be quicker.
fn too_long(limit: Duration) -> Failure {
    let message = format!("it took longer than {} s, and was ended", limit.as_secs());
    Failure { class: ErrorClass::Retryable, ..Failure::new(Reason::StatementFailed, message) }
        .with_hint("Raise its timeout, or find out what it waits for.")
}

/// Ends the session on the server, whatever it does there.
async fn end(server: &ServerConnection, database: &str, session: &Session) -> Result<(), Failure> {
    let ended = async {
        // Every role may end sessions of its own.
        let other = Session::open(server, database).await?;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE pid = $1 AND usename = session_user";
        other
            .query(sql, &[&session.pid])
            .await
            .map_err(|error| query_failure(&error, "ending a session"))?;
        session.lost().await;
        Ok(())
    };
    match tokio::time::timeout(END_TIMEOUT, ended).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::new(Reason::ServerGoneAway, "the server does not answer any more")),
    }
}
