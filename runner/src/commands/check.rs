//! `check`: is everything there and whole that the snapshots need?

use std::time::Instant;

use dbbackup_contract::{ExitCode, Failure, ProgressPhase};
use dbbackup_repository::{CheckLevel, CheckReport, Problem};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::{CheckArgs, CheckLevelArg};
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;

pub(super) async fn check(
    args: CheckArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let level = match args.level {
        CheckLevelArg::Structure => CheckLevel::Structure,
        CheckLevelArg::Footers => CheckLevel::Footers,
        CheckLevelArg::Data => CheckLevel::Data,
    };
    let board = ProgressBoard::new(None);
    let repository = open(&args.repository, cancel).await?;
    board.phase(ProgressPhase::Verifying);
    let report = unless_stopped(cancel, repository.check(level)).await?;
    board.clear();
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
            "{}, {}, {} read in {}: {}",
            print::count(report.snapshots, "snapshot"),
            print::count(report.packs, "pack"),
            print::bytes(report.bytes_read),
            print::duration(started.elapsed()),
            print::count(report.problems.len() as u64, "problem"),
        ));
        if let Some(next) = what_next(&report, level) {
            print::aside(next);
        }
    }
    Ok(if report.problems.is_empty() { ExitCode::Success } else { ExitCode::Damaged })
}

/// What the outcome does not say, or what to do about it; nothing if all is well.
fn what_next(report: &CheckReport, level: CheckLevel) -> Option<&'static str> {
    match (report.problems.is_empty(), level) {
        (true, CheckLevel::Data) => None,
        (true, _) => Some("note: not every byte was read; --level data does that"),
        (false, CheckLevel::Data) => Some(
            "hint: Bring the objects that are named back from a copy of the repository. What is \
             not listed can be restored.",
        ),
        (false, _) => Some(
            "hint: Bring the objects that are named back from a copy of the repository. \
             --level data says whether the rest is whole.",
        ),
    }
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
