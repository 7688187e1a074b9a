//! One backup: resolve earlier attempts, read the server, commit, look at it again.

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    BackupAction, BackupReport, ByteCounts, DatabaseCount, DatabaseSelection, Failure, Method,
    Outcome, Reason, Source, VerificationLevel, VerificationReport,
};
use dbbackup_postgres::{self as postgres, BackupOptions, BackupResult, FilesOptions};
use dbbackup_repository::{
    Begun, CommitFacts, CommitInfo, Error, Repository, SessionOptions, Snapshot, SnapshotId,
    SnapshotWriter,
};
use dbbackup_storage::ErrorKind;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::hooks::HookRun;
use super::inspect::committed_report;
use super::open::named;
use super::{Order, server_connection, why_incomplete};
use crate::patience::with_grace;
use crate::streams::SnapshotSink;

/// Kind of a snapshot that holds databases.
pub(super) const SNAPSHOT_KIND: &str = "postgresql";
/// Kind of a snapshot that holds the files of a server.
pub(crate) const BASE_KIND: &str = "postgresql-base";

/// How long the server may keep a lock from the dump.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes the backup; a failure is in the report.
pub(crate) async fn back_up(order: &Order<'_>, action: &BackupAction) -> BackupReport {
    let start_time = Timestamp::now();
    let mut hooks = HookRun::new(order, &action.source, &action.hooks);
    let mut report = match try_back_up(order, action, &mut hooks, start_time).await {
        Ok(report) => report,
        Err(error) => {
            let error = Some(named(error, &order.repository.name));
            BackupReport { error, hooks: hooks.told(), ..empty_report(start_time) }
        }
    };
    report.hooks.extend(hooks.after(report.outcome).await);
    report
}

async fn try_back_up(
    order: &Order<'_>,
    action: &BackupAction,
    hooks: &mut HookRun<'_>,
    start_time: Timestamp,
) -> Result<BackupReport, Failure> {
    let repository = order.open().await?;
    let session = SessionOptions {
        workers: order.workers,
        cancel: order.cancel.clone(),
        ..SessionOptions::new(&action.series, &action.run_id, action.slot_time)
    };
    let writer = match order.step(repository.begin(session)).await? {
        Begun::Committed(snapshot) => {
            tracing::info!(id = %snapshot.id(), "an earlier attempt has committed");
            hooks.begun_earlier();
            return committed_report(order, &snapshot).await;
        }
        Begun::Started(writer) => Arc::new(writer),
    };
    hooks.before().await?;
    let result = read_server(order, action, &writer).await?;
    let report = report_of(&repository, &writer, result, start_time);
    let report = BackupReport { hooks: hooks.told(), ..report };
    if report.outcome == Outcome::Failed {
        return Ok(report);
    }
    commit(order, writer, action, report).await
}

/// What the engine is asked for.
pub(super) fn options_of(order: &Order<'_>, source: &Source) -> BackupOptions {
    let Source::Postgresql { access, databases } = source;
    BackupOptions {
        server: server_connection(order, access),
        databases: databases.clone(),
        lock_timeout: LOCK_TIMEOUT,
    }
}

async fn read_server(
    order: &Order<'_>,
    action: &BackupAction,
    writer: &Arc<SnapshotWriter>,
) -> Result<BackupResult, Failure> {
    let options = options_of(order, &action.source);
    let sink = SnapshotSink::new(Arc::clone(writer));
    match action.method {
        Method::Logical => postgres::backup(&options, &sink, order.board, order.cancel).await,
        Method::Physical => {
            must_be_whole(&options)?;
            let plain = action.run_id.chars().filter(char::is_ascii_alphanumeric).take(40);
            let run = plain.collect::<String>().to_ascii_lowercase();
            let options = FilesOptions { server: options.server, run };
            postgres::backup_files(&options, &sink, order.board, order.cancel).await
        }
    }
}

/// Files are those of all databases.
pub(super) fn must_be_whole(options: &BackupOptions) -> Result<(), Failure> {
    if options.databases == DatabaseSelection::default() {
        return Ok(());
    }
    let message = "a physical backup is of the whole server, and databases were named";
    Err(Failure::new(Reason::InvalidSpec, message)
        .with_hint("Leave them out, or take the method Logical."))
}

/// Kind of the snapshot.
const fn kind_of(method: Method) -> &'static str {
    match method {
        Method::Logical => SNAPSHOT_KIND,
        Method::Physical => BASE_KIND,
    }
}

/// Commits the snapshot with its report in it, then verifies what stands there.
async fn commit(
    order: &Order<'_>,
    writer: Arc<SnapshotWriter>,
    action: &BackupAction,
    mut report: BackupReport,
) -> Result<BackupReport, Failure> {
    let writer = Arc::into_inner(writer)
        .ok_or_else(|| Failure::new(Reason::Internal, "a stream is still open at the commit"))?;
    let labels = serde_json::to_value(&action.origin)
        .map_err(|error| Failure::new(Reason::Internal, format!("no JSON: {error}")))?;
    let draft = report.clone();
    let info = CommitInfo {
        kind: kind_of(action.method).to_owned(),
        made_by: action.made_by,
        labels,
        report: Box::new(move |facts| serde_json::json!(with_facts(draft, facts))),
    };
    let snapshot = committed(order.cancel, writer, info).await?;
    tracing::info!(id = %snapshot.id(), "snapshot committed");
    report = serde_json::from_value(snapshot.report().clone()).map_err(|error| {
        Failure::new(Reason::Internal, format!("the committed report cannot be read: {error}"))
    })?;
    verify(order, &snapshot, &mut report).await?;
    report.completion_time = Timestamp::now();
    Ok(report)
}

