//! `init`: creates a repository, or opens it where it exists.

use dbbackup_contract::{ExitCode, Failure, InitAction, Initialize, Report};
use tokio_util::sync::CancellationToken;

use crate::cli::InitArgs;
use crate::commands::{print, repository_access};
use crate::progress::ProgressBoard;
use crate::work;

pub(super) async fn init(args: InitArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let access = repository_access(&args.repository)?;
    let initialize = if args.never_create { Initialize::Never } else { Initialize::IfEmpty };
    let board = ProgressBoard::new(None);
    let stall_timeout = args.repository.stall_timeout();
    let order = work::Order::by_hand(&access, stall_timeout, &board, cancel);
    let action = InitAction { initialize, retired_slots: Vec::new() };
    let report = work::init(&order, &action, args.kdf.into()).await;
    board.clear();
    if args.json {
        print::json(&report)?;
    } else if let Some(id) = &report.repository_id {
        let done = if report.created { "created" } else { "opened" };
        print::line(&format!(
            "repository {id} {done}: {}, {} stored",
            print::count(report.snapshot_count, "snapshot"),
            print::bytes(report.stored_bytes)
        ));
    }
    if let Some(failure) = &report.error {
        print::failure(failure);
    }
    Ok(Report::Init(report).exit_code())
}
