//! A physical backup: the server's files by the replication protocol, with the log that makes
//! them consistent (ADR 60).
//!
//! gather (server, rights, settings) → files and log at the same time → judge the pages that
//! arrived torn → report. Nothing on the server is changed; a slot keeps the log for as long as
//! the connection lasts.

mod document;
mod facts;
mod files;
mod judge;
mod log;
mod preflight;
mod restore;

use dbbackup_contract::{Failure, LogPosition, Method, MethodChoice, Reason, ServerReport};
use dbbackup_engine::{BackupSink, ProgressSink};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::document::BaseDocument;
use self::document::{BASE_DOCUMENT_VERSION, BASE_STREAM, LOG, MANIFEST_STREAM};
pub(crate) use self::facts::may_replicate;
use self::facts::{ServerFacts, Uses};
use self::files::{BaseFiles, Receiver};
pub(crate) use self::log::segment_name;
use self::log::{BaseLog, LogRange};
pub(crate) use self::restore::{WantedBase, local, make_durable, read_base};
use crate::backup::{put_bytes, put_document};
use crate::progress::Meter;
use crate::replication::{BaseBackupOptions, ReplicationSession, SystemIdentity};
use crate::server::Server;
use crate::wal::Lineage;
use crate::watch::Guard;
use crate::{BackupResult, ServerConnection};

pub use self::preflight::preflight_files;
pub use self::restore::{RestoreFilesOptions, RestoredFiles, restore_files};

/// A physical backup to make.
#[derive(Clone, Debug)]
pub struct FilesOptions {
    /// The server: a primary or a standby.
    pub server: ServerConnection,
    /// What distinguishes this run from all others: lower case letters and digits, at most 40.
    pub run: String,
}

/// Backs up the files of a server into `sink`.
///
/// A page that is damaged on the server is named in the report of its database, and is in the backup
/// as it is.
///
/// # Errors
/// When the server cannot be backed up so, or it, the sink or the run itself is lost.
pub async fn backup_files(
    options: &FilesOptions,
    sink: &dyn BackupSink,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<BackupResult, Failure> {
    let guard = Guard::new(&options.server, cancel);
    guard.waiting_for("the server to say who it is");
    let server = guard.wait(Server::open(&options.server)).await?;
    let facts = facts::look(&server.session, Uses::default());
    let facts = guard.on(&server.session, facts).await?;
    let (mut log_session, identity) = open_log_session(&guard, &options.server, &server).await?;
    let mut session = guard.wait(ReplicationSession::open(&options.server)).await?;
    let slot = format!("dbbackup_{}", options.run);
    guard.wait(log_session.create_temporary_slot(&slot)).await?;

    guard.waiting_for("the server's checkpoint");
    let asked = BaseBackupOptions {
        label: format!("dbbackup {}", options.run),
        fast_checkpoint: true,
        max_rate: None,
    };
    let mut base = guard.wait(session.base_backup(&asked)).await?;
    let (start, timeline) = (base.start, base.timeline);
    let size_bytes = base.tablespaces.iter().map(|tablespace| tablespace.bytes).sum();
    let meter = Meter::new(progress, 0, size_bytes);
    guard.waiting_for("the server to send its files");
    let (told, end) = watch::channel(None);
    let lineage = Lineage {
        system_identifier: identity.system_identifier,
        segment_bytes: facts.segment_bytes,
    };
    let range = LogRange { slot: &slot, start, timeline, lineage, end };
    let receiver = Receiver {
        sink,
        meter: &meter,
        activity: guard.activity(),
        has_checksums: facts.has_checksums,
        end: told,
    };
    let both = async {
        tokio::try_join!(receiver.receive(&mut base), log::receive(log_session, range, sink))
    };
    let (mut files, log) = guard.wait(both).await?;
    guard.waiting_for("the repository to take the last documents");
    let stands = Stands { server: &server, facts: &facts, start: start.to_string(), timeline };
    guard.wait(put_rest(&mut session, &stands, &mut files, &log, sink)).await?;
    Ok(result(&stands, files, &log, size_bytes))
}

/// A replication connection to the server that is known already.
async fn open_log_session(
    guard: &Guard<'_>,
    connection: &ServerConnection,
    server: &Server,
) -> Result<(ReplicationSession, SystemIdentity), Failure> {
    guard.waiting_for("the server to let a replication connection in");
    let mut session = guard.wait(ReplicationSession::open(connection)).await?;
    let identity = guard.wait(session.identify()).await?;
    if identity.system_identifier.to_string() != server.identity {
        let message = "two connections have reached two different servers";
        return Err(Failure::new(Reason::PoolerRefused, message));
    }
    Ok((session, identity))
}

/// What a base is of.
struct Stands<'a> {
    server: &'a Server,
    facts: &'a ServerFacts,
    start: String,
    timeline: u32,
}

/// The history of the timeline, the manifest, and, last, the document.
async fn put_rest(
    session: &mut ReplicationSession,
    stands: &Stands<'_>,
    files: &mut BaseFiles,
    log: &BaseLog,
    sink: &dyn BackupSink,
) -> Result<(), Failure> {
    if stands.timeline > 1 {
        let history = session.history(stands.timeline).await?;
        let name = format!("{LOG}{:08X}.history", stands.timeline);
        put_bytes(sink, &name, history.text.into()).await?;
    }
    // It has been compared, and may be large.
    put_bytes(sink, MANIFEST_STREAM, std::mem::take(&mut files.manifest).into()).await?;
    let document = BaseDocument {
        version: BASE_DOCUMENT_VERSION,
        server_version: stands.server.version.clone(),
        system_identifier: stands.server.identity.clone(),
        timeline: stands.timeline,
        start: stands.start.clone(),
        last_record: log.last_record.to_string(),
        consistent_time: log.clock,
        end: files.end.to_string(),
        segment_bytes: stands.facts.segment_bytes,
        has_checksums: stands.facts.has_checksums,
        folders: files.folders.clone(),
        tablespaces: files.tablespaces.clone(),
        file_mode: files.file_mode,
        settings: stands.facts.settings.clone(),
        databases: stands.facts.databases.clone(),
        login_roles: stands.facts.login_roles.clone(),
    };
    put_document(sink, BASE_STREAM, &document).await.map(drop)
}

fn result(stands: &Stands<'_>, files: BaseFiles, log: &BaseLog, size_bytes: u64) -> BackupResult {
    let damaged = judge::damaged(files.suspects, &log.whole, files.end);
    let lengths = files.sums.iter().map(|(path, sum)| (path, sum.bytes));
    let databases = judge::reports(&stands.facts.databases, lengths, &damaged);
    BackupResult {
        server: ServerReport {
            version: stands.server.version.clone(),
            identity: stands.server.identity.clone(),
            size_bytes,
        },
        position: Some(LogPosition { lsn: files.end.to_string(), timeline: stands.timeline }),
        log_start: Some(LogPosition { lsn: stands.start.clone(), timeline: stands.timeline }),
        consistent_time: log.clock.or_else(|| Some(Timestamp::now())),
        method: MethodChoice {
            used: Method::Physical,
            reason: "asked for: --method physical".to_owned(),
        },
        bytes_read: files.bytes + log.bytes,
        databases,
    }
}
