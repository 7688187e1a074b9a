//! The copies of a `Backup` in other repositories: gather → plan → apply → status, for each
//! of them. Each backup looks after its own, once it has ended; what its siblings still wait
//! for decides whose turn it is (`turn`).
//!
//! A copy changes neither phase nor conditions of its backup. Only a report makes it a
//! success; whatever else ends its Job is a failure that is tried again, since a copy that
//! was made already is found by the next attempt.

mod apply;
mod outlook;
mod plan;
mod status;
mod task;
#[cfg(test)]
mod tests;
mod turn;
mod wanted;

pub(crate) use apply::reconcile;
pub use outlook::{Outlook, condition, outlook, status as schedule_copies, trouble};
pub use plan::{Step, plan_begun, plan_due, plan_unbegun};
pub(crate) use status::{expired, missing};
pub use turn::{Turn, turn};
pub(crate) use turn::{has_any, next_in_line, unlisted, waits_for};
pub use wanted::{Wanted, entries, source_snapshot, wanted};
