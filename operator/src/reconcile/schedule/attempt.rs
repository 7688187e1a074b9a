//! What a look ahead says while it goes on.

use dbbackup_contract::Failure;

use crate::conditions::Verdict;
use crate::run::Waiting;

/// How far a look is that goes on.
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
