//! What is known of a `PitrRestore` and of what it refers to.

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{
    BackupRepository, BackupSchedule, PitrPhase, PitrRestore, PitrRestoreStatus, PitrSource,
    ResolvedPitr,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::claim::claim_name;
use crate::cluster::{find, observe};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::names::schedule_series;
use crate::run::RunView;

/// What is known of a `PitrRestore`.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The object.
    pub request: PitrRestore,
    /// Its identity.
    pub identity: Identity,
    /// Its status, empty if it has none.
    pub status: PitrRestoreStatus,
    /// What it refers to, resolved now or when it was begun.
    pub resolved: Resolution,
    /// The repository.
    pub repository: Option<BackupRepository>,
    /// The claim that it names, or the one of its own name; not looked for before the moment
    /// was found.
    pub claim: Option<PersistentVolumeClaim>,
    /// Its Job, if one was begun.
    pub run: Option<RunView>,
    /// The time.
    pub now: Timestamp,
}

/// What a `PitrRestore` refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// All of it is known.
    Known(ResolvedPitr),
    /// Something is missing that may still come.
    Missing(Failure),
    /// It can never be carried out.
    Impossible(Failure),
}

pub(super) async fn gather(
    request: &PitrRestore,
    context: &Context,
    now: Timestamp,
) -> Result<Gathered, ReconcileError> {
    let status = request.status.clone().unwrap_or_default();
    let mut gathered = Gathered {
        request: request.clone(),
        identity: Identity::of(request)?,
        resolved: unnamed(),
        repository: None,
        claim: None,
        run: None,
        now,
        status,
    };
    if gathered.status.phase.is_some_and(PitrPhase::is_terminal) {
        return Ok(gathered);
    }
    gathered.resolved = match &gathered.status.resolved {
        Some(resolved) => Resolution::Known(resolved.clone()),
        None => resolve(&gathered, context).await?,
    };
    let namespace = gathered.identity.namespace.clone();
    if let Resolution::Known(resolved) = &gathered.resolved {
        gathered.repository = find(context, &namespace, &resolved.repository_ref.name).await?;
    }
    if gathered.status.base.is_some() {
        gathered.claim = find(context, &namespace, claim_name(&gathered)).await?;
    }
    if let Some(name) = &gathered.status.job_name {
        let report = gathered.status.report.as_ref();
        let timeout = start_timeout(&gathered.request.spec.job);
        gathered.run = Some(observe(context, &namespace, name, report, timeout, now).await?);
    }
    Ok(gathered)
}

fn unnamed() -> Resolution {
    Resolution::Impossible(Failure::new(
        Reason::InvalidSpec,
        "spec.from names neither a schedule nor a series of a repository",
    ))
}

async fn resolve(seen: &Gathered, context: &Context) -> Result<Resolution, ReconcileError> {
    let from = &seen.request.spec.from;
    let namespace = &seen.identity.namespace;
    let Some(reference) = &from.schedule_ref else { return Ok(of_repository(from)) };
    let schedule: Option<BackupSchedule> = find(context, namespace, &reference.name).await?;
    let series = schedule_series(&context.cluster, namespace, &reference.name);
    Ok(of_schedule(&reference.name, schedule, series))
}

pub(super) fn of_repository(from: &PitrSource) -> Resolution {
    match (&from.repository_ref, &from.series) {
        (Some(repository), Some(series)) => Resolution::Known(ResolvedPitr {
            repository_ref: repository.clone(),
            series: series.clone(),
        }),
        _ => unnamed(),
    }
}

/// Whether a schedule's log is archived now says nothing of the log that it has.
pub(super) fn of_schedule(
    name: &str,
    schedule: Option<BackupSchedule>,
    series: String,
) -> Resolution {
    match schedule {
        Some(schedule) => {
            Resolution::Known(ResolvedPitr { repository_ref: schedule.spec.repository_ref, series })
        }
        None => {
            let message = format!("the BackupSchedule {name} does not exist");
            Resolution::Missing(Failure::new(Reason::ReferenceNotFound, message).with_hint(
                "Create it; or, where it is gone, name what it has left: from.repositoryRef and \
                 from.series.",
            ))
        }
    }
}
