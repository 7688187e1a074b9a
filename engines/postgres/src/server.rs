//! Which server it is: version, identity, position; and whether a pooler stands before it.

use dbbackup_contract::{Failure, LogPosition, Reason};
use jiff::Timestamp;

use crate::ServerConnection;
use crate::connection::{Session, keep_alive_options};
use crate::errors::query_failure;

/// Databases to connect to for what concerns the whole server, in this order.
pub(crate) const MAINTENANCE_DATABASES: [&str; 2] = ["postgres", "template1"];

/// A server, seen through one connection that is kept for the whole run.
pub(crate) struct Server {
    pub(crate) session: Session,
    /// `17.11`.
    pub(crate) version: String,
    /// `17`.
    pub(crate) major: u32,
    /// The system identifier.
    pub(crate) identity: String,
    /// Settings may be asked for when a session begins. Poolers refuse that.
    pub(crate) takes_options: bool,
}

impl Server {
    /// Connects, and finds out who answers.
    pub(crate) async fn open(connection: &ServerConnection) -> Result<Self, Failure> {
        let session = open_session(connection).await?;
        let doing = "asking the server who it is";
        let row = session
            .query_one(
                "SELECT (SELECT system_identifier::text FROM pg_control_system()), \
                 pg_backend_pid()",
                &[],
            )
            .await
            .map_err(|error| query_failure(&error, doing))?;
        let takes_options = refuse_pooler(connection, &session, row.get(1)).await?;
        // What a packager adds stands after a space.
        let version = session.version.split(' ').next().unwrap_or_default().to_owned();
        Ok(Self { takes_options, version, major: session.major, identity: row.get(0), session })
    }
}

/// Who a server is: its system identifier.
///
/// # Errors
/// Why it cannot be asked.
pub async fn identify(connection: &ServerConnection) -> Result<String, Failure> {
    Ok(Server::open(connection).await?.identity)
}

/// A session for what concerns the whole server.
pub(crate) async fn open_session(connection: &ServerConnection) -> Result<Session, Failure> {
    open_session_with(connection, "").await
}

async fn open_session_with(
    connection: &ServerConnection,
    options: &str,
) -> Result<Session, Failure> {
    let mut last = None;
    for database in MAINTENANCE_DATABASES {
        match Session::open_with(connection, database, options).await {
            Err(failure) if failure.reason == Reason::DatabaseNotFound => last = Some(failure),
            opened => return opened,
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Reason::DatabaseNotFound, "no database answers")))
}

/// Notices a pooler that lends one server session to several clients: snapshots,
/// locks and settings of ours would then belong to somebody else.
///
/// Two connections that are open at the same time have different sessions,
/// unless a pooler gave the second one what the first only seemed to hold.
///
/// A pooler that gives each client a session of its own is taken. Returns whether
/// settings may be asked for when a session begins, which PgBouncer refuses.
async fn refuse_pooler(
    connection: &ServerConnection,
    first: &Session,
    pid: i32,
) -> Result<bool, Failure> {
    let doing = "looking for a connection pooler";
    let (second, takes_options) = match open_session_with(connection, &keep_alive_options()).await {
        Ok(session) => (session, true),
        Err(_) => (open_session(connection).await?, false),
    };
    second.run("BEGIN", doing).await?;
    let ask = "SELECT pg_backend_pid()";
    let ask_one = async |session: &Session| {
        let row =
            session.query_one(ask, &[]).await.map_err(|error| query_failure(&error, doing))?;
        Ok::<i32, Failure>(row.get(0))
    };
    let (other, again) = (ask_one(&second).await?, ask_one(first).await?);
    if other != pid && again == pid {
        return Ok(takes_options);
    }
    let access = &connection.access;
    Err(Failure::new(
        Reason::PoolerRefused,
        format!(
            "{}:{} is a connection pooler: it gives one session of the server to several clients",
            access.host, access.port
        ),
    ))
}

/// The state that a snapshot of the data stands for.
pub(crate) struct ConsistencyPoint {
    /// Name of the exported snapshot.
    pub(crate) snapshot: String,
    pub(crate) position: LogPosition,
    pub(crate) time: Timestamp,
}

/// Begins a transaction on `session`, exports its snapshot and says where that stands.
///
/// The snapshot lives as long as the transaction.
pub(crate) async fn export_snapshot(session: &Session) -> Result<ConsistencyPoint, Failure> {
    let doing = "exporting a snapshot";
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", doing).await?;
    let failed = |error: tokio_postgres::Error| query_failure(&error, doing);
    let row = session
        .query_one("SELECT pg_export_snapshot(), pg_is_in_recovery()", &[])
        .await
        .map_err(failed)?;
    let snapshot = row.get(0);
    // On a primary the name of the current WAL file has the timeline; a standby
    // has no current file, and knows what it receives.
    let position = if row.get(1) {
        "SELECT pg_last_wal_replay_lsn()::text, coalesce( \
            (SELECT received_tli FROM pg_stat_wal_receiver), \
            (SELECT timeline_id FROM pg_control_checkpoint()))"
    } else {
        "SELECT lsn::text, ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::int \
            FROM pg_current_wal_insert_lsn() AS lsn"
    };
    let row = session.query_one(position, &[]).await.map_err(failed)?;
    let (lsn, timeline): (String, i32) = (row.get(0), row.get(1));
    let row = session
        .query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[])
        .await
        .map_err(failed)?;
    let time = Timestamp::from_millisecond(row.get(0)).unwrap_or(Timestamp::UNIX_EPOCH);
    let timeline = u32::try_from(timeline).unwrap_or(0);
    Ok(ConsistencyPoint { snapshot, position: LogPosition { lsn, timeline }, time })
}
