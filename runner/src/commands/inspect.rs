//! `inspect`: what became of a run.

use dbbackup_contract::{ExitCode, Failure, InspectAction, Report};
use tokio_util::sync::CancellationToken;

use crate::cli::InspectArgs;
use crate::commands::{print, repository_access};
use crate::progress::ProgressBoard;
use crate::work;

pub(super) async fn inspect(
    args: InspectArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let access = repository_access(&args.repository)?;
    let board = ProgressBoard::new(None);
    let stall_timeout = args.repository.stall_timeout();
    let order = work::Order::by_hand(&access, stall_timeout, &board, cancel);
    let action = InspectAction { series: args.series, run_id: args.run, slot_time: args.slot };
    let report = work::inspect(&order, &action).await;
    board.clear();
    print::json(&report)?;
    if let Some(failure) = &report.error {
        print::failure(failure);
    }
    Ok(Report::Inspect(report).exit_code())
}
