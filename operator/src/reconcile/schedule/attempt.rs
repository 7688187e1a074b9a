//! A look ahead or a drill that goes on: when to look at it again, and what is told of a look.

use std::time::Duration;

use dbbackup_contract::Failure;
use jiff::Timestamp;

use crate::conditions::Verdict;
use crate::reconcile::one_shot::while_starting;
use crate::reconcile::{LOOK_SOON, WATCH_RUN};
use crate::run::Waiting;

/// How far a run is that goes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attempt {
    /// Its pod has not started.
    Starts(Waiting),
    /// It runs: which attempt, and what the one before failed with.
    Runs(u32, Option<Failure>),
}

/// What is to be told of a look that goes on and does not go well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptTrouble {
    /// In the conditions.
    pub verdict: Verdict,
    /// In the column.
    pub words: String,
}

impl Attempt {
    /// When to look at it again at the latest. One that `has_reported` is about to end, or its pod
    /// is, for the next attempt.
    pub(super) fn next_look(&self, has_reported: bool, now: Timestamp) -> Duration {
        match self {
            Self::Starts(waiting) => while_starting(waiting, now),
            Self::Runs(..) if has_reported => LOOK_SOON,
            Self::Runs(..) => WATCH_RUN,
        }
    }

    /// `None` as long as no attempt has failed and nothing is in the pod's way.
    pub(super) fn trouble(&self) -> Option<AttemptTrouble> {
        let (number, failure, mut verdict) = match self {
            Self::Starts(waiting) => {
                let failure = waiting.cause.as_ref().or(waiting.last_failure.as_ref())?;
                (waiting.attempt, failure, Verdict::of_start(waiting))
            }
            Self::Runs(number, last) => {
                let failure = last.as_ref()?;
                (*number, failure, Verdict::of_attempt("the look ahead", *number, Some(failure)))
            }
        };
        verdict.message = format!("it is looked whether backups would work: {}", verdict.message);
        let which = if number > 1 { format!(", attempt {number}") } else { String::new() };
        let words = format!("looking ahead{which}: {}", failure.reason);
        Some(AttemptTrouble { verdict, words })
    }
}
