//! `run`: carries out the task of a Kubernetes Job.

use std::path::Path;
use std::time::Duration;

use dbbackup_contract::{
    Action, ExitCode, Failure, MAX_TASK_BYTES, Reason, Report, RepositoryAccess, RetireAction,
    TERMINATION_FILE, Task,
};
use dbbackup_repository::Kdf;
use tokio_util::sync::CancellationToken;

use crate::cli::RunArgs;
use crate::patience::with_grace;
use crate::progress::ProgressBoard;
use crate::report_channel::ReportChannel;
use crate::{termination, work};

pub(super) async fn run(args: RunArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let task = read_task(&args.task)?;
    tracing::info!(
        kind = ?task.subject.kind,
        namespace = task.subject.namespace,
        name = task.subject.name,
        "task taken"
    );
    let channel = match &task.report {
        Some(endpoint) => Some(ReportChannel::open(endpoint, &task.subject.uid)?),
        None => None,
    };
    let board = ProgressBoard::new(channel.as_ref());
    let (report, restored) = match (&task.repository, &task.action) {
        (Some(repository), _) => carry_out(&task, repository, &board, cancel).await,
        // All that needs none.
        (None, Action::Notify(action)) => {
            (Report::Notify(work::notify(action, cancel).await), None)
        }
        (None, Action::Retire(action)) => (retire(&task, action, cancel).await, None),
        (None, _) => {
            return Err(Failure::new(Reason::TaskInvalid, "the task names no repository"));
        }
    };
    drop(board);
    let (code, known) = conclude(report, channel, cancel).await;
    if let Some(restored) = restored.filter(|_| known) {
        restored.settle(cancel).await;
    }
    Ok(code)
}

/// The report, and what is left to do when it has arrived.
async fn carry_out(
    task: &Task,
    repository: &RepositoryAccess,
    board: &ProgressBoard<'_>,
    cancel: &CancellationToken,
) -> (Report, Option<work::Settlement>) {
    let order = work::Order {
        repository,
        workers: task.workers,
        stall_timeout: stall_timeout(task),
        scratch: Path::new(dbbackup_contract::SCRATCH_DIR),
        board,
        cancel,
        even_if_written_off: false,
    };
    match &task.action {
        Action::Init(action) => {
            (Report::Init(work::init(&order, action, Kdf::default()).await), None)
        }
        Action::Backup(action) => (Report::Backup(work::back_up(&order, action).await), None),
        Action::Find(action) => (Report::Find(work::find(&order, action).await), None),
        Action::Restore(action) => {
            let (report, settlement) = work::restore(&order, action).await;
            (Report::Restore(report), settlement)
        }
        Action::Inspect(action) => (Report::Inspect(work::inspect(&order, action).await), None),
        Action::Maintain(action) => {
            (Report::Maintain(Box::new(work::maintain(&order, action).await)), None)
        }
        Action::Copy(action) => (Report::Copy(work::copy(&order, action).await), None),
        Action::Import(action) => {
            (Report::Import(Box::new(work::look(&order, action).await)), None)
        }
        Action::Preflight(action) => {
            (Report::Preflight(Box::new(work::preflight(&order, action).await)), None)
        }
        Action::Notify(action) => (Report::Notify(work::notify(action, cancel).await), None),
        Action::Archive(action) => (Report::Archive(work::keep_log(&order, action).await), None),
        Action::Retire(action) => (retire(task, action, cancel).await, None),
        Action::Recover(action) => {
            (Report::Recover(Box::new(work::recover(&order, action).await)), None)
        }
        Action::Drill(action) => (Report::Drill(Box::new(work::drill(&order, action).await)), None),
    }
}

async fn retire(task: &Task, action: &RetireAction, cancel: &CancellationToken) -> Report {
    let scratch = Path::new(dbbackup_contract::SCRATCH_DIR);
    Report::Retire(work::retire(action, scratch, stall_timeout(task), cancel).await)
}

const fn stall_timeout(task: &Task) -> Duration {
    Duration::from_secs(task.stall_timeout_seconds)
}

/// Tells the pod's status and the operator. Gives the exit code, and whether
/// whoever asked knows the outcome now.
async fn conclude(
    report: Report,
    channel: Option<ReportChannel>,
    cancel: &CancellationToken,
) -> (ExitCode, bool) {
    if let Some(error) = report.error() {
        tracing::error!(reason = %error.reason, hint = error.hint, "{}", error.message);
    }
    tracing::info!(outcome = ?report.outcome(), "task ended");
    termination::write_summary(&report, Path::new(TERMINATION_FILE));
    let code = report.exit_code();
    let Some(channel) = channel else { return (code, true) };
    let delivering = tokio::task::spawn_blocking(move || channel.finish(&report));
    let delivered = with_grace(cancel, delivering).await;
    let delivered = delivered.is_some_and(|delivered| delivered.unwrap_or(false));
    if !delivered {
        tracing::warn!("the operator has not got the report; it will look elsewhere");
    }
    (code, delivered)
}

fn read_task(path: &Path) -> Result<Task, Failure> {
    let unreadable = |why: String| {
        Failure::new(
            Reason::TaskInvalid,
            format!("the task {} cannot be read: {why}", path.display()),
        )
    };
    let json = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    if json.len() > MAX_TASK_BYTES {
        return Err(unreadable(format!(
            "it has {} bytes, the most is {MAX_TASK_BYTES}",
            json.len()
        )));
    }
    Ok(Task::from_json(&json)?)
}
