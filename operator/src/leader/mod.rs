//! Which of the replicas leads: one Lease, a pure decision, and a loop around it.
//!
//! A Lease is no fence: a leader that cannot renew ends its process, and what
//! two leaders might do for a moment is made harmless by deterministic names
//! and by versions on status writes.

mod decision;
mod election;

pub use decision::{Decision, Seen, decide};
pub use election::{Election, ElectionError};
