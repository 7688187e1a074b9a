//! The reconcilers, each a pipeline: gather → plan → apply → status.

pub mod backup;
pub mod copies;
pub mod import;
pub mod maintenance;
pub mod notifications;
mod one_shot;
pub mod pitr;
pub mod repository;
pub mod restore;
pub mod schedule;

use std::time::Duration;

pub use one_shot::{
    Common, End, OneShot, RunReport, RunStatus, Stage, Told, finished, running, waiting,
};

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod gitops_tests;

/// How soon a waiting object looks again, where no watch tells it to.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How soon a pod that does not start without saying why is looked at again: its
/// events are asked then.
pub(crate) const LOOK_SOON: Duration = Duration::from_secs(11);
/// How soon a run is looked at again: a lost node announces itself by nothing.
pub(crate) const WATCH_RUN: Duration = Duration::from_secs(60);
