//! What a restored database must answer with true before it is put in place.

use dbbackup_contract::{Assertion, Failure, Reason};
use futures::TryStreamExt;
use tokio_postgres::types::Type;

use super::Planned;
use super::load::Loader;
use crate::connection::Session;
use crate::errors::{failure_of_foreign_statement, is_server_lost, query_failure};

/// Asks the loaded scratch database all of it, in transactions that change nothing.
///
/// # Errors
/// `AssertionFailed`, with the first one that does not hold; or the server is lost.
pub(super) async fn hold(loader: &Loader<'_>, planned: &Planned) -> Result<(), Failure> {
    if planned.assertions.is_empty() {
        return Ok(());
    }
    let guard = loader.guard;
    guard.waiting_for(format!("the server to open {} for its assertions", planned.scratch.name));
    let session = guard.wait(Session::open(loader.connection, &planned.scratch.name)).await?;
    for assertion in &planned.assertions {
        guard.waiting_for(format!("the server to answer the assertion {}", assertion.name));
        guard.on(&session, holds(&session, assertion)).await?;
    }
    Ok(())
}

/// Refuses an assertion about a database that is not restored.
///
/// # Errors
/// `InvalidSpec`.
pub(super) fn check(assertions: &[Assertion], planned: &[Planned]) -> Result<(), Failure> {
    let is_restored = |name: &str| planned.iter().any(|planned| planned.wanted.name == name);
    match assertions.iter().find(|assertion| !is_restored(&assertion.database)) {
        None => Ok(()),
        Some(Assertion { name, database, .. }) => {
            let message = format!("assertion {name} is about {database}, which is not restored");
            Err(Failure::new(Reason::InvalidSpec, message)
                .with_hint("Say the database's name as the backup has it."))
        }
    }
}

async fn holds(session: &Session, assertion: &Assertion) -> Result<(), Failure> {
    let Err(why) = answer(session, &assertion.query).await? else { return Ok(()) };
    let message = format!("assertion {} does not hold: {why}", assertion.name);
    Err(Failure::new(Reason::AssertionFailed, message))
}

/// Asks one assertion, in a transaction that changes nothing. What is wrong with the answer, if
/// anything; the session is of no further use then, since the server may still have things to say.
///
/// # Errors
/// The server is lost.
pub(crate) async fn answer(session: &Session, query: &str) -> Result<Result<(), String>, Failure> {
    let doing = "beginning an assertion";
    // Ours is empty; people write for the one that a server comes with.
    let begin = "BEGIN TRANSACTION READ ONLY; SET LOCAL search_path = \"$user\", public";
    session.run(begin, doing).await?;
    let answered = judge(session, query).await?;
    if answered.is_ok() {
        session.run("ROLLBACK", "ending an assertion").await?;
    }
    Ok(answered)
}

/// What is wrong with the answer, if anything. A prepared statement is one statement.
async fn judge(session: &Session, query: &str) -> Result<Result<(), String>, Failure> {
    let asked = async {
        let statement = session.prepare(query).await?;
        // No more than is needed: of a query without a condition there may be any number.
        let rows = session.query_raw(&statement, std::iter::empty::<i32>()).await?;
        let mut rows = std::pin::pin!(rows);
        let first = rows.try_next().await?;
        let second = if first.is_some() { rows.try_next().await? } else { None };
        Ok::<_, tokio_postgres::Error>((first, second))
    };
    let (row, more) = match asked.await {
        Ok(rows) => rows,
        Err(error) => {
            let failure = query_failure(&error, "asking");
            if is_server_lost(failure.reason) {
                return Err(failure);
            }
            // A status is read by more people than a table: what it quotes may be of a row.
            let said = error.as_db_error().map(failure_of_foreign_statement);
            return Ok(Err(said.unwrap_or(failure).message));
        }
    };
    let Some(row) = row.filter(|_| more.is_none()) else {
        let number = if more.is_some() { "several rows" } else { "no row" };
        return Ok(Err(format!("it gave {number}, where one is wanted")));
    };
    let Some(column) = row.columns().first() else {
        return Ok(Err("it gave no column".to_owned()));
    };
    if *column.type_() != Type::BOOL {
        let kind = column.type_().name();
        return Ok(Err(format!("its first column is of the type {kind}, and not boolean")));
    }
    Ok(match row.try_get::<_, Option<bool>>(0) {
        Ok(Some(true)) => Ok(()),
        Ok(Some(false)) => Err("it is false".to_owned()),
        _ => Err("it is null".to_owned()),
    })
}
