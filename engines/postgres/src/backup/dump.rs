//! One database: `pg_dump` under our own snapshot, taken apart as it streams.

use std::ffi::OsString;

use bytes::BytesMut;
use dbbackup_contract::{Failure, LogPosition, Reason};
use dbbackup_engine::{BackupSink, ChildProcess, ChildSpec, Shape, StdinUse, StreamWriter};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::readable::check_readable;
use super::unwritten::{Unwritten, read_unwritten, warnings_of};
use super::{Stop, put_document};
use crate::BackupOptions;
use crate::archive::{Layout, Piece, Splitter, Target, database_prefix};
use crate::client_files::ClientFiles;
use crate::clients::Clients;
use crate::connection::{Session, keep_alive_options};
use crate::database::{DatabaseProperties, read_predefined_roles, read_properties};
use crate::errors::failure_of_dump;
use crate::progress::Meter;
use crate::server::{ConsistencyPoint, Server, export_snapshot};
use crate::watch::{ClientWatcher, Guard};

/// How much is read from `pg_dump` at a time; the memory of a dump is a few of these.
const READ_BYTES: usize = 256 * 1024;
/// Version of [`DatabaseDocument`].
pub(crate) const DATABASE_DOCUMENT_VERSION: u32 = 1;

/// `database.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DatabaseDocument {
    pub(crate) version: u32,
    /// Position in the server's log when this database was consistent.
    pub(crate) position: LogPosition,
    /// When that was.
    pub(crate) consistent_time: Timestamp,
    pub(crate) properties: DatabaseProperties,
    /// What `pg_dump` does not write down.
    #[serde(default)]
    pub(crate) unwritten: Unwritten,
}

/// What all dumps of a run share.
pub(super) struct Context<'a> {
    pub(super) options: &'a BackupOptions,
    pub(super) server: &'a Server,
    pub(super) clients: &'a Clients,
    pub(super) sink: &'a dyn BackupSink,
    pub(super) meter: &'a Meter<'a>,
    pub(super) guard: &'a Guard<'a>,
}

/// A database that was dumped.
pub(super) struct Dumped {
    pub(super) bytes: u64,
    pub(super) tables: u64,
    pub(super) rows: u64,
    pub(super) position: LogPosition,
    pub(super) time: Timestamp,
    /// What of it is not in the backup as it is on the server.
    pub(super) warnings: Vec<String>,
}

/// Dumps `database` into its streams.
pub(super) async fn dump_database(context: &Context<'_>, database: &str) -> Result<Dumped, Stop> {
    let guard = context.guard;
    let mut prepared = prepare(context.options, context.server, context.guard, database)
        .await
        .map_err(|failure| stop_for(context, failure))?;

    let application_name = format!("dbbackup dump {}", prepared.point.snapshot);
    let files = ClientFiles::write(&context.options.server, database, &application_name)
        .map_err(Stop::All)?;
    let spec = pg_dump(context, &files, &prepared);
    let mut child = ChildProcess::start(&spec).map_err(Stop::All)?;
    let watcher = ClientWatcher::new(&context.server.session, application_name);
    guard.waiting_for(format!("pg_dump of database {database}"));

    let splitter = Splitter::new(&database_prefix(database));
    let mut pump = Pump { context, splitter, writer: None, giving: false };
    let pumped = match child.take_stdout() {
        Some(stdout) => {
            let work = async {
                let ended = pump.run(stdout, database).await;
                if ended.is_ok() {
                    Ok((ended, Some(child.wait().await?)))
                } else {
                    Ok((ended, None))
                }
            };
            guard.client(&watcher, work).await
        }
        None => Err(Failure::new(Reason::Internal, "pg_dump has no output")),
    };
    let exit = match pumped {
        Ok((Ok(()), Some(exit))) => exit,
        Ok((Err(failure), _)) | Err(failure) => {
            // Ended before anybody is told: it holds locks on the server.
            let exit = child.end().await;
            let failure = match (failure.reason, exit) {
                // Damage is what a dump that was cut by its own death looks like.
                (Reason::ArchiveDamaged, Ok(exit)) if !exit.stderr.is_empty() => {
                    failure_of_dump(&exit)
                }
                _ => failure,
            };
            return Err(if pump.giving { Stop::All(failure) } else { stop_for(context, failure) });
        }
        Ok((Ok(()), None)) => {
            return Err(Stop::All(Failure::new(Reason::Internal, "pg_dump ended unseen")));
        }
    };
    if !exit.is_success() {
        let failure = with_blocker(failure_of_dump(&exit), &watcher);
        return Err(stop_for(context, failure));
    }
    prepared.warnings.extend(warnings_of(&exit));
    let layout = pump.splitter.finish().map_err(|error| Stop::Database(error.into()))?;
    commit(context, database, &layout, prepared).await.map_err(|failure| {
        match failure.reason {
            // Its own documents are too large: nobody else's fault, and no end of all.
            Reason::ArchiveUnsupported => Stop::Database(failure),
            _ => Stop::All(failure),
        }
    })
}

/// What is known of a database before it is dumped.
pub(super) struct Prepared {
    /// Its transaction holds the snapshot.
    session: Session,
    point: ConsistencyPoint,
    properties: DatabaseProperties,
    unwritten: Unwritten,
    warnings: Vec<String>,
}

