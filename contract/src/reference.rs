//! The page about failures and exit codes, written from the tables.

use std::fmt::Write as _;

use crate::{ErrorClass, ExitCode, Reason, ReasonEntry};

const HEAD: &str = "\
<!-- Written by `make generate` from contract/src/reason.rs; do not edit. -->
# Failures

Every failure has a stable *reason*: conditions, events, metrics and the runner's messages use the
same one. A *retryable* failure is tried again by itself; a *fatal* one waits for somebody.

    kubectl get dbbackup -A            # one line for each object: is it fine?
    kubectl describe backup NAME       # the reason, what happened, what to do, the events

## Where a failure shows

| kind | while it goes on or waits | once it has ended | tried again |
|---|---|---|---|
| `Backup`, `RestoreRequest`, `PitrRestore` | phase `Pending`, `Validating` or `Running`; `Ready=False`, `Reconciling=True` | phase `Failed` or `PartiallyFailed`; `Ready=False`, `Stalled=True`, `Failed=True` | by its Job, three times, with pauses of 10, 20 and 40 seconds; never once it has ended |
| `BackupRepository` | retryable: `Ready=False`, `Reconciling=True` | fatal: `Ready=False`, `Stalled=True` | both within a minute for the first hour, then every five minutes |
| `BackupSchedule` | `Ready=False`, `Reconciling=True` while its repository is not ready | a spec that cannot be carried out: `Ready=False`, `Stalled=True`; a last backup that failed or left out databases: `Ready=False` with its reason, `Reconciling=True` where that was retryable, else `Stalled=True` | at each slot, ready or not; a changed spec at once |

The maintenance of a `BackupRepository` has conditions of its own, `Maintained` and `Intact`; `Ready` does not
change with them, and it is tried again at its next slot. A copy of a `Backup` (`status.copies`) has a failure
of its own, which changes neither phase nor conditions of the `Backup`; it is tried again after a minute, then
after twice as long each time, up to six hours. The `BackupSchedule` tells of it by its condition `Copied`.

What a `BackupSchedule` tells somebody of a `Backup` (`status.notifications`) is likewise apart: it is tried again for
about 40 minutes and then given up. The condition `Notified` tells of it.

The conditions have the reason as their `reason`; their message says what happened, then what to do.
`status.error` of a `Backup`, a `RestoreRequest` and a `PitrRestore` has class, reason, message and hint apart, and
each database in `status.databases` has its own. An event of type `Warning` with the reason as its
own is written when a run has ended, at each attempt to open a repository that failed, for a slot
that was left out, and for hooks that failed beside a backup that did not. What keeps a pod from starting (image, node, claim, quota) is told while it waits,
with the time at which it is given up (`job.startTimeout`), and is the reason of the failure then.

Metrics: `dbbackup_failures_total{kind, reason}` counts the events above;
`dbbackup_backup_last_failure{namespace, schedule, reason}` is 1 while the newest backup of a schedule
that ended has failed for that reason.

A `BackupSchedule` is ready again when its next backup has succeeded, by its slot or by hand. Its
backups run whether it is ready or not.

A case may carry a hint that fits it better than the general one of the table.

## The reasons

The exit code is that of the runner; reasons without one are seen by the operator from outside.

| reason | meaning | class | exit code | seen on | what to do |
|---|---|---|---|---|---|
";

const EXIT_CODES: &str = "
## Exit codes of the runner

Codes 64–79 are permanent: a Job does not try again. A signal's code (137, 143) is none of ours.

| code | meaning |
|---|---|
";

/// The page as Markdown: `docs/failures.md`.
#[must_use]
pub fn failures_page() -> String {
    let mut page = String::from(HEAD);
    for entry in Reason::TABLE {
        page.push_str(&line(entry));
    }
    page.push_str(EXIT_CODES);
    for code in ExitCode::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {} | {} |", code.code(), code.meaning());
    }
    page
}

fn line(entry: &ReasonEntry) -> String {
    let reason = entry.reason;
    let code = match (reason.exit_code(), reason.class()) {
        (None, _) => "–".to_owned(),
        (Some(_), ErrorClass::Retryable) => ExitCode::Retryable.code().to_string(),
        (Some(code), _) => code.code().to_string(),
    };
    let kinds = match entry.kinds {
        [] => "the command line".to_owned(),
        kinds => kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", "),
    };
    format!(
        "| `{reason}` | {} | {:?} | {code} | {kinds} | {} |\n",
        entry.meaning.trim(),
        reason.class(),
        reason.hint().replace('|', "\\|"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_failures_is_what_the_tables_say() {
        let committed = include_str!("../../docs/failures.md");
        assert!(
            committed == failures_page(),
            "docs/failures.md is out of date: run `make generate`"
        );
    }
}
