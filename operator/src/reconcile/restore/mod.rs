//! `RestoreRequest`: gather → plan → apply → status.

mod apply;
mod gather;
mod plan;
mod status;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use dbbackup_crds::RestoreRequest;
use jiff::Timestamp;
use kube::runtime::controller::Action;

pub use gather::{Gathered, Resolution};
pub use plan::{Step, plan};
#[cfg(test)]
pub(super) use status::proposed;

use crate::context::{Context, ReconcileError};

/// Brings one `RestoreRequest` forward by one step.
///
/// # Errors
/// The API server refuses something; it is tried again.
pub async fn reconcile(
    request: &RestoreRequest,
    context: &Arc<Context>,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let gathered = gather::gather(request, context, now).await?;
    let step = plan(&gathered);
    tracing::debug!(?step, "planned");
    apply::apply(&gathered, step, context, now).await
}
