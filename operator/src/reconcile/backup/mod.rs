//! `Backup`: gather → plan → apply → status.

mod apply;
mod gather;
mod plan;
mod status;
mod task;

use std::sync::Arc;
use std::time::Duration;

use dbbackup_crds::Backup;
use jiff::Timestamp;
use kube::runtime::controller::Action;

pub(crate) use apply::{starting, until};
pub use gather::Gathered;
pub(crate) use plan::repository_trouble as repository_trouble_of;
pub use plan::{Step, plan};
pub use status::{finished, running, waiting};

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
    let gathered = gather::gather(backup, context, now).await?;
    let step = plan(&gathered, now);
    tracing::debug!(?step, "planned");
    apply::apply(&gathered, step, context, now).await
}

/// How soon a waiting object looks again, where no watch tells it to.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How soon a run is looked at again: a lost node announces itself by nothing.
pub(crate) const WATCH_RUN: Duration = Duration::from_secs(60);
