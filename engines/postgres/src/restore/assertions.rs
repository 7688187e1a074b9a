//! What a restored database must answer with true before it is put in place.

use dbbackup_contract::{Assertion, Failure, Reason};
use tokio_postgres::types::Type;

use super::Planned;
use super::load::Loader;
use crate::connection::Session;
use crate::errors::{is_server_lost, query_failure};

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
    let doing = "beginning an assertion";
    // Ours is empty; people write for the one that a server comes with.
    let begin = "BEGIN TRANSACTION READ ONLY; SET LOCAL search_path = \"$user\", public";
    session.run(begin, doing).await?;
    let told = answer(session, &assertion.query).await?;
    session.run("ROLLBACK", "ending an assertion").await?;
    let Err(why) = told else { return Ok(()) };
    let message = format!("assertion {} does not hold: {why}", assertion.name);
    Err(Failure::new(Reason::AssertionFailed, message))
}

/// What is wrong with the answer, if anything. A prepared statement is one statement.
async fn answer(session: &Session, query: &str) -> Result<Result<(), String>, Failure> {
    let asked = async {
        let statement = session.prepare(query).await?;
        session.query(&statement, &[]).await
    };
    let rows = match asked.await {
        Ok(rows) => rows,
        Err(error) => {
            let failure = query_failure(&error, "asking");
            if is_server_lost(failure.reason) {
                return Err(failure);
            }
            let said = error.as_db_error().map(|error| error.message().to_owned());
            return Ok(Err(said.unwrap_or(failure.message)));
        }
    };
    let [row] = &rows[..] else {
        return Ok(Err(format!("it gave {} rows, where one is wanted", rows.len())));
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
