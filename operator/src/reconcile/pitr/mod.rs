//! `PitrRestore`: gather → plan → apply → status.
//!
//! Two Jobs. The first one looks for the moment and touches nothing; then the claim is made, or
//! found; then the second one recovers the server onto it.

mod apply;
mod claim;
mod gather;
mod plan;
mod status;
mod target;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use dbbackup_crds::PitrRestore;
use jiff::Timestamp;
use kube::runtime::controller::Action;

pub use gather::{Gathered, Resolution};
pub use plan::{Step, plan};
#[cfg(test)]
pub(super) use status::{Recovered, noted};

use crate::context::{Context, ReconcileError};

/// Brings one `PitrRestore` forward by one step.
///
/// # Errors
/// The API server refuses something; it is tried again.
pub async fn reconcile(
    request: &PitrRestore,
    context: &Arc<Context>,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let gathered = gather::gather(request, context, now).await?;
    let step = plan(&gathered);
    tracing::debug!(?step, "planned");
    apply::apply(&gathered, step, context, now).await
}
