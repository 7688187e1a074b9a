//! The Job of a copy.

use dbbackup_contract::{Action, CopyAction, Failure, Reason, SubjectKind};
use dbbackup_crds::{Backup, BackupRepository, CopyStatus, JobSpec};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use crate::context::{Identity, Surroundings};
use crate::job::{Errand, Mounts, destination_access};
use crate::names::{Purpose, job_name};

/// The Job's name: each place that a backup is copied to has Jobs of its own.
pub(super) fn copy_job_name(identity: &Identity, copy: &CopyStatus, attempt: u32) -> String {
    let place = format!("{}/{}/{}", identity.uid, copy.name, copy.repository.name);
    job_name(&identity.name, &place, Purpose::Copy, attempt)
}

/// The Job that copies `snapshot`. It runs as the backup's own does.
pub(super) fn copy_job(
    around: &Surroundings,
    (backup, identity): (&Backup, &Identity),
    snapshot: &str,
    (source, destination): (&BackupRepository, &BackupRepository),
    job: &JobSpec,
    name: String,
) -> Result<Job, Failure> {
    let mut mounts = Mounts::default();
    let (place, id) = (destination.name_any(), destination.status.as_ref());
    let id = id.and_then(|status| status.id.as_deref());
    let to = destination_access(&place, &destination.spec, id, &mut mounts).ok_or_else(|| {
        Failure::new(Reason::InvalidSpec, format!("the BackupRepository {place} names no place"))
    })?;
    let action = CopyAction { snapshot: snapshot.to_owned(), destination: to };
    let errand = Errand {
        kind: SubjectKind::Backup,
        identity,
        purpose: Purpose::Copy,
        name,
        action: Action::Copy(Box::new(action)),
        mounts,
        repository: Some(source),
        destination: Some(destination),
        job,
    };
    errand.job_of(backup, around)
}
