//! What went wrong, in the words of the table of reasons.
//!
//! An error number (SQLSTATE) decides before a pattern in the text does: a
//! server may speak another language. A server's DETAIL, CONTEXT and HINT never
//! get into a message: they may hold rows. Nor do values that its primary message
//! quotes, where statements with data are carried out ([`words`]); statements of
//! our own are about names and settings only.

mod client_output;
mod connect;
mod sqlstate;
mod words;

pub(crate) use client_output::{OlderTarget, failure_of_dump, failure_of_psql, failure_of_restore};
pub(crate) use connect::{
    Attempt, connect_failure, handshake_failure, no_password, no_tls, refused_by_server,
};
pub(crate) use sqlstate::{failure_of_code, is_server_lost, is_session_lost};

use dbbackup_contract::{Failure, Reason};
use tokio_postgres::error::{DbError, ErrorPosition};

/// What a server says of a value that it does not take, without the value; words of
/// `about` may stand in quotes.
pub(crate) fn without_values(error: &DbError, about: &str) -> String {
    let (code, names) = (error.code().code(), about.split(' ').collect());
    words::ServerWords { code, text: error.message(), names, ..Default::default() }.without_values()
}

/// A statement of somebody else that failed, in words that hold neither rows nor values of it.
pub(crate) fn failure_of_foreign_statement(error: &DbError) -> Failure {
    let code = error.code().code();
    // A syntax error quotes the statement, as a data exception quotes the data.
    let quoting = if code == "42601" { "22000" } else { code };
    // Only of broken constraints the server quotes names, and has them in fields.
    let fields =
        [error.schema(), error.table(), error.column(), error.datatype(), error.constraint()];
    let names = fields.into_iter().flatten().filter(|_| code.starts_with("23")).collect();
    let raised = error.routine().is_some_and(words::is_raised_by);
    let text = error.message();
    let said = words::ServerWords { code: quoting, text, names, raised, goes_on: false };
    let place = match error.position() {
        Some(ErrorPosition::Original(character)) => format!(", at character {character} of it"),
        _ => String::new(),
    };
    let message = format!("{}{place} (SQLSTATE {code})", said.without_values());
    failure_of_code(code, text, message)
}

/// A statement of ours that failed; `doing` says what for.
pub(crate) fn query_failure(error: &tokio_postgres::Error, doing: &str) -> Failure {
    match error.as_db_error() {
        Some(db) => {
            let message = format!("{doing}: {}", db.message());
            failure_of_code(db.code().code(), db.message(), message)
        }
        None if error.is_closed() || is_io(error) => Failure::new(
            Reason::ServerGoneAway,
            format!("{doing}: the connection to the server was lost"),
        ),
        None => Failure::new(Reason::StatementFailed, format!("{doing}: {error}")),
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}
