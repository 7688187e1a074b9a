//! Who is told how a `Backup` ended. Whom to tell is decided with the end and written down
//! with it (`due`); then each is told by a Job of its own: gather → plan → apply → status.
//!
//! What becomes of that changes neither phase nor conditions of the backup. A message may
//! arrive twice, when a runner was ended between sending and reporting; it has the same id
//! then. It is never sent by the operator, which reads no secret and calls no address that
//! others write down (ADR 57).

mod apply;
mod due;
mod outlook;
mod places;
mod plan;
mod status;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use apply::{of_end, reconcile};
pub use due::due;
pub use outlook::{Outlook, condition, outlook, trouble};
pub use places::Places;
pub use plan::{Step, plan_begun, plan_unbegun};
