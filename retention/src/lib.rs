//! Retention: which snapshots of one series are kept, and why; and which may go.
//!
//! In come the snapshots of one series ([`Series`]), a policy ([`RetentionSpec`]
//! as people write it, [`RetentionPolicy`] once it is understood), a time zone and
//! the time. Out comes a [`Decision`] for each snapshot, newest first, from
//! [`plan_retention`]. Nothing here reads a clock, a repository or a cluster, and
//! nothing here deletes: the plan is what a person reads and maintenance carries
//! out. `docs/retention.md` says in words what the rules are.

mod period;
mod plan;
mod reason;
mod snapshot;
mod spec;
#[cfg(test)]
mod tests;

pub use dbbackup_contract::RetentionSpec;
pub use period::Period;
pub use plan::{Decision, plan_retention};
pub use reason::{DropReason, KeepReason, Verdict};
pub use snapshot::{MadeBy, Series, SeriesError, Snapshot, State};
pub use spec::{PolicyError, RetentionPolicy};
