//! Whether a physical backup would work, before one is due.

use dbbackup_contract::{DatabaseOutcome, DatabaseReport, Failure, ServerReport};
use tokio_util::sync::CancellationToken;

use super::facts::{self, Uses};
use super::open_log_session;
use crate::connection::Session;
use crate::errors::query_failure;
use crate::server::Server;
use crate::watch::Guard;
use crate::{PreflightResult, ServerConnection};

/// Asks the server for all that a physical backup asks it for before it reads a file: rights, settings,
/// free places, and whether it lets a replication connection in. With `archives_log` also whether
/// an archiver would find its place; a slot and a connection that one of ours has are taken for its own.
/// Nothing is made on the server.
///
/// # Errors
/// Why no backup could be made, or the log not be archived; the server or the run itself is lost.
pub async fn preflight_files(
    server: &ServerConnection,
    archives_log: bool,
    cancel: &CancellationToken,
) -> Result<PreflightResult, Failure> {
    let guard = Guard::new(server, cancel);
    guard.waiting_for("the server to say who it is");
    let opened = guard.wait(Server::open(server)).await?;
    let uses = Uses { archives_log };
    let facts = guard.on(&opened.session, facts::look(&opened.session, uses)).await?;
    let (session, _) = open_log_session(&guard, server, &opened).await?;
    drop(session);
    guard.waiting_for("the server to say how large it is");
    let size_bytes = guard.on(&opened.session, size_of(&opened.session)).await?;
    let report = |name| DatabaseReport::new(name, DatabaseOutcome::Succeeded);
    let databases = facts.databases.values().map(report).collect();
    let Server { version, identity, .. } = opened;
    Ok(PreflightResult { server: ServerReport { version, identity, size_bytes }, databases })
}

/// Bytes of the databases of which we may know it.
async fn size_of(session: &Session) -> Result<u64, Failure> {
    let sql = "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database \
               WHERE has_database_privilege(oid, 'CONNECT') \
                   OR pg_has_role('pg_read_all_stats', 'USAGE')";
    let row = session.query_one(sql, &[]).await;
    let row = row.map_err(|error| query_failure(&error, "asking how large the server is"))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}
