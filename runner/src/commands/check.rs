//! `check`: is everything there and whole that the snapshots need?

use dbbackup_contract::{ExitCode, Failure};
use dbbackup_repository::{CheckLevel, CheckReport, Problem};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::{CheckArgs, CheckLevelArg};
use crate::commands::{open, print};
use crate::patience::unless_stopped;

pub(super) async fn check(
    args: CheckArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let level = match args.level {
        CheckLevelArg::Structure => CheckLevel::Structure,
        CheckLevelArg::Footers => CheckLevel::Footers,
        CheckLevelArg::Data => CheckLevel::Data,
    };
    let repository = open(&args.repository, cancel).await?;
    let report = unless_stopped(cancel, repository.check(level)).await?;
    if args.json {
        print::json(&described(&report))?;
    } else {
        for problem in &report.problems {
            let Problem { error, snapshot, streams } = problem;
            print::line(&format!("snapshot {snapshot}: {error} ({})", error.reason()));
            for stream in streams {
                print::line(&format!("  cannot be restored: {stream}"));
            }
        }
        print::line(&format!(
            "{} snapshots, {} packs, {} read, {} problems",
            report.snapshots,
            report.packs,
            print::bytes(report.bytes_read),
            report.problems.len()
        ));
    }
    Ok(if report.problems.is_empty() { ExitCode::Success } else { ExitCode::Damaged })
}

fn described(report: &CheckReport) -> Value {
    let problems = report.problems.iter().map(|problem| {
        json!({
            "snapshot": problem.snapshot.to_string(),
            "reason": problem.error.reason(),
            "message": problem.error.to_string(),
            "streams": problem.streams,
        })
    });
    json!({
        "snapshots": report.snapshots,
        "packs": report.packs,
        "bytesRead": report.bytes_read,
        "problems": problems.collect::<Vec<_>>(),
    })
}
