//! What the end of a run comes to: outcome, verdict, words, event. Pure.

use dbbackup_contract::{Failure, Outcome, Reason};

use super::RunReport;
use crate::conditions::{Standing, Verdict, ended, sentence};
use crate::display;
use crate::reasons;

/// How a run has ended, as it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// What its conditions say.
    pub verdict: Verdict,
    /// What its column says.
    pub display: String,
    /// What its event says.
    pub told: Told,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// All is done, in these words.
    Success(String),
    /// It is not.
    Failure(Failure),
}

impl End {
    /// The end that a report tells of, after `attempts` pods.
    #[must_use]
    pub fn of_report<R: RunReport>(report: &R, attempts: u32) -> Self {
        match report.outcome() {
            Outcome::Succeeded => Self {
                outcome: Outcome::Succeeded,
                verdict: Verdict::new(Standing::Complete, reasons::SUCCEEDED, report.words()),
                display: display::shortened(report.words()),
                told: Told::Success(report.words()),
            },
            Outcome::PartiallyFailed => partly(report),
            Outcome::Failed => {
                Self::of_failure(&report.error().cloned().unwrap_or_else(R::unexplained), attempts)
            }
        }
    }

    /// The end by a failure, after `attempts` pods.
    #[must_use]
    pub fn of_failure(failure: &Failure, attempts: u32) -> Self {
        if failure.reason == Reason::AlreadyCarriedOut {
            return Self::done_before(failure);
        }
        let told = ended(failure, attempts);
        let words = display::gave_up(failure, attempts) + &display::failure(failure);
        Self {
            outcome: Outcome::Failed,
            verdict: Verdict::of_failure(Standing::Failed, &told),
            display: display::shortened(words),
            told: Told::Failure(told),
        }
    }

    /// Nothing was to be done: an object of the same name has done it. Whoever waits for this
    /// one, as GitOps tools do, may go on.
    fn done_before(failure: &Failure) -> Self {
        Self {
            outcome: Outcome::Failed,
            verdict: Verdict::of_failure(Standing::Complete, failure),
            display: display::shortened(format!("not again: {}", failure.message)),
            told: Told::Failure(failure.clone()),
        }
    }
}

/// Some databases are done. The first one that is not says what to do.
fn partly<R: RunReport>(report: &R) -> End {
    let done = format!("{} {}", display::databases(report.database_count()), R::DONE);
    let first = report.databases().iter().find_map(|database| {
        let error = database.error.as_ref()?;
        Some((&database.name, error))
    });
    let (message, column) = match first {
        Some((name, error)) => (
            format!("{done}. {name}: {}", sentence(error)),
            format!("{done}; {name}: {}: {}", error.reason, error.message),
        ),
        None => (format!("{done}."), done),
    };
    let failure = report
        .error()
        .cloned()
        .unwrap_or_else(|| Failure::new(Reason::DatabaseFailed, report.words()));
    End {
        outcome: Outcome::PartiallyFailed,
        verdict: Verdict::new(Standing::Failed, failure.reason.as_str(), message),
        display: display::shortened(column),
        told: Told::Failure(failure),
    }
}
