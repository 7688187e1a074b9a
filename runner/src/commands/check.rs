//! `check`: is everything there and whole that the snapshots need?

use std::time::Instant;

use dbbackup_contract::{ExitCode, Failure, ProgressPhase, listed};
use dbbackup_repository::{CheckLevel, CheckOptions, CheckReport, Problem, Sample, Touched};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::{CheckArgs, CheckLevelArg};
use crate::commands::{open, print};
use crate::progress::ProgressBoard;
use crate::work;

/// Streams of a snapshot that are printed; all are in the JSON.
const PRINTED_STREAMS: usize = 20;
const SECONDS_OF_A_DAY: i64 = 86_400;

pub(super) async fn check(
    args: CheckArgs,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let options = asked_for(&args);
    let level = options.level;
    let board = ProgressBoard::new(None);
    let repository = open(&args.repository, cancel).await?;
    board.phase(ProgressPhase::Verifying);
    let report = work::checked(&repository, options, &board, cancel).await;
    board.clear();
    let report = report?;
    if args.json {
        print::json(&described(&report, level))?;
    } else {
        for problem in &report.problems {
            print_problem(problem);
        }
        for note in &report.notes {
            print::aside(&format!("note: {}: {}", note.object, note.what));
        }
        if report.more_notes > 0 {
            print::aside(&format!("note: and {}", print::count(report.more_notes, "more object")));
        }
        if report.is_cut {
            print::line("not all snapshots and streams are listed with each problem");
        }
        if !report.losses.is_empty() {
            print::line(&format!(
                "{} cannot be restored whole",
                print::count(report.losses.len() as u64, "snapshot"),
            ));
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
    Ok(exit_code(&report))
}

/// Damaged, unless all that is wrong is that this release is too old for it.
fn exit_code(report: &CheckReport) -> ExitCode {
    let too_new =
        |problem: &Problem| problem.error.reason().exit_code() == Some(ExitCode::Incompatible);
    match &report.problems[..] {
        [] => ExitCode::Success,
        problems if problems.iter().all(too_new) => ExitCode::Incompatible,
        _ => ExitCode::Damaged,
    }
}

/// How far to go, and which packs to read.
fn asked_for(args: &CheckArgs) -> CheckOptions {
    let level = match args.level {
        CheckLevelArg::Structure => CheckLevel::Structure,
        CheckLevelArg::Footers => CheckLevel::Footers,
        CheckLevelArg::Data => CheckLevel::Data,
    };
    let Some(hundredths) = args.read_data else { return level.into() };
    let today = Timestamp::now().as_second() / SECONDS_OF_A_DAY;
    let number = args.check_number.unwrap_or_else(|| today.unsigned_abs());
    CheckOptions { sample: Sample::share(hundredths, number), ..CheckLevel::Data.into() }
}

fn print_problem(Problem { error, touched }: &Problem) {
    print::line(&format!("{error} ({})", error.reason()));
    for Touched { snapshot, all, streams, more_streams, owners } in touched {
        if *all {
            print::line(&format!("  snapshot {snapshot}: nothing of it can be restored"));
            continue;
        }
        let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
        let of = if owners.is_empty() {
            String::new()
        } else {
            format!(" of the databases {}", listed(&owners, PRINTED_STREAMS))
        };
        let count = streams.len() as u64 + more_streams;
        print::line(&format!("  snapshot {snapshot}: {}{of}", print::count(count, "stream")));
        for stream in streams.iter().take(PRINTED_STREAMS) {
            print::line(&format!("    cannot be restored: {stream}"));
        }
        let more = count.saturating_sub(PRINTED_STREAMS as u64);
        if more > 0 {
            print::line(&format!("    and {more} more"));
        }
    }
}

/// What the outcome does not say, or what to do about it; nothing if all is well.
fn what_next(report: &CheckReport, level: CheckLevel) -> Option<&'static str> {
    let all_was_read = level == CheckLevel::Data && report.packs_read == report.packs;
    match (report.problems.is_empty(), all_was_read) {
        (true, true) => None,
        (true, false) => Some("note: not every byte was read; --level data does that"),
        (false, true) => Some(
            "hint: Bring the objects that are named back from a copy of the repository. What is \
             not listed can be restored.",
        ),
        (false, false) => Some(
            "hint: Bring the objects that are named back from a copy of the repository. \
             --level data says whether the rest is whole.",
        ),
    }
}

fn described(report: &CheckReport, level: CheckLevel) -> Value {
    let problems = report.problems.iter().map(|Problem { error, touched }| {
        let touched = touched.iter().map(|touched| {
            json!({
                "snapshot": touched.snapshot.to_string(),
                "all": touched.all,
                "databases": touched.owners,
                "streams": touched.streams,
                "moreStreams": touched.more_streams,
            })
        });
        json!({
            "reason": error.reason(),
            "object": error.object(),
            "message": error.to_string(),
            "touched": touched.collect::<Vec<_>>(),
        })
    });
    let losses = report.losses.iter().map(|(snapshot, loss)| {
        json!({"snapshot": snapshot.to_string(), "all": loss.all, "databases": loss.owners})
    });
    let notes = report.notes.iter().map(|note| json!({"object": note.object, "note": note.what}));
    json!({
        "level": match level {
            CheckLevel::Structure => "structure",
            CheckLevel::Footers => "footers",
            CheckLevel::Data => "data",
        },
        "snapshots": report.snapshots,
        "packs": report.packs,
        "packsRead": report.packs_read,
        "bytesRead": report.bytes_read,
        "configs": report.configs,
        "keySlots": report.key_slots,
        "unneeded": {"objects": report.unneeded, "bytes": report.unneeded_bytes},
        "problems": problems.collect::<Vec<_>>(),
        "losses": losses.collect::<Vec<_>>(),
        "isCut": report.is_cut,
        "notes": notes.collect::<Vec<_>>(),
        "moreNotes": report.more_notes,
    })
}
