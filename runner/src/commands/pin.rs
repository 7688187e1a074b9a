//! `pin` and `unpin`: what no rule lets go.

use dbbackup_contract::{ExitCode, Failure};
use tokio_util::sync::CancellationToken;

use crate::cli::PinArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;

pub(super) async fn pin(args: PinArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let repository = open(&args.repository, cancel).await?;
    let snapshot = unless_stopped(cancel, repository.find(&args.snapshot)).await?;
    unless_stopped(cancel, repository.pin(snapshot.id(), &args.note)).await?;
    print::line(&format!("{}  pinned", snapshot.id()));
    Ok(ExitCode::Success)
}

pub(super) async fn unpin(args: PinArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let repository = open(&args.repository, cancel).await?;
    let snapshot = unless_stopped(cancel, repository.find(&args.snapshot)).await?;
    unless_stopped(cancel, repository.unpin(snapshot.id(), &args.note)).await?;
    print::line(&format!("{}  not pinned", snapshot.id()));
    Ok(ExitCode::Success)
}
