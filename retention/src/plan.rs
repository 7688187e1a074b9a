//! The plan: each rule in turn says what it keeps; what no rule keeps may go.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::period::{Period, PeriodOf};
use crate::{DropReason, KeepReason, MadeBy, RetentionPolicy, Series, Snapshot, State, Verdict};

/// What becomes of one snapshot. Prints as a line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The snapshot.
    pub snapshot: Snapshot<'a>,
    /// What becomes of it.
    pub verdict: Verdict,
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.snapshot.id, self.verdict)
    }
}

/// What becomes of each snapshot of a series, the newest first.
///
/// `zone` is that of the schedule: it says where days begin. `now` should be the time of
/// the store rather than of this machine. It decides two things only: what lies in the
/// future, and when a `retainFor` has ended; nothing else goes because time passes.
///
/// The order of the input does not matter. Carrying the plan out and planning again
/// gives the same reasons for what is left. It takes one pass over the snapshots for
/// each rule, and a few hundred bytes for each snapshot, whatever the policy.
#[must_use]
pub fn plan_retention<'a>(
    series: &Series<'a>,
    policy: &RetentionPolicy,
    zone: &TimeZone,
    now: Timestamp,
) -> Vec<Decision<'a>> {
    let snapshots = series.newest_first();
    let mut plan = Plan::new(&snapshots, now);
    if policy.keeps_everything() {
        // But for what a person wanted until then.
        plan.keep_where(KeepReason::NoRules, |snapshot| !snapshot.has_an_end());
    }
    plan.keep_exempt();
    plan.keep_retained();
    plan.keep_newest_good();
    plan.keep_last(policy.last);
    if let Some(window) = policy.within {
        plan.keep_within(window);
    }
    let calendar: [(u32, PeriodOf); 5] = [
        (policy.hourly, Period::hour),
        (policy.daily, Period::day),
        (policy.weekly, Period::week),
        (policy.monthly, Period::month),
        (policy.yearly, Period::year),
    ];
    for (count, period_of) in calendar {
        plan.keep_newest_of_each(count, |time| period_of(time, zone));
    }
    plan.keep_minimum(policy.minimum);
    plan.decide()
}

/// A plan in the making: the snapshots, the newest first, and beside each why it is kept.
struct Plan<'s, 'a> {
    snapshots: &'s [Snapshot<'a>],
    reasons: Vec<Vec<KeepReason>>,
    now: Timestamp,
    newest_good: Option<Timestamp>,
}

