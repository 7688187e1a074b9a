//! The Job of an import.

use dbbackup_contract::{Action, Failure, ImportAction, KnownSnapshots};
use dbbackup_crds::BackupRepository;
use k8s_openapi::api::batch::v1::Job;

use crate::context::{Identity, Surroundings};
use crate::names::Purpose;
use crate::reconcile::repository::repository_job;

/// The Job that looks for what is not known.
pub(super) fn import_job(
    around: &Surroundings,
    repository: &BackupRepository,
    identity: &Identity,
    known: KnownSnapshots,
    name: String,
) -> Result<Job, Failure> {
    let action = Action::Import(ImportAction::Unknown { known });
    repository_job(around, repository, identity, Purpose::Import, action, name)
}
