//! Archived logs: what others replace of them, and what no base needs any more, goes.
//!
//! After the collection: the head of a base that was let go is removed there, once nobody reads it any
//! more, and until then its log is needed like its files.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use dbbackup_contract::{BackupReport, Failure, LogPosition, Reason, SHORTEST_GRACE};
use dbbackup_repository::{Error, Listed, LogId, Repository, Snapshot};
use tokio_util::sync::CancellationToken;

use super::Maintenance;
use crate::patience::unless_stopped;
use crate::work::archive::archived;
use crate::work::backup::BASE_KIND;

impl Maintenance<'_> {
    /// Tidies all logs, unless snapshots are gone that nobody has let go: bases may be among them.
    pub(super) async fn tidy_logs(&mut self, repository: &Repository) -> Result<(), Failure> {
        if !self.report.missing.is_empty() {
            return Ok(());
        }
        let grace = Duration::from_secs(self.action.grace_seconds);
        tidy_logs(repository, grace, &mut self.report.deleted_log_parts, self.order.cancel).await
    }
}

/// Tidies all logs: what was written within the `grace` period stays. Parts that were deleted are
/// counted in `deleted`.
///
/// # Errors
/// What the repository says, of the first log that could not be tidied; the others are.
pub(crate) async fn tidy_logs(
    repository: &Repository,
    grace: Duration,
    deleted: &mut u64,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let logs = unless_stopped(cancel, repository.logs()).await?;
    if logs.is_empty() {
        return Ok(());
    }
    let bases = unless_stopped(cancel, Bases::gather(repository)).await?;
    let now = unless_stopped(cancel, repository.store_time()).await?;
    let young = now.checked_sub(grace.max(SHORTEST_GRACE)).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut failed = None;
    for log in &logs {
        let tidying = tidy(repository, log, &bases, young, deleted);
        match unless_stopped(cancel, tidying).await {
            Ok(()) => {}
            Err(failure) if failure.reason == Reason::Interrupted => return Err(failure),
            Err(failure) => failed = failed.or(Some(failure)),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn tidy(
    repository: &Repository,
    log: &LogId,
    bases: &Bases,
    young: SystemTime,
    deleted: &mut u64,
) -> Result<(), Failure> {
    let reader = repository.read_log(log).await?;
    let unneeded = match bases.starts(log) {
        Some(starts) => archived(&reader)?.unneeded(starts),
        None => Vec::new(),
    };
    let before = *deleted;
    let tidied = reader.tidy(&unneeded, young, deleted).await;
    if *deleted > before {
        tracing::info!(log = log.as_str(), parts = *deleted - before, "parts of a log deleted");
    }
    Ok(tidied?)
}

/// From where on the bases that are there need the logs of their servers.
#[derive(Default)]
struct Bases {
    /// `None` where that of one base is not known.
    of_logs: BTreeMap<LogId, Option<Vec<LogPosition>>>,
    /// Whether there is one of which even the log is not known.
    is_any_unknown: bool,
}

impl Bases {
    /// Reads all heads, also those of snapshots that were let go: who reads one goes on.
    async fn gather(repository: &Repository) -> Result<Self, Error> {
        let (mut bases, mut let_go) = (Self::default(), Vec::new());
        let see = |listed| match listed {
            Listed::Snapshot(snapshot) => bases.add(repository, &snapshot),
            Listed::Unreadable(..) => bases.is_any_unknown = true,
            Listed::LetGo(id) => let_go.push(id),
        };
        repository.each_snapshot(see).await?;
        for id in let_go {
            match repository.head_at(&id).await {
                Ok(Some(snapshot)) => bases.add(repository, &snapshot),
                Ok(None) => {}
                Err(error @ Error::Storage(_)) => return Err(error),
                Err(_) => bases.is_any_unknown = true,
            }
        }
        Ok(bases)
    }

    fn add(&mut self, repository: &Repository, snapshot: &Snapshot) {
        let about = snapshot.about();
        if about.kind != BASE_KIND {
            return;
        }
        let report = serde_json::from_value::<BackupReport>(snapshot.report().clone()).ok();
        let Some((report, server)) = report.and_then(|mut report| {
            let server = report.server.take()?;
            Some((report, server))
        }) else {
            self.is_any_unknown = true;
            return;
        };
        let log = repository.log_id(&about.series, &server.identity);
        let known = self.of_logs.entry(log).or_insert_with(|| Some(Vec::new()));
        match (report.log_start, known.as_mut()) {
            (Some(start), Some(starts)) => starts.push(start),
            // A release before has not said it.
            (None, _) => *known = None,
            (Some(_), None) => {}
        }
    }

    /// Where the log of each base begins; `None` where there is no base, or nobody knows.
    fn starts(&self, log: &LogId) -> Option<&[LogPosition]> {
        let starts = self.of_logs.get(log).and_then(Option::as_deref);
        starts.filter(|starts| !self.is_any_unknown && !starts.is_empty())
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