impl<'s, 'a> Plan<'s, 'a> {
    fn new(snapshots: &'s [Snapshot<'a>], now: Timestamp) -> Self {
        let reasons = vec![Vec::new(); snapshots.len()];
        let mut plan = Self { snapshots, reasons, now, newest_good: None };
        plan.newest_good = plan.good().next().map(|index| snapshots[index].time);
        plan
    }

    /// The complete ones whose time has come. What lies in the future counts nowhere: it
    /// is kept, and changes nothing for the others.
    fn good(&self) -> impl Iterator<Item = usize> + use<'s, 'a> {
        let (snapshots, now) = (self.snapshots, self.now);
        let counts = move |&index: &usize| {
            let snapshot: &Snapshot<'_> = &snapshots[index];
            snapshot.is_good() && snapshot.time <= now
        };
        (0..snapshots.len()).filter(counts)
    }

    /// Those that the policy's `keep…` count: complete ones that the schedule made.
    fn counted(&self) -> impl Iterator<Item = usize> + use<'s, 'a> {
        let snapshots = self.snapshots;
        self.good().filter(move |&index| snapshots[index].is_scheduled())
    }

    fn keep(&mut self, index: usize, reason: KeepReason) {
        self.reasons[index].push(reason);
    }

    fn keep_where(&mut self, reason: KeepReason, kept: impl Fn(&Snapshot<'a>) -> bool) {
        for (snapshot, reasons) in self.snapshots.iter().zip(&mut self.reasons) {
            if kept(snapshot) {
                reasons.push(reason);
            }
        }
    }

    /// What no policy reaches.
    fn keep_exempt(&mut self) {
        let now = self.now;
        self.keep_where(KeepReason::Pinned, |snapshot| snapshot.pinned);
        self.keep_where(KeepReason::InUse, |snapshot| snapshot.in_use);
        self.keep_where(KeepReason::BeingMade, |snapshot| snapshot.state == State::BeingMade);
        self.keep_where(KeepReason::Unreadable, |snapshot| snapshot.state == State::Unreadable);
        self.keep_where(KeepReason::InTheFuture, |snapshot| snapshot.time > now);
    }

    /// What a person made, for as long as they said.
    fn keep_retained(&mut self) {
        for index in 0..self.snapshots.len() {
            match self.snapshots[index].made_by {
                MadeBy::Schedule => {}
                MadeBy::Person { retain_for: None } => self.keep(index, KeepReason::MadeByHand),
                MadeBy::Person { retain_for: Some(wanted) } => {
                    let until = after(self.snapshots[index].time, wanted);
                    if self.now < until {
                        self.keep(index, KeepReason::RetainedUntil(until));
                    }
                }
            }
        }
    }

    /// The newest complete one, and what is incomplete but not older: as long as nothing
    /// complete was made since, it may hold the only copy of a day's rows.
    fn keep_newest_good(&mut self) {
        if let Some(newest) = self.good().next() {
            self.keep(newest, KeepReason::NewestComplete);
        }
        let (newest_good, now) = (self.newest_good, self.now);
        self.keep_where(KeepReason::NothingCompleteSince, |snapshot| {
            snapshot.is_incomplete()
                && snapshot.time <= now
                && newest_good.is_none_or(|good| snapshot.time >= good)
        });
    }

    fn keep_last(&mut self, count: u32) {
        for index in self.counted().take(size(count)) {
            self.keep(index, KeepReason::Last(count));
        }
    }

    /// The window ends at the newest complete one and not now: of a schedule that
    /// stopped, nothing goes because time passes. It is no count, so what is incomplete
    /// takes nobody's place in it and stays too.
    fn keep_within(&mut self, window: Duration) {
        let Some(newest) = self.counted().next().or_else(|| self.good().next()) else { return };
        let (oldest, now) = (before(self.snapshots[newest].time, window), self.now);
        self.keep_where(KeepReason::Within(window), |snapshot| {
            (snapshot.is_good() || snapshot.is_incomplete())
                && snapshot.is_scheduled()
                && (oldest..=now).contains(&snapshot.time)
        });
    }

    /// The newest of each of the newest `count` periods that have one.
    fn keep_newest_of_each(&mut self, count: u32, period_of: impl Fn(Timestamp) -> Period) {
        let (mut left, mut newer) = (count, None);
        for index in self.counted() {
            if left == 0 {
                return;
            }
            let period = period_of(self.snapshots[index].time);
            if newer.is_none_or(|newer| period.is_before(newer)) {
                self.keep(index, KeepReason::NewestOf(period));
                newer = Some(period);
                left -= 1;
            }
        }
    }

    /// The newest so many complete ones of the schedule; where it has fewer, those that
    /// people made fill up. (To count what other rules keep would spare some, but then a
    /// policy that keeps more in one place could keep less in another.)
    fn keep_minimum(&mut self, count: u32) {
        let by_hand = self.good().filter(|&index| !self.snapshots[index].is_scheduled());
        for index in self.counted().chain(by_hand).take(size(count)).collect::<Vec<_>>() {
            self.keep(index, KeepReason::Minimum(count));
        }
    }

    fn decide(self) -> Vec<Decision<'a>> {
        let newest_good = self.newest_good;
        let decide = |(snapshot, reasons): (&Snapshot<'a>, Vec<KeepReason>)| {
            let verdict = if reasons.is_empty() {
                Verdict::Drop(why_dropped(snapshot, newest_good))
            } else {
                Verdict::Keep(reasons)
            };
            Decision { snapshot: *snapshot, verdict }
        };
        self.snapshots.iter().zip(self.reasons).map(decide).collect()
    }
}

fn why_dropped(snapshot: &Snapshot<'_>, newest_good: Option<Timestamp>) -> DropReason {
    match (snapshot.made_by, newest_good) {
        (MadeBy::Person { retain_for: Some(wanted) }, _) => {
            DropReason::RetainForEnded(after(snapshot.time, wanted))
        }
        (_, Some(complete)) if snapshot.is_incomplete() => DropReason::Incomplete { complete },
        _ => DropReason::NoRule,
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// `time` and so much later, or the end of time.
fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `time` and so much earlier, or the beginning of time.
fn before(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}
