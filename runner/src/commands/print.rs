//! What commands print: results on standard output, failures on standard error.
//! Whoever has stopped listening (`snapshots | head`) changes nothing: the exit
//! code says it too.

use std::io::Write as _;
use std::time::Duration;

use dbbackup_contract::{ByteCounts, DatabaseOutcome, DatabaseReport, ErrorClass, Failure, Reason};
use indicatif::{DecimalBytes, FormattedDuration, HumanCount};
use serde::Serialize;

use super::hints;
use crate::terminal;

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
    terminal::tell(&told(failure));
}

/// `error: what happened (Reason)`, and the hint on a line of its own.
pub(crate) fn told(failure: &Failure) -> String {
    let failure = hints::by_hand(failure.clone());
    let kind = if failure.class == ErrorClass::Warning { "warning" } else { "error" };
    let mut told = format!("{kind}: {} ({})\n", failure.message, failure.reason);
    if !failure.hint.is_empty() {
        told.push_str(&format!("hint: {}\n", failure.hint));
    }
    told
}

/// What is said beside the results.
pub(super) fn aside(text: &str) {
    terminal::tell(&format!("{text}\n"));
}

/// `1.30 GB`.
pub(super) fn bytes(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}

/// `8.2 s`, and from a minute on `00:02:25`.
pub(super) fn duration(duration: Duration) -> String {
    if duration < Duration::from_mins(1) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        FormattedDuration(duration).to_string()
    }
}

/// `1 table`, `2,000 tables`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(number), if number == 1 { "" } else { "s" })
}

/// `read 1.30 GB in 8.2 s, of which 48.00 MB are new: 16.00 MB stored`.
pub(super) fn byte_counts(counts: &ByteCounts, took: Duration) -> String {
    format!(
        "read {} in {}, of which {} are new: {} stored",
        bytes(counts.read),
        duration(took),
        bytes(counts.new),
        bytes(counts.stored)
    )
}

/// A line for each database, aligned. `left_out` says why one was.
pub(super) fn databases(databases: &[DatabaseReport], left_out: &str) {
    let rows: Vec<_> = databases.iter().map(row).collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let name_width = widths[0];
    for (database, row) in databases.iter().zip(rows) {
        let ([name, size, tables, rows, took], [_, w1, w2, w3, w4]) = (row, widths);
        match (database.outcome, &database.error) {
            (DatabaseOutcome::Succeeded, _) => line(&format!(
                "  {name:name_width$}  {size:>w1$}  {tables:>w2$}  {rows:>w3$}  {took:>w4$}"
            )),
            (DatabaseOutcome::Skipped, _) => {
                line(&format!("  {name:name_width$}  left out: {left_out}"));
            }
            (DatabaseOutcome::Failed, error) => {
                let error = error
                    .clone()
                    .unwrap_or_else(|| Failure::new(Reason::Unknown, "no reason is known"));
                let Failure { message, reason, hint, .. } = hints::by_hand(error);
                line(&format!("  {name:name_width$}  FAILED: {message} ({reason})"));
                if !hint.is_empty() {
                    line(&format!("  {:name_width$}  hint: {hint}", ""));
                }
            }
        }
        for warning in &database.warnings {
            line(&format!("  {:name_width$}  warning: {warning}", ""));
        }
        if let Some(left_out) = &database.left_out {
            line(&format!("  {:name_width$}  left out: {left_out}", ""));
        }
    }
}

/// Name, size, tables, rows, time; all but the name is empty where nothing was done.
fn row(database: &DatabaseReport) -> [String; 5] {
    let name = shown_name(database);
    if database.outcome != DatabaseOutcome::Succeeded {
        return [name, String::new(), String::new(), String::new(), String::new()];
    }
    [
        name,
        bytes(database.bytes),
        count(database.tables, "table"),
        count(database.rows, "row"),
        duration(Duration::from_millis(database.duration_milliseconds)),
    ]
}

fn shown_name(database: &DatabaseReport) -> String {
    renamed(&database.name, database.as_name.as_deref())
}

/// `shop`, or `shop as shop_before` where it has another name on the target.
pub(super) fn renamed(name: &str, as_name: Option<&str>) -> String {
    match as_name {
        Some(other) if other != name => format!("{name} as {other}"),
        _ => name.to_owned(),
    }
}
