//! Whether the target has the extensions of a database, and lets us create them.

use dbbackup_contract::{Failure, Reason, listed};
use tokio_postgres::error::SqlState;

use super::contents::Wanted;
use super::target::Target;
use super::validate::NAMED;
use crate::connection::Session;
use crate::errors::{is_server_lost, query_failure};
use crate::sql::ident;

/// The only extension of `template0`, and so of a new database: it is not created again.
const ALWAYS_THERE: &str = "plpgsql";
/// The function of the server that refuses an extension to who is no superuser
/// (`extension.c`): other rights that may lack here say nothing about the new database.
const REFUSES: &str = "execute_extension_script";

/// Refuses extensions that the target lacks, and those that we may not create.
pub(super) async fn check_extensions(
    session: &Session,
    target: &Target,
    wanted: &Wanted,
) -> Result<(), Failure> {
    let needed = || wanted.layout.needs.extensions.iter().map(String::as_str);
    let missing: Vec<_> = needed().filter(|name| !target.extensions.contains(*name)).collect();
    if !missing.is_empty() {
        let message =
            format!("the target's packages lack the extensions {}", listed(&missing, NAMED));
        return Err(Failure::new(Reason::ExtensionNotAvailable, message));
    }
    if target.superuser {
        return Ok(());
    }
    let mut denied = Vec::new();
    let doubtful = needed().filter(|name| target.superuser_extensions.contains(*name));
    for name in doubtful.filter(|name| *name != ALWAYS_THERE) {
        if is_denied(session, name).await? {
            denied.push(name);
        }
    }
    if denied.is_empty() {
        return Ok(());
    }
    let message = format!(
        "role {} may not create the extensions {}: the target wants a superuser for them",
        target.role,
        listed(&denied, NAMED)
    );
    Err(Failure::new(Reason::PermissionDenied, message).with_hint(
        "Restore by a superuser; or restore only schemas or tables that do without these \
         extensions (databases[].schemas and tables, --schema and --table).",
    ))
}

/// Whether the server refuses us the extension, by creating it in a transaction that is taken
/// back: managed servers let their administrators create some that only a superuser should.
///
/// Where this database has it already nothing is learned, and it is not refused.
async fn is_denied(session: &Session, name: &str) -> Result<bool, Failure> {
    let doing = "asking the target for the extension";
    session.run("BEGIN", doing).await?;
    let sql = format!("CREATE EXTENSION IF NOT EXISTS {}", ident(name));
    let created = session.batch_execute(&sql).await;
    session.run("ROLLBACK", doing).await?;
    let Err(error) = created else { return Ok(false) };
    let is_denied = error.as_db_error().is_some_and(|db| {
        *db.code() == SqlState::INSUFFICIENT_PRIVILEGE && db.routine() == Some(REFUSES)
    });
    match query_failure(&error, doing) {
        lost if is_server_lost(lost.reason) => Err(lost),
        _ => Ok(is_denied),
    }
}
