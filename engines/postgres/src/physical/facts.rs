//! What is known of a server before its files are read, and what it must be like.

use std::collections::BTreeMap;

use dbbackup_contract::{Failure, Reason};

use crate::base::relation_file::{PAGE_BYTES, SEGMENT_PAGES};
use crate::connection::Session;
use crate::errors::query_failure;

/// Settings that a restored server needs as they were: without the first five as large as they
/// were a standby or a recovery stops, the rest decide what can be loaded and read.
const SETTINGS: [&str; 8] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "shared_preload_libraries",
    "track_commit_timestamp",
    "wal_level",
];

/// A server of which files are to be read.
pub(super) struct ServerFacts {
    pub(super) settings: BTreeMap<String, String>,
    pub(super) has_checksums: bool,
    pub(super) segment_bytes: u64,
    /// By their OIDs.
    pub(super) databases: BTreeMap<u32, String>,
    /// Roles that may log in: our own, then superusers.
    pub(super) login_roles: Vec<String>,
}

/// What is wanted of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uses {
    /// Besides a backup: that its log is archived.
    pub(super) archives_log: bool,
}

/// Looks, and refuses what cannot be backed up so.
///
/// # Errors
/// `WalLevelTooLow`, `LayoutUnsupported`, `PermissionDenied` where the role may not replicate,
/// `TooManyConnections` where it finds no place.
pub(super) async fn look(session: &Session, uses: Uses) -> Result<ServerFacts, Failure> {
    let doing = "asking for the server's settings";
    let failed = |error: tokio_postgres::Error| query_failure(&error, doing);
    let rows = session.query("SELECT name, setting FROM pg_settings", &[]).await.map_err(failed)?;
    let all: BTreeMap<String, String> = rows
        .iter()
        .map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default()))
        .collect();
    let value = |name: &str| all.get(name).map_or("", String::as_str);
    if value("wal_level") == "minimal" {
        return Err(Failure::new(
            Reason::WalLevelTooLow,
            "the server writes too little into its log (wal_level is minimal): files that are read \
             while it runs cannot be made consistent",
        ));
    }
    has_usual_sizes(&value)?;
    may_replicate(session).await?;
    has_room(session, &value, uses).await?;
    let doing = "listing the databases";
    let sql = "SELECT oid::bigint, datname::text FROM pg_database";
    let rows = session.query(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
    // An OID has 32 bits.
    let database = |row: &tokio_postgres::Row| {
        Some((u32::try_from(row.get::<_, i64>(0)).ok()?, row.get::<_, String>(1)))
    };
    Ok(ServerFacts {
        login_roles: login_roles(session).await?,
        has_checksums: value("data_checksums") == "on",
        segment_bytes: value("wal_segment_size").parse().unwrap_or(0),
        databases: rows.iter().filter_map(database).collect(),
        settings: SETTINGS
            .iter()
            .filter_map(|name| all.get(*name).map(|value| ((*name).to_owned(), value.clone())))
            .collect(),
    })
}

/// Roles by which somebody who has the files, and no password, can ask the server that is recovered
/// from them. Ours is the one that is most surely still there.
async fn login_roles(session: &Session) -> Result<Vec<String>, Failure> {
    let doing = "asking who may log in";
    let sql = "SELECT rolname::text FROM pg_roles \
               WHERE rolcanlogin AND (rolsuper OR rolname = current_user) \
               ORDER BY rolname <> current_user, oid LIMIT 4";
    let rows = session.query(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Other sizes need a server that somebody has built for them.
fn has_usual_sizes<'a>(value: &impl Fn(&str) -> &'a str) -> Result<(), Failure> {
    let (page, segment) = (PAGE_BYTES.to_string(), SEGMENT_PAGES.to_string());
    for (name, usual) in
        [("block_size", &page), ("wal_block_size", &page), ("segment_size", &segment)]
    {
        if value(name) != usual {
            let message = format!("the server was built with {name} {}, not {usual}", value(name));
            return Err(Failure::new(Reason::LayoutUnsupported, message));
        }
    }
    let segment: u64 = value("wal_segment_size").parse().unwrap_or(0);
    if !segment.is_power_of_two() || !(1 << 20..=1 << 30).contains(&segment) {
        let message = format!("the server says that a file of its log has {segment} bytes");
        return Err(Failure::new(Reason::LayoutUnsupported, message));
    }
    Ok(())
}

/// Connections of a backup: one for the files, one for the log.
const SENDERS: i64 = 2;
/// Its slots, for as long as it takes.
const SLOTS: i64 = 1;

/// Looks for free places, since the server says of a full house only that it is full.
async fn has_room<'a>(
    session: &Session,
    value: &impl Fn(&str) -> &'a str,
    uses: Uses,
) -> Result<(), Failure> {
    let doing = "counting the connections that replicate";
    // The slot of an archive, by the pattern of its name: it stays when its archiver ends.
    let sql = "SELECT (SELECT count(*) FROM pg_stat_replication), count(*), \
               count(*) FILTER (WHERE is_archive), count(*) FILTER (WHERE is_archive AND active) \
               FROM (SELECT active, slot_type = 'physical' AND NOT temporary \
                   AND slot_name ~ '^dbbackup_[0-9a-f]{16}$' AS is_archive \
                   FROM pg_replication_slots) AS slots";
    let row = session.query_one(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
    let [senders, slots, archives, at_work] = [0, 1, 2, 3].map(|index| row.get::<_, i64>(index));
    let (mut wants_senders, mut wants_slots, mut who) = (SENDERS, SLOTS, "a physical backup takes");
    if uses.archives_log {
        wants_senders += i64::from(at_work == 0);
        wants_slots += i64::from(archives == 0);
        who = "a physical backup and the archiver of the log take";
    }
    for (used, name, what, needed) in [
        (senders, "max_wal_senders", "connections", wants_senders),
        (slots, "max_replication_slots", "slots", wants_slots),
    ] {
        let most: i64 = value(name).parse().unwrap_or(0);
        if used + needed > most {
            let message = format!(
                "the server allows {most} {what} of replication ({name}), and {used} are in use; {who} {needed}"
            );
            let enough = used + needed;
            return Err(Failure::new(Reason::TooManyConnections, message).with_hint(format!(
                "Raise {name} to {enough} or more and restart the server, or end what needs them no more."
            )));
        }
    }
    Ok(())
}

/// Refuses a role that may not open connections of replication.
///
/// # Errors
/// `PermissionDenied`, with the statement that gives it the right.
pub(crate) async fn may_replicate(session: &Session) -> Result<(), Failure> {
    let doing = "asking for the rights of the backup role";
    let sql = "SELECT rolname::text, rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user";
    let row = session.query_one(sql, &[]).await.map_err(|error| query_failure(&error, doing))?;
    if row.get::<_, bool>(1) {
        return Ok(());
    }
    let role: String = row.get(0);
    let message =
        format!("the role {role} may not replicate, and only who may gets the server's files");
    let statement = format!("ALTER ROLE {} REPLICATION", crate::sql::ident(&role));
    Err(Failure::new(Reason::PermissionDenied, message)
        .with_hint(format!("Have a superuser run: {statement}; or take the method Logical.")))
}
