//! What is known of a `Backup` and of what it refers to.

use dbbackup_crds::{Backup, BackupRepository, BackupSchedule, BackupStatus, ResolvedBackup};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::cluster::{find, observe};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::labels::slot_of;
use crate::names::{Purpose, job_name};
use crate::run::RunView;

/// What is known of a `Backup`.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The object.
    pub backup: Backup,
    /// Its identity.
    pub identity: Identity,
    /// Its status, empty if it has none.
    pub status: BackupStatus,
    /// What it refers to, resolved now or when it was begun.
    pub resolved: Resolution,
    /// The repository.
    pub repository: Option<BackupRepository>,
    /// The slot, if a schedule made it.
    pub slot: Option<Timestamp>,
    /// How long after its slot it may begin.
    pub deadline_seconds: Option<i64>,
    /// How much later than its slot its schedule may start it.
    pub jitter: SignedDuration,
    /// Its Job, if one was begun.
    pub run: Option<RunView>,
    /// The inspection that was begun last.
    pub inspection: Option<RunView>,
}

/// What a `Backup` refers to.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// All of it is known.
    Known(Box<ResolvedBackup>),
    /// The schedule of this name does not exist.
    NoSchedule(String),
    /// Neither schedule nor template: the CRD refuses that.
    Nothing,
}

/// The name of an inspection's Job. Each Job of the run has inspections of its own.
pub(super) fn inspection_name(identity: &Identity, jobs: u32, inspection: u32) -> String {
    let number = jobs.saturating_mul(1000).saturating_add(inspection);
    job_name(&identity.name, &identity.uid, Purpose::Inspect, number)
}

pub(super) async fn gather(
    backup: &Backup,
    context: &Context,
    now: Timestamp,
) -> Result<Gathered, ReconcileError> {
    let identity = Identity::of(backup)?;
    let status = backup.status.clone().unwrap_or_default();
    let slot = slot_of(backup);
    let mut gathered = Gathered {
        backup: backup.clone(),
        identity,
        resolved: Resolution::Nothing,
        repository: None,
        slot,
        deadline_seconds: None,
        jitter: SignedDuration::ZERO,
        run: None,
        inspection: None,
        status,
    };
    if gathered.status.phase.is_some_and(dbbackup_crds::BackupPhase::is_terminal) {
        return Ok(gathered);
    }
    resolve(&mut gathered, context).await?;
    let namespace = gathered.identity.namespace.clone();
    let Resolution::Known(resolved) = &gathered.resolved else { return Ok(gathered) };
    gathered.repository = find(context, &namespace, &resolved.repository_ref.name).await?;
    let report = gathered.status.report.as_ref();
    if let Some(name) = &gathered.status.job_name {
        let timeout = start_timeout(&resolved.job);
        gathered.run = Some(observe(context, &namespace, name, report, timeout, now).await?);
    }
    if let Some(number) = gathered.status.inspections {
        let name = inspection_name(&gathered.identity, gathered.status.jobs.unwrap_or(0), number);
        let timeout = gathered
            .repository
            .as_ref()
            .map_or_else(|| start_timeout(&resolved.job), |found| start_timeout(&found.spec.job));
        gathered.inspection =
            Some(observe(context, &namespace, &name, report, timeout, now).await?);
    }
    Ok(gathered)
}

async fn resolve(gathered: &mut Gathered, context: &Context) -> Result<(), ReconcileError> {
    let created = gathered.backup.creation_timestamp();
    let slot_time = gathered
        .slot
        .or_else(|| created.map(|time| time.0))
        .ok_or(ReconcileError::Incomplete("creation time"))?;
    let spec = &gathered.backup.spec;
    if let Some(resolved) = &gathered.status.resolved {
        gathered.resolved = Resolution::Known(resolved.clone());
        return Ok(());
    }
    gathered.resolved = match (&spec.schedule_ref, &spec.template) {
        (Some(reference), _) => {
            let schedule: Option<BackupSchedule> =
                find(context, &gathered.identity.namespace, &reference.name).await?;
            match schedule {
                Some(schedule) => {
                    gathered.deadline_seconds = schedule.spec.starting_deadline_seconds;
                    gathered.jitter = longest_delay(&schedule);
                    Resolution::Known(Box::new(ResolvedBackup {
                        repository_ref: schedule.spec.repository_ref,
                        source: schedule.spec.source,
                        method: schedule.spec.method,
                        hooks: schedule.spec.hooks,
                        job: schedule.spec.job,
                        schedule: Some(reference.name.clone()),
                        slot_time,
                        retain_for: spec.retain_for.clone(),
                    }))
                }
                None => Resolution::NoSchedule(reference.name.clone()),
            }
        }
        (None, Some(template)) => Resolution::Known(Box::new(ResolvedBackup {
            repository_ref: template.repository_ref.clone(),
            source: template.source.clone(),
            method: template.method,
            hooks: template.hooks.clone(),
            job: template.job.clone(),
            schedule: None,
            slot_time,
            retain_for: spec.retain_for.clone(),
        })),
        (None, None) => Resolution::Nothing,
    };
    Ok(())
}

/// How much later than its slots a schedule starts its backups at most.
fn longest_delay(schedule: &BackupSchedule) -> SignedDuration {
    let jitter = schedule.spec.jitter.as_ref().and_then(|jitter| jitter.parse().ok());
    jitter.and_then(|jitter| SignedDuration::try_from(jitter).ok()).unwrap_or_default()
}
