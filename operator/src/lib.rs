//! The operator: reconcilers that turn objects into Jobs and their outcomes
//! into statuses, the report channel, and the election of a leader.
//!
//! What plans is pure and gets the time as an argument: `slots`, `run`, `job`,
//! `conditions`, and each reconciler's `plan`. What talks to the API server
//! stands in `cluster`, `report`, `leader` and each reconciler's `apply`.

pub mod backoff;
pub mod cluster;
pub mod conditions;
pub mod config;
pub mod context;
pub mod controllers;
pub mod display;
pub mod events;
pub mod health;
pub mod index;
pub mod job;
pub mod labels;
pub mod leader;
pub mod metrics;
pub mod names;
mod placement;
pub mod queue;
pub mod reasons;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod slots;
pub mod watch;
