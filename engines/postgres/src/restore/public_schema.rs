//! The schema `public` of a new database, as the archive takes it for granted.
//!
//! From 15 on `public` belongs to the database's owner and only that one may
//! create in it; `pg_dump` writes down what differs from that. A database of an
//! older target begins with a `public` in which everybody may create.

use dbbackup_contract::Failure;

use super::contents::Wanted;
use super::load::Loader;
use super::scratch::Scratch;
use crate::connection::Session;
use crate::sql::ident;

/// The first major that makes databases as the archive expects them.
const SINCE: u32 = 15;

/// Makes the scratch database's `public` what one of 15 would have; gives what
/// could not be done.
pub(super) async fn prepare_public_schema(
    loader: &Loader<'_>,
    wanted: &Wanted,
    scratch: &Scratch,
) -> Result<Vec<String>, Failure> {
    let target = loader.target;
    if target.major >= SINCE {
        return Ok(Vec::new());
    }
    if !target.superuser {
        // It belongs to the superuser who made the server.
        return Ok(vec![format!(
            "in database {} everybody may create in schema public, as in every new one of \
             PostgreSQL {}; a superuser can end that: REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            scratch.target, target.major
        )]);
    }
    let owner = if target.roles.contains("pg_database_owner") {
        "pg_database_owner"
    } else {
        &wanted.properties.owner
    };
    let sql = format!(
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC; ALTER SCHEMA public OWNER TO {}",
        ident(owner)
    );
    let session = Session::open(loader.connection, &scratch.name).await?;
    session.run(&sql, "closing the schema public").await?;
    Ok(Vec::new())
}
