//! A backup: globals, then each database, the largest first.
//!
//! gather (server, databases) → plan (which, in which order) → dump each →
//! report. One database's failure takes its streams back and leaves the others;
//! a server, sink or run that is lost ends all.

mod dump;
mod preflight;
mod readable;
mod unwritten;

pub(crate) use self::dump::{DATABASE_DOCUMENT_VERSION, DatabaseDocument};
pub use self::preflight::preflight;
pub(crate) use self::unwritten::Initial;

use std::time::Instant;

use bytes::Bytes;
use dbbackup_contract::{
    DatabaseOutcome, DatabaseReport, Failure, LogPosition, Method, MethodChoice, Reason,
    ServerReport,
};
use dbbackup_engine::{BackupSink, ProgressSink, Shape};
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::archive::database_prefix;
use crate::clients::Clients;
use crate::connection::Session;
use crate::database::{DatabaseProperties, list_databases};
use crate::errors::is_session_lost;
use crate::globals::read_globals;
use crate::progress::Meter;
use crate::restore::is_scratch;
use crate::selection::{Candidate, Choice, choose};
use crate::server::Server;
use crate::watch::Guard;
use crate::{BackupOptions, BackupResult};

/// Longest document: a restore reads one into memory, so a backup writes none
/// that is longer.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 256 * 1024 * 1024;
/// The stream of roles and tablespaces.
pub(crate) const GLOBALS_STREAM: &str = "globals.json";

/// What a database's failure means for the others.
enum Stop {
    /// They go on.
    Database(Failure),
    /// Nothing more can be done.
    All(Failure),
}

