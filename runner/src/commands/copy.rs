//! `copy`: snapshots of one repository into another.

use std::time::Instant;

use dbbackup_contract::{ExitCode, Failure, Reason};
use dbbackup_repository::{
    Copied, CopyError, CopyOptions, CopyOutcome, Repository, RunState, copy_run_id,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::CopyArgs;
use crate::commands::{open, print};
use crate::patience::unless_stopped;
use crate::progress::ProgressBoard;
use crate::work;

pub(super) async fn copy(args: CopyArgs, cancel: &CancellationToken) -> Result<ExitCode, Failure> {
    let to = args.destination();
    let names = (args.repository.repository.to_string(), to.repository.to_string());
    let of_source = |failure| work::named(failure, &names.0);
    let of_destination = |failure| work::named(failure, &names.1);
    let source = open(&args.repository, cancel).await.map_err(of_source)?;
    let destination = open(&to, cancel).await.map_err(of_destination)?;
    let wanted = match (&args.snapshot, &args.series) {
        (Some(snapshot), _) => vec![snapshot.clone()],
        (None, series) => {
            let series = series.as_deref().unwrap_or_default();
            let listing = missing(&source, &destination, series, &names);
            unless_stopped(cancel, listing).await?
        }
    };
    let mut done = Vec::with_capacity(wanted.len());
    for snapshot in &wanted {
        let started = Instant::now();
        let board = ProgressBoard::new(None);
        let progress = |name: &str, bytes, total| board.bytes(name, bytes, Some(total));
        let options =
            CopyOptions { cancel: cancel.clone(), progress: &progress, ..CopyOptions::default() };
        let copying = dbbackup_repository::copy(&source, &destination, snapshot, &options);
        let copied = copying.await;
        board.clear();
        let copied = copied.map_err(|error| failure(error, &names))?;
        if !args.json {
            show(&copied, started);
        }
        done.push(as_json(&copied));
    }
    if args.json {
        print::json(&done)?;
    } else if wanted.is_empty() {
        print::line("every snapshot of the series is there already");
    }
    Ok(ExitCode::Success)
}

/// The series' snapshots that were never copied, oldest first.
async fn missing(
    source: &Repository,
    destination: &Repository,
    series: &str,
    names: &(String, String),
) -> Result<Vec<String>, Failure> {
    let of_source = |error: dbbackup_repository::Error| work::named(error.into(), &names.0);
    let of_destination = |error: dbbackup_repository::Error| work::named(error.into(), &names.1);
    let list = source.snapshots(Some(series)).await.map_err(of_source)?;
    let mut missing = Vec::new();
    for snapshot in &list.snapshots {
        if snapshot.written_off().is_some() {
            continue;
        }
        let (about, run) = (snapshot.about(), copy_run_id(source, snapshot.id()));
        let state = destination.resolve_run(&about.series, &run, about.slot_time, None).await;
        match state.map_err(of_destination)? {
            // What was let go there is not wanted there.
            RunState::Committed(_) | RunState::Forgotten(_) => {}
            RunState::Free { .. } | RunState::Unresolved { .. } => {
                missing.push(snapshot.id().to_string());
            }
        }
    }
    Ok(missing)
}

/// The failure, with the repository that it is of.
fn failure(error: CopyError, names: &(String, String)) -> Failure {
    match error {
        CopyError::SameRepository(_) => Failure::new(Reason::UsageError, error.to_string())
            .with_hint("Give --to another repository: a copy beside its original is none."),
        CopyError::Source(error) => work::named(error.into(), &names.0),
        CopyError::Destination(error) => work::named(error.into(), &names.1),
    }
}

fn show(copied: &Copied, started: Instant) {
    let id = copied.snapshot.id();
    if copied.outcome == CopyOutcome::Already {
        print::line(&format!("snapshot {id} is there already"));
        return;
    }
    let bytes = &copied.bytes;
    print::line(&format!(
        "snapshot {id}: read {}, took over {}, stored {} in {}",
        print::bytes(bytes.read),
        print::bytes(copied.unchanged),
        print::bytes(bytes.stored),
        print::duration(started.elapsed()),
    ));
}

fn as_json(copied: &Copied) -> serde_json::Value {
    let (about, bytes) = (copied.snapshot.about(), &copied.bytes);
    json!({
        "id": copied.snapshot.id().as_str(),
        "outcome": match copied.outcome {
            CopyOutcome::New => "New",
            CopyOutcome::Already => "Already",
        },
        "copiedFrom": about.copied_from,
        "bytes": {
            "read": bytes.read,
            "unchanged": copied.unchanged,
            "new": bytes.new,
            "stored": bytes.stored,
        },
    })
}
