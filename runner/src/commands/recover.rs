//! `recover`: the files of a server, as a physical backup has them.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dbbackup_contract::{BackupReport, ExitCode, Failure, Reason};
use dbbackup_postgres::{
    RecoveryRequest, RecoveryTarget, RestoreFilesOptions, RestoredFiles, recover_files,
    restore_files,
};
use dbbackup_repository::{Repository, Snapshot};
use tokio_util::sync::CancellationToken;

use crate::cli::RecoverArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;
use crate::streams::SnapshotSource;
use crate::work::{self, BASE_KIND, KeptLog};

pub(super) async fn recover(
    args: RecoverArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let board = ProgressBoard::new(None);
    let name = args.repository.repository.to_string();
    let named = |failure| work::named(failure, &name);
    let repository = open(&args.repository, cancel).await.map_err(named)?;
    let snapshot = unless_stopped(cancel, repository.find(&args.snapshot)).await.map_err(named)?;
    has_files(&snapshot)?;
    if !args.even_if_written_off {
        snapshot.must_not_be_written_off().map_err(Failure::from).map_err(named)?;
    }
    let session = unless_stopped(cancel, repository.begin_reading()).await.map_err(named)?;
    let options = RestoreFilesOptions {
        data_dir: args.data_dir.clone(),
        tablespace_dir: args.tablespace_dir.clone(),
    };
    let outcome = put_back(&args, &options, &repository, snapshot, &board, cancel).await;
    work::end(session).await;
    board.clear();
    let restored = outcome.map_err(|failure| not_whole(named(failure), &args.data_dir))?;
    for line in told(&restored, &args.data_dir, &print::duration(started.elapsed())) {
        print::line(&line);
    }
    Ok(ExitCode::Success)
}

/// The base alone, or with the log up to a point.
async fn put_back(
    args: &RecoverArgs,
    options: &RestoreFilesOptions,
    repository: &Repository,
    snapshot: Snapshot,
    board: &ProgressBoard<'_>,
    cancel: &CancellationToken,
) -> Result<RestoredFiles, Failure> {
    let snapshot = Arc::new(snapshot);
    let source = SnapshotSource::new(Arc::clone(&snapshot));
    let Some(target) = target_of(args) else {
        return restore_files(options, &source, board, cancel).await;
    };
    let request = RecoveryRequest { target, timeline: args.timeline, action: args.action.into() };
    let report: BackupReport = serde_json::from_value(snapshot.report().clone())
        .map_err(|error| Failure::new(Reason::RepositoryDamaged, error.to_string()))?;
    let server = report.server.map(|server| server.identity).unwrap_or_default();
    let log = repository.log_id(&snapshot.about().series, &server);
    let kept = KeptLog { repository, log };
    let archived = unless_stopped(cancel, kept.archived()).await?;
    recover_files(options, &request, &source, &kept, &archived, board, cancel).await
}

/// The point that was asked for; `None` where only the base is wanted.
fn target_of(args: &RecoverArgs) -> Option<RecoveryTarget> {
    let inclusive = !args.exclusive;
    let point = &args.point;
    let target = if let Some(time) = point.target_time {
        RecoveryTarget::Time { time, inclusive }
    } else if let Some(lsn) = &point.target_lsn {
        RecoveryTarget::Position { lsn: lsn.clone(), inclusive }
    } else if let Some(xid) = point.target_xid {
        RecoveryTarget::Transaction { xid, inclusive }
    } else if let Some(name) = &point.target_name {
        RecoveryTarget::Name(name.clone())
    } else if point.target_immediate {
        RecoveryTarget::Immediate
    } else if point.target_latest {
        RecoveryTarget::Latest
    } else {
        return None;
    };
    Some(target)
}

/// Refuses what holds no files of a server.
fn has_files(snapshot: &Snapshot) -> Result<(), Failure> {
    let (id, kind) = (snapshot.id(), snapshot.about().kind.as_str());
    if kind == BASE_KIND {
        return Ok(());
    }
    let message = format!("snapshot {id} ({kind}) is no physical backup");
    Err(Failure::new(Reason::UsageError, message).with_hint(
        "Restore databases with: dbbackup-runner restore REPO SNAPSHOT SERVER; what store took, with fetch.",
    ))
}

/// A data folder that lacks files must not be taken for one that is whole.
fn not_whole(failure: Failure, data_dir: &Path) -> Failure {
    if !data_dir.join("PG_VERSION").exists() && !data_dir.join("base").exists() {
        return failure;
    }
    let message = format!(
        "{}; {} is not complete: start no server on it",
        failure.message,
        data_dir.display()
    );
    Failure { message, ..failure }
}

fn told(restored: &RestoredFiles, data_dir: &Path, took: &str) -> Vec<String> {
    let mut lines = vec![
        format!(
            "wrote {}, {}, to {} in {took}",
            print::count(restored.files, "file"),
            print::bytes(restored.bytes),
            data_dir.display(),
        ),
        format!(
            "Start a server of version {} on it: it makes the files consistent and is ready then.",
            restored.server_version
        ),
    ];
    if !restored.missing_settings.is_empty() {
        lines.push(
            "Its configuration was kept elsewhere, and is not in the backup. It needs:".to_owned(),
        );
        let settings = restored.missing_settings.iter();
        lines.extend(
            settings.map(|(name, value)| format!("  {name} = '{}'", value.replace('\'', "''"))),
        );
    }
    lines
}