/// Backs up databases of a server into `sink`.
///
/// One database's failure is in its report; the others go on, and the failed
/// one leaves no stream behind.
///
/// # Errors
/// When nothing can be done at all, or the server, the sink or the run itself is lost.
pub async fn backup(
    options: &BackupOptions,
    sink: &dyn BackupSink,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<BackupResult, Failure> {
    let guard = Guard::new(&options.server, cancel);
    let gathered = gather(options, &guard).await?;
    run(options, gathered, sink, progress, &guard).await
}

/// What is known before the first byte.
struct Gathered {
    server: Server,
    clients: Clients,
    chosen: Vec<(DatabaseProperties, Choice)>,
}

async fn gather(options: &BackupOptions, guard: &Guard<'_>) -> Result<Gathered, Failure> {
    guard.waiting_for("the server to say who it is");
    let server = guard.wait(Server::open(&options.server)).await?;
    let clients = options.server.clients.for_server(server.major)?;
    guard.waiting_for("the server to list its databases");
    let databases = guard.on(&server.session, list_databases(&server.session)).await?;
    let candidates: Vec<_> = databases.iter().map(candidate).collect();
    let choices = choose(&options.databases, &candidates)?;
    let mut databases: Vec<_> = databases.into_iter().map(Some).collect();
    let chosen = choices
        .into_iter()
        .filter_map(|(index, choice)| Some((databases[index].take()?, choice)))
        .collect();
    Ok(Gathered { server, clients, chosen })
}

/// What the server says that it takes, in bytes.
fn size_of(database: &DatabaseProperties) -> u64 {
    database.size_bytes.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

fn candidate(database: &DatabaseProperties) -> Candidate {
    Candidate {
        name: database.name.clone(),
        allows_connections: database.allows_connections,
        is_template: database.is_template,
        is_scratch: is_scratch(
            &database.name,
            database.comment.as_deref(),
            database.connection_limit,
        ),
    }
}

async fn run(
    options: &BackupOptions,
    gathered: Gathered,
    sink: &dyn BackupSink,
    progress: &dyn ProgressSink,
    guard: &Guard<'_>,
) -> Result<BackupResult, Failure> {
    let Gathered { server, clients, chosen } = gathered;
    let taken: Vec<_> = chosen.iter().filter(|(_, choice)| *choice == Choice::Take).collect();
    let size_bytes = taken.iter().map(|(database, _)| size_of(database)).sum();
    let meter = Meter::new(progress, taken.len(), size_bytes);

    guard.waiting_for("the server to list its roles");
    let globals = guard.on(&server.session, read_globals(&server.session)).await?;
    guard.waiting_for("the repository to take the roles");
    let mut bytes_read = guard.wait(put_document(sink, GLOBALS_STREAM, &globals)).await?;

    let mut consistent: Option<(LogPosition, Timestamp)> = None;
    let mut reports = Vec::new();
    for (database, choice) in &chosen {
        if *choice == Choice::Skip {
            reports.push(DatabaseReport::new(&database.name, DatabaseOutcome::Skipped));
            continue;
        }
        meter.begin(&database.name);
        let started = Instant::now();
        let context = dump::Context {
            options,
            server: &server,
            clients: &clients,
            sink,
            meter: &meter,
            guard,
        };
        let dumped = dump::dump_database(&context, &database.name).await;
        let mut report = DatabaseReport::new(&database.name, DatabaseOutcome::Failed);
        report.duration_milliseconds =
            u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match dumped {
            Ok(dumped) => {
                report.outcome = DatabaseOutcome::Succeeded;
                report.bytes = dumped.bytes;
                report.tables = dumped.tables;
                report.rows = dumped.rows;
                for warning in dumped.warnings {
                    tracing::warn!(database = database.name, "{warning}");
                    report.warn(warning);
                }
                bytes_read += dumped.bytes;
                consistent.get_or_insert((dumped.position, dumped.time));
            }
            Err(Stop::All(failure)) => return Err(failure),
            Err(Stop::Database(failure)) => {
                sink.discard(&database_prefix(&database.name)).await?;
                // Is it this database, or has the server gone?
                if let Err(lost) = answers(guard, &server.session).await {
                    // A stall says where; that the server is silent now follows from it.
                    return Err(if is_session_lost(&failure) { failure } else { lost });
                }
                tracing::info!(database = database.name, %failure, "database failed");
                report.error = Some(failure);
            }
        }
        reports.push(report);
        meter.end(size_of(database));
    }
    let (position, consistent_time) = consistent.unzip();
    Ok(BackupResult {
        server: ServerReport { version: server.version, identity: server.identity, size_bytes },
        position,
        log_start: None,
        consistent_time,
        method: MethodChoice {
            used: Method::Logical,
            reason: "the only method of this release".to_owned(),
        },
        bytes_read,
        databases: reports,
    })
}

/// Whether the server still answers on `session`.
pub(crate) async fn answers(guard: &Guard<'_>, session: &Session) -> Result<(), Failure> {
    let asked = guard.wait(session.run("SELECT 1", "asking the server"));
    match tokio::time::timeout(guard.ask_timeout(), asked).await {
        Ok(answered) => answered,
        Err(_) => Err(Failure::new(Reason::ServerGoneAway, "the server does not answer any more")),
    }
}

/// Writes a document as a stream of its own; returns its length.
pub(crate) async fn put_document(
    sink: &dyn BackupSink,
    stream: &str,
    document: &(impl Serialize + Sync),
) -> Result<u64, Failure> {
    let json = serde_json::to_vec(document).map_err(|error| {
        Failure::new(Reason::Internal, format!("{stream} cannot be written: {error}"))
    })?;
    if json.len() > MAX_DOCUMENT_BYTES {
        let message = format!("{stream} would have {} bytes, more than can be read", json.len());
        return Err(Failure::new(Reason::ArchiveUnsupported, message));
    }
    put_bytes(sink, stream, json.into()).await
}

/// Writes bytes as a stream of its own; returns their length.
pub(crate) async fn put_bytes(
    sink: &dyn BackupSink,
    stream: &str,
    bytes: Bytes,
) -> Result<u64, Failure> {
    let length = bytes.len() as u64;
    let mut writer = sink.open(stream, Shape::Bytes).await?;
    writer.write(bytes).await?;
    writer.finish().await?;
    Ok(length)
}
