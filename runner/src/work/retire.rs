//! The end of an archive: its slot goes, so that the server forgets the log that nobody takes.

use std::path::Path;
use std::time::Duration;

use dbbackup_contract::{Outcome, RetireAction, RetireReport};
use dbbackup_postgres::{drop_slot, slot_name};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::connection_to;
use crate::patience::unless_stopped;

/// Drops the slot; that there is none is as well. A failure is in the report.
pub(crate) async fn retire(
    action: &RetireAction,
    scratch: &Path,
    stall_timeout: Duration,
    cancel: &CancellationToken,
) -> RetireReport {
    let server = connection_to(&action.server, scratch, stall_timeout);
    let slot = slot_name(&action.series);
    let error = match unless_stopped(cancel, drop_slot(&server, &slot)).await {
        Ok(was_there) => {
            tracing::info!(slot, was_there, "the server keeps no log for the archive any more");
            None
        }
        Err(failure) => Some(failure),
    };
    let outcome = if error.is_some() { Outcome::Failed } else { Outcome::Succeeded };
    RetireReport { outcome, completion_time: Timestamp::now(), error }
}
