//! The Job that tells somebody.

use dbbackup_contract::{
    Action, Failure, NOTICE_VERSION, Notice, NoticeBackup, NotifyAction, Outcome, Reason,
    SubjectKind,
};
use dbbackup_crds::{Backup, BackupSchedule, JobSpec, NotificationSpec, NotificationStatus};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use crate::context::{Identity, Surroundings};
use crate::job::{Errand, Mounts, notification_channel};
use crate::names::{Purpose, job_name};

/// The Job's name: each who is told of a backup has Jobs of their own.
pub(super) fn notify_job_name(
    identity: &Identity,
    entry: &NotificationStatus,
    attempt: u32,
) -> String {
    let who = format!("{}/{}", identity.uid, entry.name);
    job_name(&identity.name, &who, Purpose::Notify, attempt)
}

/// The Job that sends the message. It runs where the backups do, and has none of their
/// secrets, nor their share of a node: it sends a few kilobytes.
pub(super) fn notify_job(
    around: &Surroundings,
    (backup, identity): (&Backup, &Identity),
    (schedule, spec): (&BackupSchedule, &NotificationSpec),
    entry: &NotificationStatus,
    name: String,
) -> Result<Job, Failure> {
    let mut mounts = Mounts::default();
    let channel =
        notification_channel(spec, &schedule.name_any(), &mut mounts).ok_or_else(|| {
            let message = format!("notifications[{}] names no way", spec.name);
            Failure::new(Reason::InvalidSpec, message)
        })?;
    let notice = notice(&around.cluster, (backup, identity), schedule, entry);
    let job = JobSpec { resources: None, parallelism: None, ..schedule.spec.job.clone() };
    let errand = Errand {
        kind: SubjectKind::Backup,
        identity,
        purpose: Purpose::Notify,
        name,
        action: Action::Notify(Box::new(NotifyAction { notice, channel })),
        mounts,
        repository: None,
        destination: None,
        job: &job,
    };
    errand.job_of(backup, around)
}

/// What is told. The event says how the backup ended, whatever has become of it since.
fn notice(
    cluster: &str,
    (backup, identity): (&Backup, &Identity),
    schedule: &BackupSchedule,
    entry: &NotificationStatus,
) -> Notice {
    let status = backup.status.clone().unwrap_or_default();
    let phase = entry.event.outcome();
    let known = schedule.status.as_ref().and_then(|status| status.last_successful_time);
    let own = status.completion_time.filter(|_| phase == Outcome::Succeeded);
    Notice {
        version: NOTICE_VERSION,
        id: format!("{}-{}", identity.uid, entry.name),
        event: entry.event,
        cluster: cluster.to_owned(),
        namespace: identity.namespace.clone(),
        schedule: schedule.name_any(),
        notification: entry.name.clone(),
        backup: NoticeBackup {
            name: identity.name.clone(),
            uid: identity.uid.clone(),
            phase,
            start_time: status.start_time,
            completion_time: status.completion_time,
            repository: status.repository.map(|repository| repository.name),
            snapshot_id: status.snapshot_id,
            databases: status.database_count,
            bytes: status.bytes,
        },
        error: status.error.filter(|_| phase != Outcome::Succeeded),
        last_successful_time: known.max(own),
    }
}
