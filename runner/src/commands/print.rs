//! What commands print: results on standard output, failures on standard error.
//! Whoever has stopped listening (`snapshots | head`) changes nothing: the exit
//! code says it too.

use std::io::Write as _;

use dbbackup_contract::{ByteCounts, DatabaseOutcome, DatabaseReport, Failure, Reason};
use indicatif::{DecimalBytes, FormattedDuration, HumanCount};
use serde::Serialize;

/// One line of output.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A value as JSON, indented.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Reason::Internal, format!("no JSON: {error}")))?;
    line(&text);
    Ok(())
}

/// Why it failed, and what to do.
pub(crate) fn failure(failure: &Failure) {
    let mut told = format!("error: {} ({})\n", failure.message, failure.reason);
    if !failure.hint.is_empty() {
        told.push_str(&format!("hint: {}\n", failure.hint));
    }
    to_stderr(&told);
}

/// What is said beside the results.
pub(super) fn aside(text: &str) {
    to_stderr(&format!("{text}\n"));
}

fn to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// `1.30 GB`.
pub(super) fn bytes(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}

/// `read 1.30 GB, of which 48 MB are new: 16 MB stored`.
pub(super) fn byte_counts(counts: &ByteCounts) -> String {
    format!(
        "read {}, of which {} are new: {} stored",
        bytes(counts.read),
        bytes(counts.new),
        bytes(counts.stored)
    )
}

/// A line for each database, aligned.
pub(super) fn databases(databases: &[DatabaseReport]) {
    let shown: Vec<_> = databases.iter().map(shown_name).collect();
    let width = shown.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (database, name) in databases.iter().zip(shown) {
        match (database.outcome, &database.error) {
            (DatabaseOutcome::Succeeded, _) => line(&format!(
                "  {name:width$}  {:>10}  {:>7} tables  {:>13} rows  {}",
                bytes(database.bytes),
                HumanCount(database.tables).to_string(),
                HumanCount(database.rows).to_string(),
                FormattedDuration(std::time::Duration::from_millis(database.duration_milliseconds)),
            )),
            (DatabaseOutcome::Skipped, _) => {
                line(&format!("  {name:width$}  left out: it allows no connections"));
            }
            (DatabaseOutcome::Failed, error) => {
                let (message, reason) =
                    error.as_ref().map_or(("no reason is known", Reason::Unknown), |error| {
                        (&error.message, error.reason)
                    });
                line(&format!("  {name:width$}  FAILED: {message} ({reason})"));
                if let Some(error) = error.as_ref().filter(|error| !error.hint.is_empty()) {
                    line(&format!("  {:width$}  hint: {}", "", error.hint));
                }
            }
        }
        for warning in &database.warnings {
            line(&format!("  {:width$}  warning: {warning}", ""));
        }
    }
}

/// `shop`, or `shop as shop_before` where it has another name on the target.
fn shown_name(database: &DatabaseReport) -> String {
    match &database.as_name {
        Some(other) if *other != database.name => format!("{} as {other}", database.name),
        _ => database.name.clone(),
    }
}
