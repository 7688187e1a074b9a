//! Maintenance: pins, what is let go, what is freed, a check; each part whether or not
//! the others succeed.
//!
//! Memory: of each snapshot about 200 bytes for the plan, and what the collector and the
//! check hold of packs and heads, one after the other (`repository`: about 60 and 300
//! bytes a pack). So for a tebibyte of packs and 10,000 snapshots it is about 30 MB.

mod logs;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use dbbackup_contract::{
    Failure, MAX_LET_GO, MaintainAction, MaintainReport, Outcome, ProgressPhase, Reason,
    SeriesRetention, UsageReport, listed,
};
use dbbackup_repository::{
    CheckLevel, CheckOptions, CollectOptions, CollectReport, Error, ForgetReason, RepackOptions,
    Repository, Sample, SnapshotId,
};
use dbbackup_retention::RetentionPolicy;
use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(crate) use self::logs::tidy_logs;
use self::summary::{checked_summary, collected, damage, gravest};
use super::open::named;
use super::plan::{Plan, Policy, RetainChanges, plan_forgetting};
use super::{Order, checked};

/// Most ids that a message names.
const NAMED: usize = 5;
/// What was committed so shortly before a check began may be missing in its listings: they
/// may lag, and a volume's times are those of before a file was put in place.
const LISTINGS_ARE_BEHIND: Duration = Duration::from_secs(600);

/// Maintains the repository, and tells what came of it.
pub(crate) async fn maintain(order: &Order<'_>, action: &MaintainAction) -> MaintainReport {
    let mut work = Maintenance {
        order,
        action,
        report: MaintainReport::begun(Timestamp::now()),
        failures: Vec::new(),
        logical_bytes: None,
    };
    match order.open().await {
        Ok(repository) => work.all(&repository).await,
        Err(failure) => work.failures.push(failure),
    }
    work.ended()
}

/// A maintenance at work.
struct Maintenance<'a> {
    order: &'a Order<'a>,
    action: &'a MaintainAction,
    report: MaintainReport,
    /// What failed, part by part.
    failures: Vec<Failure>,
    /// Snapshots that are left, and their bytes, once they were counted.
    logical_bytes: Option<(u64, u64)>,
}

