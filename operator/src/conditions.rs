//! Conditions as kstatus reads them, so that GitOps tools and `kubectl wait` wait rightly.

use dbbackup_contract::Failure;
use dbbackup_crds::{Condition, Time};
use jiff::Timestamp;

use crate::reasons::{self, COMPLETE, FAILED, READY, RECONCILING, STALLED};
use crate::run::Waiting;

/// How an object is, in one word. `Reconciling` and `Stalled` never stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Fine.
    Ready,
    /// On its way.
    Reconciling,
    /// Not before somebody changes something.
    Stalled,
    /// A one-shot object that did what it was for.
    Complete,
    /// A one-shot object that ended otherwise.
    Failed,
}

/// An object's standing, with its reason and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The standing.
    pub standing: Standing,
    /// Stable name of the cause.
    pub reason: String,
    /// What happened, and what a person can do.
    pub message: String,
}

impl Verdict {
    /// A verdict that is no failure.
    #[must_use]
    pub fn new(standing: Standing, reason: &str, message: impl Into<String>) -> Self {
        Self { standing, reason: reason.to_owned(), message: message.into() }
    }

    /// A failure as a verdict: the message, and the hint as a sentence behind it.
    #[must_use]
    pub fn of_failure(standing: Standing, failure: &Failure) -> Self {
        Self::new(standing, failure.reason.as_str(), sentence(failure))
    }

    /// A run whose first or next pod has not started.
    #[must_use]
    pub fn of_start(waiting: &Waiting) -> Self {
        match (&waiting.cause, &waiting.last_failure) {
            (Some(cause), _) => {
                let (until, words) = (to_seconds(waiting.until), sentence(cause));
                let dot = if words.ends_with('.') { "" } else { "." };
                let message =
                    format!("{words}{dot} It is given up at {until} ({}).", waiting.limit);
                Self::new(Standing::Reconciling, cause.reason.as_str(), message)
            }
            (None, Some(last)) => {
                let (before, now) = (waiting.attempt.saturating_sub(1), waiting.attempt);
                let words = sentence(last);
                let message = format!("attempt {before} failed, {now} is on its way: {words}");
                Self::new(Standing::Reconciling, last.reason.as_str(), message)
            }
            (None, None) => {
                Self::new(Standing::Reconciling, reasons::STARTING, "the Job's pod is starting")
            }
        }
    }

    /// A run that goes on: `the backup` runs.
    #[must_use]
    pub fn of_attempt(run: &str, attempt: u32, last_failure: Option<&Failure>) -> Self {
        match last_failure {
            None => Self::new(Standing::Reconciling, reasons::RUNNING, format!("{run} runs")),
            Some(last) => {
                let words = sentence(last);
                let message = format!("attempt {attempt} runs; the one before failed: {words}");
                Self::new(Standing::Reconciling, last.reason.as_str(), message)
            }
        }
    }
}

/// Message and hint: `server refused the password of alice. Correct the secret …`
#[must_use]
pub fn sentence(failure: &Failure) -> String {
    if failure.hint.is_empty() {
        failure.message.clone()
    } else {
        format!("{}. {}", failure.message.trim_end_matches('.'), failure.hint)
    }
}

/// The failure with which a one-shot object has ended, as it is told: it is not
/// tried again, though the hint may read as if.
#[must_use]
pub fn ended(failure: &Failure, attempts: u32) -> Failure {
    let mut told = failure.clone();
    told.message = format!("{}{}", crate::display::gave_up(failure, attempts), told.message);
    if !told.hint.contains("reate another") {
        told.hint = format!("{} This object has ended; create another one.", told.hint);
        told.hint = told.hint.trim_start().to_owned();
    }
    told
}

/// Types of conditions that a verdict speaks of.
const OF_VERDICT: [&str; 5] = [READY, RECONCILING, STALLED, COMPLETE, FAILED];

/// The conditions of a verdict, and those of other types as they were. Times of transition
/// stay where a condition keeps its status.
#[must_use]
pub fn conditions(
    previous: &[Condition],
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let types: &[(&str, bool)] = match verdict.standing {
        Standing::Ready => &[(READY, true)],
        Standing::Reconciling => &[(READY, false), (RECONCILING, true)],
        Standing::Stalled => &[(READY, false), (STALLED, true)],
        Standing::Complete => &[(READY, true), (COMPLETE, true)],
        Standing::Failed => &[(READY, false), (STALLED, true), (FAILED, true)],
    };
    let ours = types.iter().map(|(type_, holds)| {
        let said = (*type_, status_of(*holds), verdict.reason.as_str(), verdict.message.clone());
        condition(previous, said, generation, now)
    });
    let others = previous.iter().filter(|old| !OF_VERDICT.contains(&old.type_.as_str())).cloned();
    ours.chain(others).collect()
}

