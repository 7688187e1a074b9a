//! Which snapshots a retention policy keeps, and which it lets go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dbbackup_contract::{Failure, MadeBy, Outcome, Reason};
use dbbackup_repository::{Listed, Repository, Snapshot, SnapshotId};
use dbbackup_retention::{RetentionPolicy, Series, State, Verdict, plan_retention};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How long snapshots are kept.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) rules: RetentionPolicy,
    /// Where days begin.
    pub(crate) zone: TimeZone,
    /// Whether it reaches those alone for which another time is wanted.
    pub(crate) asked_alone: bool,
}

impl Policy {
    /// Of a series that nobody has a policy for, and of which single snapshots are wanted
    /// for a while: all others stay.
    pub(crate) fn of_those_asked_for() -> Self {
        Self { rules: RetentionPolicy::default(), zone: TimeZone::UTC, asked_alone: true }
    }
}

/// What becomes of the snapshots of a repository.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Every snapshot of a series that has a policy, the newest of each series first.
    pub(crate) decisions: Vec<Decision>,
    /// Snapshots in all, those without a policy included.
    pub(crate) snapshots: usize,
    /// Bytes of those that can be read, as they would be restored.
    pub(crate) logical_bytes: u64,
    /// Snapshots that were let go before, and whose heads are still there.
    pub(crate) let_go_before: Vec<SnapshotId>,
}

/// What becomes of one snapshot.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) snapshot: SnapshotId,
    pub(crate) series: Arc<str>,
    pub(crate) time: Timestamp,
    /// Its bytes, as they would be restored.
    pub(crate) bytes: u64,
    pub(crate) verdict: Verdict,
}

/// For how long snapshots are wanted now, if otherwise than when they were made: in
/// seconds, or for ever. For ever is said only of what was made by hand.
pub(crate) type RetainChanges = BTreeMap<SnapshotId, Option<u64>>;

/// What retention knows of a snapshot: about 200 bytes.
#[derive(Debug)]
struct Known {
    id: SnapshotId,
    time: Timestamp,
    state: State,
    made_by: MadeBy,
    bytes: u64,
}

/// Makes the plan. `policy` says which policy a series has, if any. One head after the
/// other is read, and little of it kept.
///
/// # Errors
/// What the repository says.
pub(crate) async fn plan_forgetting<'p>(
    repository: &Repository,
    policy: impl Fn(&str) -> Option<&'p Policy>,
    retain: &RetainChanges,
    now: Timestamp,
) -> Result<Plan, Failure> {
    let pinned = repository.pinned().await?;
    let mut plan = Plan::default();
    let mut by_series = BTreeMap::<Arc<str>, Vec<Known>>::new();
    let see = |listed| match listed {
        Listed::LetGo(id) => plan.let_go_before.push(id),
        Listed::Unreadable(..) => plan.snapshots += 1,
        Listed::Snapshot(snapshot) => {
            plan.snapshots += 1;
            plan.logical_bytes += snapshot.about().bytes.read;
            let series = snapshot.about().series.as_str();
            let Some(policy) = policy(series) else { return };
            let known = known(&snapshot, retain, policy);
            match by_series.get_mut(series) {
                Some(all) => all.push(known),
                None => _ = by_series.insert(series.into(), vec![known]),
            }
        }
    };
    repository.each_snapshot(see).await?;
    for (name, snapshots) in by_series {
        if let Some(policy) = policy(&name) {
            plan.decisions.extend(plan_series(&name, snapshots, &pinned, policy, now)?);
        }
    }
    Ok(plan)
}

fn known(snapshot: &Snapshot, retain: &RetainChanges, policy: &Policy) -> Known {
    let about = snapshot.about();
    let made_by = match (about.made_by, retain.get(snapshot.id())) {
        (MadeBy::Person { .. }, Some(seconds)) => MadeBy::Person { retain_for_seconds: *seconds },
        (MadeBy::Schedule, Some(seconds @ Some(_))) => {
            MadeBy::Person { retain_for_seconds: *seconds }
        }
        _ if policy.asked_alone => MadeBy::Person { retain_for_seconds: None },
        (made_by, _) => made_by,
    };
    Known {
        id: snapshot.id().clone(),
        time: about.slot_time,
        state: state(snapshot),
        made_by,
        bytes: about.bytes.read,
    }
}

fn plan_series(
    name: &Arc<str>,
    snapshots: Vec<Known>,
    pinned: &BTreeSet<SnapshotId>,
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<Decision>, Failure> {
    let internal = |why: String| Failure::new(Reason::Internal, why);
    let mut series = Series::new(name);
    for snapshot in &snapshots {
        let known = dbbackup_retention::Snapshot {
            id: snapshot.id.as_str(),
            time: snapshot.time,
            state: snapshot.state,
            made_by: snapshot.made_by.into(),
            pinned: pinned.contains(&snapshot.id),
            // Readers keep what they read by themselves.
            in_use: false,
        };
        series.add(name, known).map_err(|error| internal(error.to_string()))?;
    }
    let bytes: BTreeMap<&str, u64> =
        snapshots.iter().map(|known| (known.id.as_str(), known.bytes)).collect();
    plan_retention(&series, &policy.rules, &policy.zone, now)
        .into_iter()
        .map(|decision| {
            Ok(Decision {
                snapshot: SnapshotId::parse(decision.snapshot.id)?,
                series: Arc::clone(name),
                time: decision.snapshot.time,
                bytes: bytes.get(decision.snapshot.id).copied().unwrap_or(0),
                verdict: decision.verdict,
            })
        })
        .collect()
}

/// What the run that made it has said of itself. What is no backup of databases
/// has no outcome, and is complete once it is committed. What was written off is
/// nobody's good one.
fn state(snapshot: &Snapshot) -> State {
    if snapshot.written_off().is_some() {
        return State::Ended(Outcome::Failed);
    }
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
