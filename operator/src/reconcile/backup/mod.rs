//! `Backup`: gather → plan → apply → status. One that stands for a snapshot that was found
//! in a repository has a way of its own to its end (`imported`).

mod apply;
mod gather;
pub(crate) mod hooks;
mod imported;
mod plan;
mod status;
mod task;

use std::sync::Arc;

use dbbackup_crds::Backup;
use jiff::Timestamp;
use kube::runtime::controller::Action;

pub use gather::Gathered;
pub use plan::{Step, plan};
pub(crate) use plan::{repository_trouble, writing_trouble};

use crate::context::{Context, ReconcileError};

/// Brings one `Backup` forward by one step.
///
/// # Errors
/// The API server refuses something; it is tried again.
pub async fn reconcile(
    backup: &Backup,
    context: &Arc<Context>,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let phase = backup.status.as_ref().and_then(|status| status.phase).unwrap_or_default();
    if let Some(imported) = backup.spec.imported.as_ref().filter(|_| !phase.is_terminal()) {
        return imported::reconcile(backup, imported, context, now).await;
    }
    let gathered = gather::gather(backup, context, now).await?;
    let step = plan(&gathered, now);
    tracing::debug!(?step, "planned");
    apply::apply(&gathered, step, context, now).await
}