/// These conditions, with one of a type of its own: type, whether it holds, reason, message.
#[must_use]
pub fn with_condition(
    all: Vec<Condition>,
    (type_, holds, reason, message): (&str, bool, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    with(all, (type_, status_of(holds), reason, message), generation, now)
}

/// The same of a condition of which nobody knows whether it holds: type, reason, message.
#[must_use]
pub fn with_unknown(
    all: Vec<Condition>,
    (type_, reason, message): (&str, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    with(all, (type_, "Unknown", reason, message), generation, now)
}

const fn status_of(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

fn with(
    mut all: Vec<Condition>,
    said: (&str, &str, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let new = condition(&all, said, generation, now);
    match all.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => *old = new,
        None => all.push(new),
    }
    all
}

fn condition(
    previous: &[Condition],
    (type_, status, reason, message): (&str, &str, &str, String),
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let since = previous
        .iter()
        .find(|old| old.type_ == type_ && old.status == status)
        .map_or_else(|| Time(to_seconds(now)), |old| old.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// Kubernetes' times have whole seconds: a finer one would come back changed,
/// and read as a difference.
#[must_use]
pub fn to_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Whether the condition `type_` holds for the generation that is there now.
#[must_use]
pub fn holds(conditions: &[Condition], type_: &str, generation: Option<i64>) -> bool {
    conditions.iter().any(|condition| {
        condition.type_ == type_
            && condition.status == "True"
            && condition.observed_generation == generation
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T01:00:00.5Z".parse().unwrap()
    }

    #[test]
    fn reconciling_and_stalled_never_stand_together_and_ready_always_stands() {
        for standing in [
            Standing::Ready,
            Standing::Reconciling,
            Standing::Stalled,
            Standing::Complete,
            Standing::Failed,
        ] {
            let list = conditions(&[], &Verdict::new(standing, "X", ""), Some(1), now());
            let on = |type_| list.iter().any(|c| c.type_ == type_ && c.status == "True");
            assert!(!(on(RECONCILING) && on(STALLED)));
            assert!(list.iter().any(|c| c.type_ == READY));
            assert_eq!(on(READY), !on(RECONCILING) && !on(STALLED));
        }
    }

    #[test]
    fn a_failure_that_ends_an_object_says_so_once() {
        use dbbackup_contract::Reason;
        let ended_with = |failure: Failure| sentence(&ended(&failure, 4));
        let host = Failure::new(Reason::HostNotFound, "host x is not known");
        for (failure, expected) in [
            (
                host.clone().with_hint("Correct the host."),
                "gave up after 4 attempts: host x is not known. Correct the host. \
                 This object has ended; create another one.",
            ),
            (
                host.clone().with_hint(""),
                "gave up after 4 attempts: host x is not known. \
                 This object has ended; create another one.",
            ),
            (
                host.with_hint("Create another Backup."),
                "gave up after 4 attempts: host x is not known. Create another Backup.",
            ),
        ] {
            assert_eq!(ended_with(failure), expected);
        }
    }

    #[test]
    fn a_run_on_its_way_tells_what_keeps_it_or_what_failed_before() {
        use dbbackup_contract::Reason;
        let host = Failure::new(Reason::HostNotFound, "host x is not known").with_hint("Look.");
        let quota = Failure::new(Reason::PodRejected, "exceeded quota").with_hint("");
        let start = |attempt, last_failure: Option<&Failure>, cause: Option<&Failure>| {
            let (last_failure, cause) = (last_failure.cloned(), cause.cloned());
            let verdict = Verdict::of_start(&Waiting {
                attempt,
                last_failure,
                cause,
                until: now(),
                limit: "job.startTimeout",
            });
            (verdict.reason, verdict.message)
        };
        for (found, reason, message) in [
            (start(1, None, None), "Starting", "the Job's pod is starting"),
            (
                start(1, None, Some(&quota)),
                "PodRejected",
                "exceeded quota. It is given up at 2026-11-20T01:00:00Z (job.startTimeout).",
            ),
            (
                start(2, Some(&host), None),
                "HostNotFound",
                "attempt 1 failed, 2 is on its way: host x is not known. Look.",
            ),
        ] {
            assert_eq!(found, (reason.to_owned(), message.to_owned()));
        }
        let runs = Verdict::of_attempt("the backup", 2, Some(&host));
        let words = "attempt 2 runs; the one before failed: host x is not known. Look.";
        assert_eq!((runs.reason.as_str(), runs.message.as_str()), ("HostNotFound", words));
    }

    #[test]
    fn a_time_of_transition_moves_only_with_the_status() {
        let waiting = Verdict::new(Standing::Reconciling, "A", "a");
        let first = conditions(&[], &waiting, Some(1), now());
        let later = "2026-11-20T02:00:00Z".parse().unwrap();
        let second =
            conditions(&first, &Verdict::new(Standing::Reconciling, "B", "b"), Some(1), later);
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(second[0].reason, "B");
        let third = conditions(&second, &Verdict::new(Standing::Ready, "C", ""), Some(1), later);
        assert_eq!(third[0].last_transition_time.0, later);
    }
}
