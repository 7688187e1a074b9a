//! What `Backup` and `RestoreRequest` share: each is one run, whose Job ends
//! with a report or without one, and each says so in the same words and
//! conditions.

mod apply;
mod judge;
mod status;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use dbbackup_contract::{DatabaseCount, DatabaseReport, Failure, Outcome, Progress, Reason};
use dbbackup_crds::{Condition, RawReport};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::Resource;
use kube::core::object::HasStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use apply::{Begun, NextJob, Run, has_ended_lately, until, while_starting};
pub use judge::{End, Told};
pub use status::{finished, running, waiting};
pub(crate) use status::{seen_by, starting};

/// How a run ended, as its runner says.
pub trait RunReport: Clone + Debug {
    /// What is true of the databases that are done, after their number: `3 databases ...`.
    const DONE: &'static str;

    /// How it ended. A success that has no result is none.
    fn outcome(&self) -> Outcome;
    /// Why it failed.
    fn error(&self) -> Option<&Failure>;
    /// The databases, failures first.
    fn databases(&self) -> &[DatabaseReport];
    /// How many databases ended how.
    fn database_count(&self) -> DatabaseCount;
    /// The whole in a line.
    fn words(&self) -> String;
    /// The failure of a report that says no reason.
    fn unexplained() -> Failure;
}

/// The fields that the statuses of both kinds have, and that mean the same in both.
pub struct Common<'a> {
    /// Generation of the spec that the status speaks of.
    pub observed_generation: &'a mut Option<i64>,
    /// Is it fine? In words.
    pub display: &'a mut Option<String>,
    /// Conditions.
    pub conditions: &'a mut Vec<Condition>,
    /// When the run ended.
    pub completion_time: &'a mut Option<Timestamp>,
    /// How far the run has come.
    pub progress: &'a mut Option<Progress>,
    /// Pods that were begun.
    pub attempts: &'a mut Option<u32>,
    /// Why it failed, or what keeps it waiting.
    pub error: &'a mut Option<Failure>,
    /// What the runner said last.
    pub report: &'a mut Option<RawReport>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun, or goes on as it did.
    AsBefore,
    /// Its Job runs.
    Running,
    /// It has ended.
    Ended(Outcome),
}

/// The status of a run.
pub trait RunStatus: Clone + Debug + Default + PartialEq {
    /// How its runs end.
    type Report: RunReport;

    /// The fields that both kinds have.
    fn common(&mut self) -> Common<'_>;
    /// Sets the phase.
    fn enter(&mut self, stage: Stage);
    /// Notes the Job that was begun: what was seen of an earlier one is over.
    fn begin(&mut self, job: String, jobs: u32, now: Timestamp);
    /// Takes over what a report tells beside the outcome.
    fn take_over(&mut self, report: &Self::Report);
}

/// A kind of which each object is one run.
pub trait OneShot:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + HasStatus<Status: RunStatus>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
    /// What its Jobs do, as events name it: `Backup`.
    const ACTION: &'static str;
    /// What runs, as conditions name it: `the backup`.
    const RUN: &'static str;
}

/// How the runs of `K` end.
pub(crate) type ReportOf<K> = <<K as HasStatus>::Status as RunStatus>::Report;

/// A report of another action than the Job's.
pub(crate) fn another_action() -> Failure {
    Failure::new(Reason::OutcomeUnknown, "the report is of another action")
}
