//! The `Backup` object of a snapshot that was found.

use std::collections::BTreeMap;

use dbbackup_contract::{Failure, FoundSnapshot, Reason};
use dbbackup_crds::{Backup, BackupPhase, BackupSpec, ImportedSpec, LocalRef, RepositoryStatusRef};
use jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};

use super::status::imported;
use crate::cluster::{is_conflict, is_going, write_status};
use crate::context::{Context, ReconcileError};
use crate::labels;
use crate::names::imported_name;

/// What became of all that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Snapshots that are unknown.
    pub found: u64,
    /// Those that an object stands for now.
    pub imported: u64,
    /// Why the API server did not take all of them.
    pub refused: Option<Failure>,
}

/// What became of one object.
#[derive(Debug)]
pub(super) enum Created {
    /// It stands for its snapshot.
    Stands,
    /// Another object has its name.
    NotOurs,
    /// The API server does not take it, nor any other one: a quota, a policy, a webhook.
    Refused(Failure),
    /// The API server takes the object, but not what its status says.
    Unfit(Failure),
    /// The namespace is being deleted.
    Going,
}

/// The object. Its name is the snapshot's, so that it is the same one whenever it is made.
pub(super) fn object(
    namespace: &str,
    repository: &str,
    id: Option<&str>,
    found: &FoundSnapshot,
) -> Backup {
    let place = format!("{repository}/{}", id.unwrap_or_default());
    let name = imported_name(&found.series, found.slot_time, &place, &found.id);
    let imported = ImportedSpec {
        repository_ref: LocalRef { name: repository.to_owned() },
        snapshot_id: found.id.clone(),
    };
    // A pin that was set elsewhere holds: an object that says nothing of it would take it back.
    let spec =
        BackupSpec { imported: Some(imported), pinned: found.pinned, ..BackupSpec::default() };
    let mut backup = Backup::new(&name, spec);
    // No owner: a repository's object that is deleted leaves its backups.
    backup.meta_mut().namespace = Some(namespace.to_owned());
    backup.meta_mut().labels = Some(BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
        (labels::IMPORTED.to_owned(), "true".to_owned()),
    ]));
    backup
}

/// Creates the object and writes its status. A crash in between leaves one without a
/// phase: the next look finds it again, and it looks after itself (`backup::imported`).
pub(super) async fn create(
    context: &Context,
    object: Backup,
    found: &FoundSnapshot,
    id: Option<&str>,
    now: Timestamp,
) -> Result<Created, ReconcileError> {
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<Backup> = Api::namespaced(context.client.clone(), &namespace);
    let params =
        PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    let backup = match api.create(&params, &object).await {
        Ok(created) => created,
        Err(error) if is_going(&error) => return Ok(Created::Going),
        Err(error) if is_conflict(&error) => {
            let existing = api.get_opt(&name).await;
            match existing.map_err(|error| ReconcileError::Read("a Backup", Box::new(error)))? {
                Some(existing) if existing.spec.imported == object.spec.imported => existing,
                _ => return Ok(Created::NotOurs),
            }
        }
        Err(error) if has_code(&error, &[400, 403, 422]) => {
            let message = format!("the Backup {name} could not be created: {error}");
            return Ok(Created::Refused(Failure::new(Reason::PodRejected, message)));
        }
        Err(error) => {
            return Err(ReconcileError::Create(format!("the Backup {name}"), Box::new(error)));
        }
    };
    let status = backup.status.clone().unwrap_or_default();
    if !status.phase.is_some_and(BackupPhase::is_terminal) {
        let place = object.spec.imported.map(|of| of.repository_ref.name).unwrap_or_default();
        let place = RepositoryStatusRef { name: place, id: id.map(str::to_owned) };
        let status = imported(&backup, status, found, place, now);
        match write_status(context, &backup, status).await {
            Err(ReconcileError::Status(error)) if has_code(&error, &[422]) => {
                let message = format!("the status of the Backup {name} is refused: {error}");
                return Ok(Created::Unfit(Failure::new(Reason::Internal, message)));
            }
            written => _ = written?,
        }
    }
    Ok(Created::Stands)
}

fn has_code(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}
