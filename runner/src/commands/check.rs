//! `check`: is everything there and whole that the snapshots need?

use dbbackup_contract::{ExitCode, Failure, Reason};
use dbbackup_repository::CheckLevel;
use tokio_util::sync::CancellationToken;

use crate::cli::{CheckArgs, CheckLevelArg};
use crate::commands::{print, repository_access};
use crate::work;

pub(super) async fn check(args: CheckArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let level = match args.level {
        CheckLevelArg::Structure => CheckLevel::Structure,
        CheckLevelArg::Footers => CheckLevel::Footers,
        CheckLevelArg::Data => CheckLevel::Data,
    };
    let repository = work::open(&repository_access(&args.repository)?).await?;
    let report = tokio::select! {
        report = repository.check(level) => report?,
        () = cancel.cancelled() => return Err(Failure::new(Reason::Interrupted, "told to stop")),
    };
    if args.json {
        print::json(&report)?;
    } else {
        for finding in &report.findings {
            print::line(&format!("{} ({})", finding.message, finding.reason));
            for touched in &finding.touches {
                print::line(&format!("  touches {touched}"));
            }
        }
        print::line(&format!(
            "{} snapshots, {} packs, {} damages",
            report.snapshots,
            report.packs,
            report.findings.len()
        ));
    }
    Ok(report.findings.first().map_or(ExitCode::Success, |_| ExitCode::Damaged))
}