/// Commits. A stop is heard while the last data is written; the manifest itself
/// has a few seconds more, since only it decides whether there is a snapshot.
///
/// # Errors
/// `OutcomeUnknown` where a stop or a store without an answer leaves open whether
/// the manifest is there: nobody may call that a failure before the repository is asked.
pub(crate) async fn committed(
    cancel: &CancellationToken,
    writer: SnapshotWriter,
    info: CommitInfo,
) -> Result<Snapshot, Failure> {
    let id = writer.id().clone();
    let unknown = |why: String| {
        let message = format!("{why}: whether snapshot {id} is there is not known");
        Failure::new(Reason::OutcomeUnknown, message).with_hint(
            "The repository knows: a Backup asks it by itself; elsewhere see whether the command \
             snapshots lists it.",
        )
    };
    match with_grace(cancel, writer.commit(info)).await {
        Some(Ok(snapshot)) => Ok(snapshot),
        Some(Err(Error::Storage(error))) if leaves_open(&error, &id) => {
            Err(unknown(error.to_string()))
        }
        Some(Err(error)) => Err(error.into()),
        None => Err(unknown("the run was told to stop while it committed".to_owned())),
    }
}

/// Whether a store that fails so may hold the manifest of `id` nevertheless. What
/// fails before the manifest commits nothing.
fn leaves_open(error: &dbbackup_storage::Error, id: &SnapshotId) -> bool {
    let object = error.name.rsplit('/').next();
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Silent) && object == Some(id.as_str())
}

/// Reads the manifest back and looks whether every pack that it names is there.
/// A snapshot that does not pass is not called a success.
///
/// # Errors
/// `OutcomeUnknown` where the run is told to stop before it is known.
pub(super) async fn verify(
    order: &Order<'_>,
    snapshot: &Snapshot,
    report: &mut BackupReport,
) -> Result<(), Failure> {
    let verifying = async { Ok::<_, Failure>(snapshot.verify_manifest().await) };
    let outcome = order.step(verifying).await.map_err(|stopped| {
        let message = format!(
            "{}: snapshot {} is there, but was not verified",
            stopped.message,
            snapshot.id()
        );
        Failure::new(Reason::OutcomeUnknown, message)
    })?;
    report.verification = Some(VerificationReport {
        level: VerificationLevel::Manifest,
        passed: outcome.is_ok(),
        time: Timestamp::now(),
    });
    if let Err(error) = outcome {
        report.outcome = Outcome::Failed;
        report.error = Some(error.into());
    }
    Ok(())
}

/// What is known of the snapshot only when all but its head is written.
fn with_facts(report: BackupReport, facts: &CommitFacts) -> BackupReport {
    BackupReport {
        snapshot_id: Some(facts.id.to_string()),
        attempt: facts.attempt,
        bytes: ByteCounts { read: report.bytes.read, ..facts.bytes.clone() },
        completion_time: facts.commit_time,
        ..report
    }
}

fn report_of(
    repository: &Repository,
    writer: &SnapshotWriter,
    result: BackupResult,
    start_time: Timestamp,
) -> BackupReport {
    let totals = writer.totals();
    let database_count = DatabaseCount::of(&result.databases);
    let outcome = match (result.method.used, database_count.outcome()) {
        // What is damaged on the server is in the snapshot as it is, beside all that is not.
        (Method::Physical, Outcome::Failed) => Outcome::PartiallyFailed,
        (_, outcome) => outcome,
    };
    BackupReport {
        outcome,
        snapshot_id: (outcome != Outcome::Failed).then(|| writer.id().to_string()),
        repository_id: Some(repository.id().to_string()),
        consistent_time: result.consistent_time,
        method: Some(result.method),
        server: Some(result.server),
        position: result.position,
        log_start: result.log_start,
        bytes: ByteCounts { read: result.bytes_read, new: totals.new, stored: totals.stored },
        database_count,
        error: why_incomplete(&result.databases, database_count),
        databases: BackupReport::listed(result.databases),
        ..empty_report(start_time)
    }
}

fn empty_report(start_time: Timestamp) -> BackupReport {
    BackupReport {
        outcome: Outcome::Failed,
        snapshot_id: None,
        repository_id: None,
        start_time,
        consistent_time: None,
        completion_time: Timestamp::now(),
        attempt: 0,
        method: None,
        server: None,
        position: None,
        log_start: None,
        bytes: ByteCounts::default(),
        database_count: DatabaseCount::default(),
        databases: Vec::new(),
        verification: None,
        hooks: Vec::new(),
        error: None,
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "physical_tests.rs"]
mod physical_tests;
