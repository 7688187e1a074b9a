//! Statements that are carried out together, or not at all.
//!
//! A setting that the target does not know, or whose value it does not take, is
//! left out and told: what it tuned on another major is no reason to go without
//! the data. The server itself says what it knows, so that no list of ours grows old.

use dbbackup_contract::Failure;

use crate::connection::Session;
use crate::errors::{query_failure, without_values};

/// What a server says of a setting that it does not know, of a value that it does
/// not take, and of a name within a library's prefix that the library does not have.
const NOT_TAKEN: [&str; 3] = ["42704", "22023", "42602"];

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) sql: String,
    /// What it sets, for the case that the target does not take it.
    pub(super) setting: Option<String>,
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Self { sql, setting: None }
    }
}

impl Statement {
    /// `clause` is `SET name TO …`; `what` names it for people.
    pub(super) fn setting(sql: String, what: String) -> Self {
        Self { sql, setting: Some(what) }
    }
}

/// How the transaction of [`run_all`] ends if every statement went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// They stand.
    Commit,
    /// It was only asked whether they would.
    Rollback,
}

/// Carries `statements` out in one transaction; tells which settings the target
/// does not take, in its own words.
pub(super) async fn run_all(
    session: &Session,
    statements: &[Statement],
    end: End,
    doing: &str,
) -> Result<Vec<String>, Failure> {
    session.run("BEGIN", doing).await?;
    let ran = run_each(session, statements, doing).await;
    let end = match (&ran, end) {
        (Ok(_), End::Commit) => "COMMIT",
        _ => "ROLLBACK",
    };
    let ended = session.run(end, doing).await;
    // The first failure is the one that counts.
    let left_out = ran?;
    ended?;
    Ok(left_out)
}

async fn run_each(
    session: &Session,
    statements: &[Statement],
    doing: &str,
) -> Result<Vec<String>, Failure> {
    let mut left_out = Vec::new();
    for Statement { sql, setting } in statements {
        let Some(setting) = setting else {
            session.run(sql, doing).await?;
            continue;
        };
        session.run("SAVEPOINT setting", doing).await?;
        let Err(error) = session.batch_execute(sql).await else { continue };
        match error.as_db_error().filter(|db| NOT_TAKEN.contains(&db.code().code())) {
            Some(db) => {
                left_out.push(format!("{setting} is left out: {}", without_values(db, setting)));
                session.run("ROLLBACK TO SAVEPOINT setting", doing).await?;
            }
            None => return Err(query_failure(&error, doing)),
        }
    }
    Ok(left_out)
}
