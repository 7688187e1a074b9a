//! What maintenance tells: everything bounded, the gravest failure first.

use dbbackup_contract::{
    CheckSummary, CollectedReport, DamagedSnapshot, ExitCode, Failure, MAX_NAMED_OWNERS,
    MAX_NAMED_SNAPSHOTS, Reason,
};
use dbbackup_repository::{CheckReport, CollectReport};
use jiff::Timestamp;

/// Longest text of the first problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 512;

pub(super) fn collected(report: &CollectReport) -> CollectedReport {
    CollectedReport {
        deleted_objects: report.deleted_objects,
        deleted_bytes: report.deleted_bytes,
        condemned_objects: report.condemned_objects,
        condemned_bytes: report.condemned_bytes,
        repacked_bytes: report.repacked_bytes,
        waits_for: u32::try_from(report.blockers.len()).unwrap_or(u32::MAX),
    }
}

/// Of a check that looked at everything that was committed before `as_of`.
pub(super) fn checked_summary(report: &CheckReport, as_of: Option<Timestamp>) -> CheckSummary {
    let damaged = report.losses.iter().take(MAX_NAMED_SNAPSHOTS).map(|(id, loss)| {
        let owners = loss.owners.iter().filter(|_| !loss.all).take(MAX_NAMED_OWNERS);
        DamagedSnapshot { id: id.to_string(), databases: owners.cloned().collect() }
    });
    let first_problem = report.problems.first().map(|problem| {
        let mut text = problem.error.to_string();
        text.truncate(text.floor_char_boundary(MAX_PROBLEM_BYTES));
        text
    });
    CheckSummary {
        packs: report.packs,
        packs_read: report.packs_read,
        bytes_read: report.bytes_read,
        as_of,
        problems: report.problems.len() as u64,
        first_problem,
        damaged_snapshots: report.losses.len() as u64,
        damaged: damaged.collect(),
    }
}

/// What a check's findings mean, if there are any.
pub(super) fn damage(report: &CheckReport) -> Option<Failure> {
    let first = report.problems.first()?;
    let is_too_new = report
        .problems
        .iter()
        .all(|problem| problem.error.reason().exit_code() == Some(ExitCode::Incompatible));
    let reason = if is_too_new { first.error.reason() } else { Reason::RepositoryDamaged };
    let more = match report.problems.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let snapshots = match report.losses.len() {
        0 => "every snapshot can be restored".to_owned(),
        1 => "1 snapshot cannot be restored whole".to_owned(),
        many => format!("{many} snapshots cannot be restored whole"),
    };
    Some(Failure::new(reason, format!("the check found: {}{more}; {snapshots}", first.error)))
}

/// One failure for all parts: the gravest, and in its message the others.
pub(super) fn gravest(mut failures: Vec<Failure>) -> Option<Failure> {
    // A stop ends every part; a store that is away fails every part. Once is enough.
    failures.dedup_by_key(|failure| failure.reason);
    failures.sort_by_key(rank);
    let mut failures = failures.into_iter();
    let mut first = failures.next()?;
    let others: Vec<_> =
        failures.map(|other| format!("{} ({})", other.message, other.reason)).collect();
    if !others.is_empty() {
        let (hint, class) = (first.hint.clone(), first.class);
        let message = format!("{}; also: {}", first.message, others.join("; "));
        first = Failure::new(first.reason, message).with_hint(hint);
        first.class = class;
    }
    Some(first)
}

fn rank(failure: &Failure) -> u8 {
    match failure.reason {
        Reason::SnapshotsMissing => 0,
        _ if failure.exit_code() == ExitCode::Damaged => 1,
        Reason::TooMuchToDelete => 3,
        _ if failure.is_retryable() => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_failure_stands_for_all_and_names_the_others() {
        let failure = |reason| Failure::new(reason, format!("about {reason}"));
        let told = gravest(vec![
            failure(Reason::TooMuchToDelete),
            failure(Reason::StorageUnavailable),
            failure(Reason::StorageUnavailable),
            failure(Reason::RepositoryDamaged),
        ])
        .unwrap();
        assert_eq!(told.reason, Reason::RepositoryDamaged);
        assert_eq!(
            told.message,
            "about RepositoryDamaged; also: about TooMuchToDelete (TooMuchToDelete); \
             about StorageUnavailable (StorageUnavailable)"
        );
        assert_eq!(told.hint, Reason::RepositoryDamaged.hint());
        assert_eq!(gravest(Vec::new()), None);
    }
}