/// A run that was told to stop ends all; what else befalls a database is its own.
fn stop_for(context: &Context<'_>, failure: Failure) -> Stop {
    if context.guard.is_stopped() { Stop::All(failure) } else { Stop::Database(failure) }
}

/// Asks the server for all that a dump of the database needs.
pub(super) async fn prepare(
    options: &BackupOptions,
    server: &Server,
    guard: &Guard<'_>,
    database: &str,
) -> Result<Prepared, Failure> {
    guard.waiting_for(format!("the server to open a session in database {database}"));
    let session = guard.wait(Session::open(&options.server, database)).await?;
    let asking = async {
        guard.waiting_for(format!("the server to export a snapshot of database {database}"));
        let point = export_snapshot(&session).await?;
        guard.waiting_for(format!("the server to describe database {database}"));
        let mut properties = read_properties(&server.session, database).await?;
        properties.roles.extend(read_predefined_roles(&session).await?);
        check_readable(&session).await?;
        let (unwritten, warnings) = read_unwritten(&session).await?;
        Ok((point, properties, unwritten, warnings))
    };
    let (point, properties, unwritten, warnings) = guard.on(&session, asking).await?;
    Ok(Prepared { session, point, properties, unwritten, warnings })
}

fn pg_dump(context: &Context<'_>, files: &ClientFiles, prepared: &Prepared) -> ChildSpec {
    let lock_timeout = context.options.lock_timeout.as_millis();
    let args: Vec<OsString> = vec![
        "--format=custom".into(),
        "--compress=0".into(),
        "--no-password".into(),
        // The role may have another one set as its own.
        format!("--encoding={}", prepared.properties.encoding).into(),
        format!("--lock-wait-timeout={lock_timeout}").into(),
        format!("--snapshot={}", prepared.point.snapshot).into(),
    ];
    let mut env = files.env();
    // Only so can its session be told: it runs no statement of ours.
    if context.server.takes_options {
        env.push(("PGOPTIONS".into(), keep_alive_options().into()));
    }
    ChildSpec {
        program: context.clients.program("pg_dump"),
        args,
        env,
        stdin: StdinUse::Null,
        name: "pg_dump",
    }
}

fn with_blocker(mut failure: Failure, watcher: &ClientWatcher<'_>) -> Failure {
    if failure.reason == Reason::LockTimeout
        && let Some(blocker) = watcher.blocker()
    {
        failure.message = format!("{}; {blocker}", failure.message);
    }
    failure
}

/// From `pg_dump`'s output to the sink.
struct Pump<'a> {
    context: &'a Context<'a>,
    splitter: Splitter,
    writer: Option<Box<dyn StreamWriter>>,
    /// The sink has the word: a failure or a stall now is its own.
    giving: bool,
}

impl Pump<'_> {
    async fn run(
        &mut self,
        mut stdout: impl AsyncRead + Unpin,
        database: &str,
    ) -> Result<(), Failure> {
        let guard = self.context.guard;
        let mut buffer = BytesMut::new();
        let mut pieces = Vec::new();
        loop {
            buffer.reserve(READ_BYTES);
            let read = stdout.read_buf(&mut buffer).await.map_err(|error| {
                Failure::new(Reason::ClientFailed, format!("cannot read from pg_dump: {error}"))
            })?;
            if read == 0 {
                return Ok(());
            }
            guard.activity().moved(read);
            self.context.meter.moved(read as u64);
            self.splitter.push(buffer.split().freeze(), &mut pieces)?;
            guard.waiting_for(format!("the repository to take database {database}"));
            self.giving = true;
            for piece in pieces.drain(..) {
                self.give(piece).await?;
            }
            self.giving = false;
            guard.waiting_for(format!("pg_dump of database {database}"));
        }
    }

    async fn give(&mut self, piece: Piece) -> Result<(), Failure> {
        match piece {
            Piece::Begin(Target::Prelude { stream } | Target::Block { stream, .. }) => {
                self.writer = Some(self.context.sink.open(&stream, Shape::Bytes).await?);
            }
            Piece::Bytes(bytes) => {
                if let Some(writer) = &mut self.writer {
                    writer.write(bytes).await?;
                }
            }
            Piece::End => {
                if let Some(writer) = self.writer.take() {
                    writer.finish().await?;
                }
            }
        }
        Ok(())
    }
}

/// Writes what describes the streams; the layout last: a database without one
/// is not in the backup.
async fn commit(
    context: &Context<'_>,
    database: &str,
    layout: &Layout,
    prepared: Prepared,
) -> Result<Dumped, Failure> {
    let Prepared { session, point, properties, unwritten, warnings } = prepared;
    // Held until here: the snapshot lived in its transaction.
    drop(session);
    let prefix = database_prefix(database);
    let document = DatabaseDocument {
        version: DATABASE_DOCUMENT_VERSION,
        position: point.position.clone(),
        consistent_time: point.time,
        properties,
        unwritten,
    };
    let guard = context.guard;
    guard.waiting_for(format!("the repository to take the description of database {database}"));
    let (described, laid_out) = (format!("{prefix}database.json"), format!("{prefix}layout.json"));
    guard.wait(put_document(context.sink, &described, &document)).await?;
    guard.wait(put_document(context.sink, &laid_out, layout)).await?;
    Ok(Dumped {
        bytes: layout.bytes(),
        tables: layout.tables().count() as u64,
        rows: layout.rows(),
        position: point.position,
        time: point.time,
        warnings,
    })
}
