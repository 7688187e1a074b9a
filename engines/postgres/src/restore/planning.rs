//! What a restore is going to do, and what an earlier attempt of it has done, in words for
//! whoever asked.

use dbbackup_contract::{Failure, PlannedAction, PlannedDatabase, RestorePlan};
use dbbackup_engine::BackupSource;
use tokio_util::sync::CancellationToken;

use super::Planned;
use super::contents::find_wanted;
use super::merge::MergePlan;
use crate::server::Server;
use crate::watch::Guard;
use crate::{PlacedDatabase, RestoreOptions};

/// The plan, once every database was validated.
pub(super) fn tell(
    options: &RestoreOptions,
    server: &Server,
    planned: &[Planned],
    merge: Option<&MergePlan>,
) -> RestorePlan {
    let databases = planned.iter().map(|planned| PlannedDatabase {
        name: planned.report.name.clone(),
        as_name: planned.report.as_name.clone(),
        action: planned.action,
        bytes: planned.report.bytes,
        tables: planned.report.tables,
        replaces: planned.replaces.clone(),
        error: planned.report.error.clone(),
    });
    let missing = options.missing.iter().map(|missing| PlannedDatabase {
        name: missing.name.clone(),
        as_name: None,
        action: PlannedAction::Refuse,
        bytes: 0,
        tables: 0,
        replaces: None,
        error: missing.error.clone(),
    });
    let databases = databases.chain(missing);
    let created_roles = merge.into_iter().flat_map(|plan| &plan.created).cloned();
    let identity = &server.identity;
    RestorePlan::new(&options.snapshot, identity, databases.collect(), created_roles.collect())
}

/// What a restore of these options puts in place when nothing fails, for [`crate::settle`]: where
/// it is known that it was carried out, and nobody has settled it.
///
/// # Errors
/// What the source says.
pub async fn placed(
    options: &RestoreOptions,
    source: &dyn BackupSource,
    cancel: &CancellationToken,
) -> Result<Vec<PlacedDatabase>, Failure> {
    let guard = Guard::new(&options.server, cancel);
    let contents = find_wanted(source, &options.databases, guard.activity());
    let wanted = guard.wait(contents).await?;
    let placed = wanted.into_iter().map(|wanted| PlacedDatabase {
        name: wanted.target,
        comment: wanted.document.properties.comment,
    });
    Ok(placed.collect())
}