impl Maintenance<'_> {
    async fn all(&mut self, repository: &Repository) {
        self.order.board.phase(ProgressPhase::Transferring);
        // Nothing is let go before every pin holds that is wanted.
        if let Err(failure) = self.let_go(repository).await {
            self.failures.push(failure);
        }
        // What stops a collection leaves open which bases there are.
        let collected = match self.collect(repository).await {
            Ok(()) => self.tidy_logs(repository).await,
            failed => failed,
        };
        if let Err(failure) = collected {
            self.failures.push(failure);
        }
        if let Err(failure) = self.remove_foreign_slots(repository).await {
            self.failures.push(failure);
        }
        self.order.board.phase(ProgressPhase::Verifying);
        if let Err(failure) = self.check(repository).await {
            self.failures.push(failure);
        }
    }

    async fn let_go(&mut self, repository: &Repository) -> Result<(), Failure> {
        let action = self.action;
        for id in ids(&action.pin)? {
            let pinning = repository.pin(&id, "pinned of its Backup");
            if self.is_done(&id, self.order.step(as_is(pinning)).await?)? {
                self.report.pinned.push(id.to_string());
            }
        }
        for id in ids(&action.unpin)? {
            let unpinning = repository.unpin(&id, "pinned of its Backup was taken back");
            if self.is_done(&id, self.order.step(as_is(unpinning)).await?)? {
                self.report.unpinned.push(id.to_string());
            }
        }
        for id in ids(&action.erase)? {
            let erasing = repository.forget(&id, ForgetReason::Erase, "erase of its Backup");
            match self.order.step(as_is(erasing)).await? {
                Err(error @ Error::Pinned(_)) => self.failures.push(error.into()),
                done => {
                    if self.is_done(&id, done)? {
                        self.gone(&id);
                    }
                }
            }
        }
        self.alarm();
        self.apply_policies(repository).await
    }

    /// Whether what was decided about a snapshot is written down. That it was let go
    /// before, or that it is not there, is told, and is no reason to stop.
    fn is_done(&mut self, id: &SnapshotId, done: Result<(), Error>) -> Result<bool, Failure> {
        match done {
            Ok(()) => Ok(true),
            Err(Error::Forgotten(_)) => {
                self.report.let_go.push(id.to_string());
                Ok(false)
            }
            Err(Error::SnapshotNotFound(_)) => {
                self.report.missing.push(id.to_string());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn gone(&mut self, id: &SnapshotId) {
        self.report.let_go_count += 1;
        self.report.let_go.push(id.to_string());
    }

    /// The cluster knows snapshots that are not there, and that nobody has let go.
    fn alarm(&mut self) {
        if !self.report.missing.is_empty() {
            let missing = listed(&self.report.missing, NAMED);
            let message = format!("snapshots are gone that nobody has let go: {missing}");
            self.failures.push(Failure::new(Reason::SnapshotsMissing, message));
        }
    }

    async fn apply_policies(&mut self, repository: &Repository) -> Result<(), Failure> {
        let (policies, refused) = policies(&self.action.series);
        self.failures.extend(refused);
        let mut retain = RetainChanges::new();
        for change in &self.action.retain {
            retain.insert(SnapshotId::parse(&change.snapshot)?, change.seconds);
        }
        let (asked, of_asked) =
            (self.series_of(repository, &retain).await?, Policy::of_those_asked_for());
        let policy =
            |name: &str| policies.get(name).or_else(|| asked.contains(name).then_some(&of_asked));
        let now = self.order.step(repository.store_time()).await?;
        let now = Timestamp::try_from(now).unwrap_or_else(|_| Timestamp::now());
        let planning = plan_forgetting(repository, policy, &retain, now);
        let plan = self.order.step(planning).await?;
        self.tell_let_go_before(&plan);
        self.logical_bytes = Some((plan.snapshots as u64, plan.logical_bytes));
        let (limit, approved) = (self.action.max_delete_percent, &self.action.approved_plan);
        if let Err(failure) = plan.allowed(Some(limit), approved.as_deref()) {
            self.report.waiting_plan = Some(plan.digest());
            // Whoever has to approve of it reads it in the log.
            for gone in plan.dropped().take(MAX_LET_GO) {
                tracing::info!(snapshot = %gone.snapshot, detail = %gone.verdict, "would be let go");
            }
            return Err(failure);
        }
        self.forget(repository, &plan).await
    }

    /// The series of snapshots for which another time is wanted: no schedule may stand for
    /// them, such as those of an imported one. What is gone or cannot be read has none.
    async fn series_of(
        &self,
        repository: &Repository,
        retain: &RetainChanges,
    ) -> Result<BTreeSet<String>, Failure> {
        let mut series = BTreeSet::new();
        for id in retain.keys() {
            match self.order.step(as_is(repository.find(id.as_str()))).await? {
                Ok(found) => _ = series.insert(found.about().series.clone()),
                Err(error @ Error::Storage(_)) => return Err(error.into()),
                Err(error) => tracing::debug!(%id, %error, "has no series"),
            }
        }
        Ok(series)
    }

    /// Carries the plan out, the oldest first. One whose pin was quicker stays.
    async fn forget(&mut self, repository: &Repository, plan: &Plan) -> Result<(), Failure> {
        let mut dropped: Vec<_> = plan.dropped().collect();
        dropped.sort_by_key(|gone| gone.time);
        let later = dropped.len().saturating_sub(MAX_LET_GO);
        self.report.let_go_later = later as u64;
        for gone in dropped.iter().take(MAX_LET_GO) {
            let detail = gone.verdict.to_string();
            let forgetting = repository.forget(&gone.snapshot, ForgetReason::Retention, &detail);
            match self.order.step(as_is(forgetting)).await? {
                Err(Error::Pinned(_)) => {}
                done => {
                    done?;
                    self.gone(&gone.snapshot);
                    if let Some((count, bytes)) = &mut self.logical_bytes {
                        *count = count.saturating_sub(1);
                        *bytes = bytes.saturating_sub(gone.bytes);
                    }
                    tracing::info!(snapshot = %gone.snapshot, %detail, "let go");
                }
            }
        }
        Ok(())
    }

    fn tell_let_go_before(&mut self, plan: &Plan) {
        let known: BTreeSet<_> = self.report.let_go.iter().cloned().collect();
        let before = plan.let_go_before.iter().map(ToString::to_string);
        self.report.let_go.extend(before.filter(|id| !known.contains(id)));
    }

    async fn collect(&mut self, repository: &Repository) -> Result<(), Failure> {
        let options = CollectOptions {
            grace: Duration::from_secs(self.action.grace_seconds),
            max_delete_percent: Some(self.action.max_delete_percent),
            approved_plan: self.action.approved_plan.clone(),
            dry_run: false,
            repack: Some(RepackOptions::default()),
        };
        let mut report = CollectReport::default();
        let done = as_is(repository.collect_into(&options, &mut report));
        let done = self.order.step(done).await?;
        // Before the repository was listed nothing is known, and nothing was done.
        if done.is_ok() || report.stored_bytes > 0 {
            let stored_bytes = report.stored_bytes.saturating_sub(report.deleted_bytes);
            self.report.usage = self.logical_bytes.map(|(snapshot_count, logical_bytes)| {
                UsageReport { snapshot_count, logical_bytes, stored_bytes }
            });
            self.report.collected = Some(collected(&report));
        }
        match done {
            Ok(()) => Ok(()),
            Err(Error::TooMuchToDelete { percent, limit, plan }) => {
                self.report.waiting_plan.get_or_insert_with(|| plan.clone());
                Err(Error::TooMuchToDelete { percent, limit, plan }.into())
            }
            Err(Error::SnapshotsMissing(gone)) => {
                let known: BTreeSet<_> = self.report.missing.iter().cloned().collect();
                self.report.missing.extend(gone.iter().filter(|id| !known.contains(*id)).cloned());
                Err(Error::SnapshotsMissing(gone).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn remove_foreign_slots(&mut self, repository: &Repository) -> Result<(), Failure> {
        if repository.is_encrypted() {
            let now = self.order.step(repository.store_time()).await?;
            let removed = self.order.step(repository.remove_foreign_key_slots(now)).await?;
            self.report.removed_foreign_slots = removed.len() as u64;
        }
        Ok(())
    }

    async fn check(&mut self, repository: &Repository) -> Result<(), Failure> {
        let share = self.action.check;
        let options = match share.read_percent {
            0 => CheckLevel::Structure.into(),
            percent => {
                let hundredths = u16::from(percent.min(100)) * 100;
                let sample = Sample::share(hundredths, share.number);
                CheckOptions { sample, ..CheckLevel::Data.into() }
            }
        };
        let options = CheckOptions { new_since: share.new_since.map(SystemTime::from), ..options };
        // On a full store it cannot be told, and the check is done all the same.
        let now = self.order.step(as_is(repository.store_time())).await?.ok();
        let found = checked(repository, options, self.order.board, self.order.cancel).await?;
        let as_of = now.and_then(|now| Timestamp::try_from(now).ok());
        let as_of = as_of.and_then(|now| now.checked_sub(LISTINGS_ARE_BEHIND).ok());
        self.report.check = Some(checked_summary(&found, as_of));
        damage(&found).map_or(Ok(()), Err)
    }

    fn ended(mut self) -> MaintainReport {
        for list in [&mut self.report.let_go, &mut self.report.missing] {
            list.truncate(MAX_LET_GO);
        }
        let failures = std::mem::take(&mut self.failures).into_iter();
        let failures = failures.map(|failure| named(failure, &self.order.repository.name));
        self.report.error = gravest(failures.collect());
        self.report.outcome = match &self.report.error {
            None => Outcome::Succeeded,
            Some(_) if self.report.has_changed_anything() => Outcome::PartiallyFailed,
            Some(_) => Outcome::Failed,
        };
        self.report.completion_time = Timestamp::now();
        self.report
    }
}

/// Lets an error of the repository through, for a look at it: only a stop ends the step.
async fn as_is<T>(
    work: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, Failure> {
    Ok(work.await)
}

fn ids(texts: &[String]) -> Result<Vec<SnapshotId>, Failure> {
    texts.iter().map(|text| Ok(SnapshotId::parse(text)?)).collect()
}

/// The policies by series, and why some cannot be carried out: their series keep all.
fn policies(series: &[SeriesRetention]) -> (BTreeMap<&str, Policy>, Vec<Failure>) {
    let (mut policies, mut refused) = (BTreeMap::new(), Vec::new());
    for SeriesRetention { series, retention, time_zone } in series {
        let rules = retention.as_ref().map(RetentionPolicy::of).transpose();
        let rules = rules.map(Option::unwrap_or_default).map_err(|error| error.to_string());
        let zone = TimeZone::get(time_zone).map_err(|_| format!("{time_zone:?} is no time zone"));
        match rules.and_then(|rules| Ok(Policy { rules, zone: zone?, asked_alone: false })) {
            Ok(policy) => _ = policies.insert(series.as_str(), policy),
            Err(why) => {
                refused.push(Failure::new(Reason::InvalidSpec, format!("{series}: {why}")));
            }
        }
    }
    (policies, refused)
}

#[cfg(test)]
mod tests;
