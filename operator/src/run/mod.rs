//! What can be seen of a run from outside: its Job, its pods, its report.

mod beside;
mod fit;
mod pods;
mod view;

pub(crate) use fit::fitted_log;
pub use pods::{ended_at, explain_end, explain_wait, newest, was_started};
pub use view::{Observation, RunView, Waiting, view};
pub(crate) use view::{has_ended, waits_since};
