//! Which snapshots a retention policy keeps, and which it lets go.

use std::collections::{BTreeMap, BTreeSet};

use dbbackup_contract::{Failure, Outcome, Reason};
use dbbackup_repository::{Repository, Snapshot, SnapshotId};
use dbbackup_retention::{RetentionPolicy, Series, State, Verdict, plan_retention};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How long snapshots are kept.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) rules: RetentionPolicy,
    /// Where days begin.
    pub(crate) zone: TimeZone,
}

/// What becomes of the snapshots of a repository.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Every snapshot of a series that has a policy, the newest of each series first.
    pub(crate) decisions: Vec<Decision>,
    /// Snapshots in all, those without a policy included.
    pub(crate) snapshots: usize,
}

/// What becomes of one snapshot.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) snapshot: SnapshotId,
    pub(crate) series: String,
    pub(crate) time: Timestamp,
    pub(crate) verdict: Verdict,
}

/// Makes the plan. `policy` says which policy a series has, if any.
///
/// # Errors
/// What the repository says.
pub(crate) async fn plan_forgetting<'p>(
    repository: &Repository,
    policy: impl Fn(&str) -> Option<&'p Policy>,
    now: Timestamp,
) -> Result<Plan, Failure> {
    let pinned = repository.pinned().await?;
    let list = repository.snapshots(None).await?;
    let mut plan =
        Plan { snapshots: list.snapshots.len() + list.unreadable.len(), decisions: Vec::new() };
    let mut by_series = BTreeMap::<&str, Vec<&Snapshot>>::new();
    for snapshot in &list.snapshots {
        by_series.entry(&snapshot.about().series).or_default().push(snapshot);
    }
    for (name, snapshots) in by_series {
        if let Some(policy) = policy(name) {
            plan.decisions.extend(plan_series(name, &snapshots, &pinned, policy, now)?);
        }
    }
    Ok(plan)
}

fn plan_series(
    name: &str,
    snapshots: &[&Snapshot],
    pinned: &BTreeSet<SnapshotId>,
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<Decision>, Failure> {
    let mut series = Series::new(name);
    for snapshot in snapshots {
        let known = dbbackup_retention::Snapshot {
            id: snapshot.id().as_str(),
            time: snapshot.about().slot_time,
            state: state(snapshot),
            made_by: snapshot.about().made_by.into(),
            pinned: pinned.contains(snapshot.id()),
            // Readers keep what they read by themselves.
            in_use: false,
        };
        series
            .add(&snapshot.about().series, known)
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
    }
    plan_retention(&series, &policy.rules, &policy.zone, now)
        .into_iter()
        .map(|decision| {
            Ok(Decision {
                snapshot: SnapshotId::parse(decision.snapshot.id)?,
                series: name.to_owned(),
                time: decision.snapshot.time,
                verdict: decision.verdict,
            })
        })
        .collect()
}

/// What the run that made it has said of itself. What is no backup of databases
/// has no outcome, and is complete once it is committed.
fn state(snapshot: &Snapshot) -> State {
    match snapshot.report().get("outcome") {
        None => State::Ended(Outcome::Succeeded),
        Some(outcome) => {
            serde_json::from_value(outcome.clone()).map_or(State::Unreadable, State::Ended)
        }
    }
}

impl Plan {
    /// What it lets go.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|decision| !decision.verdict.is_kept())
    }

    /// The share of all snapshots that it lets go, in percent, rounded up.
    pub(crate) fn percent(&self) -> u64 {
        let dropped = self.dropped().count() as u64;
        (dropped * 100).div_ceil((self.snapshots as u64).max(1))
    }

    /// A digest of what it lets go: who approves of it approves of just that.
    pub(crate) fn digest(&self) -> String {
        let names: BTreeSet<_> = self.dropped().map(|gone| gone.snapshot.as_str()).collect();
        let text: String = names.into_iter().flat_map(|name| [name, "\n"]).collect();
        format!("sha256:{}", dbbackup_repository::sha256_hex(text.as_bytes()))
    }

    /// Refuses a plan that lets go of more than `limit` percent, unless it was approved.
    ///
    /// # Errors
    /// `TooMuchToDelete`.
    pub(crate) fn allowed(&self, limit: Option<u8>, approved: Option<&str>) -> Result<(), Failure> {
        let (percent, digest) = (self.percent(), self.digest());
        match limit {
            Some(limit) if percent > u64::from(limit) && approved != Some(digest.as_str()) => {
                let message = format!(
                    "{} of {} snapshots would be let go ({percent} %), more than the {limit} % \
                     that are allowed; the plan is {digest}",
                    self.dropped().count(),
                    self.snapshots,
                );
                Err(Failure::new(Reason::TooMuchToDelete, message))
            }
            _ => Ok(()),
        }
    }
}
