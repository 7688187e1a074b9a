//! What is known of a `RestoreRequest` and of what it refers to.

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{
    Backup, BackupPhase, BackupRepository, BackupSchedule, LatestSource, ResolvedRestore,
    RestoreRequest, RestoreRequestStatus, SourceSpec, TargetSpec,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::cluster::{find, observe};
use crate::context::{Context, Identity, ReconcileError, start_timeout};
use crate::names::schedule_series;
use crate::run::RunView;

/// What is known of a `RestoreRequest`.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The object.
    pub request: RestoreRequest,
    /// Its identity.
    pub identity: Identity,
    /// Its status, empty if it has none.
    pub status: RestoreRequestStatus,
    /// What it refers to, resolved now or when it was begun.
    pub resolved: Resolution,
    /// The repository.
    pub repository: Option<BackupRepository>,
    /// Its Job, if one was begun.
    pub run: Option<RunView>,
    /// The time.
    pub now: Timestamp,
}

/// What a `RestoreRequest` refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// All of it is known.
    Known(Box<ResolvedRestore>),
    /// Something is missing that may still come.
    Missing(Failure),
    /// It can never be carried out.
    Impossible(Failure),
}

pub(super) async fn gather(
    request: &RestoreRequest,
    context: &Context,
    now: Timestamp,
) -> Result<Gathered, ReconcileError> {
    let identity = Identity::of(request)?;
    let status = request.status.clone().unwrap_or_default();
    let mut gathered = Gathered {
        request: request.clone(),
        identity,
        resolved: Resolution::Impossible(Failure::new(
            Reason::InvalidSpec,
            "spec.from names no backup",
        )),
        repository: None,
        run: None,
        now,
        status,
    };
    if gathered.status.phase.is_some_and(dbbackup_crds::RestorePhase::is_terminal) {
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
    if let Some(name) = &gathered.status.job_name {
        let report = gathered.status.report.as_ref();
        let timeout = start_timeout(&gathered.request.spec.job);
        gathered.run = Some(observe(context, &namespace, name, report, timeout, now).await?);
    }
    Ok(gathered)
}

async fn resolve(seen: &Gathered, context: &Context) -> Result<Resolution, ReconcileError> {
    let from = &seen.request.spec.from;
    let namespace = &seen.identity.namespace;
    let target = seen.request.spec.target.clone();
    if let Some(reference) = &from.backup_ref {
        let backup: Option<Backup> = find(context, namespace, &reference.name).await?;
        return Ok(of_backup(&reference.name, backup, target));
    }
    if let Some(latest) = &from.latest {
        let schedule: Option<BackupSchedule> =
            find(context, namespace, &latest.schedule_ref.name).await?;
        let series = schedule_series(&context.cluster, namespace, &latest.schedule_ref.name);
        let created = seen.request.creation_timestamp().map(|time| time.0);
        let before = newest_bound(latest.before, created);
        return Ok(of_schedule(latest, schedule, target, series, before));
    }
    if let (Some(snapshot), Some(target)) = (&from.snapshot, target) {
        return Ok(Resolution::Known(Box::new(ResolvedRestore {
            repository_ref: snapshot.repository_ref.clone(),
            snapshot_id: Some(snapshot.id.clone()),
            series: None,
            before: None,
            target,
        })));
    }
    Ok(seen.resolved.clone())
}

fn missing(reason: Reason, message: String) -> Resolution {
    Resolution::Missing(Failure::new(reason, message))
}

fn impossible(message: String, hint: &str) -> Resolution {
    Resolution::Impossible(Failure::new(Reason::InvalidSpec, message).with_hint(hint))
}

/// The server that a source reads, to restore to.
fn own_server(source: &SourceSpec) -> Option<TargetSpec> {
    let postgresql = source.postgresql.as_ref()?.as_target();
    Some(TargetSpec { postgresql: Some(postgresql) })
}

fn of_backup(name: &str, backup: Option<Backup>, target: Option<TargetSpec>) -> Resolution {
    let Some(backup) = backup else {
        return missing(Reason::ReferenceNotFound, format!("the Backup {name} does not exist"));
    };
    let status = backup.status.unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    if matches!(phase, BackupPhase::Expired | BackupPhase::Missing) {
        let gone = phase.as_str();
        return impossible(
            format!("spec.from.backupRef: the Backup {name} is {gone}: its snapshot is gone"),
            "Name another Backup, or use from.latest.",
        );
    }
    let imported = backup.spec.imported.map(|imported| (imported.repository_ref, None));
    let of_run = status.resolved.map(|resolved| (resolved.repository_ref, Some(resolved.source)));
    let (Some(snapshot), Some((repository_ref, source))) =
        (status.snapshot_id, imported.or(of_run))
    else {
        return if phase == BackupPhase::Failed {
            impossible(
                format!("spec.from.backupRef: the Backup {name} has failed and holds no snapshot"),
                "Name a Backup that has succeeded, or use from.latest.",
            )
        } else {
            missing(
                Reason::ReferenceNotReady,
                format!("the Backup {name} has not ended: {}", phase.as_str()),
            )
        };
    };
    let Some(target) = target.or_else(|| own_server(source.as_ref()?)) else {
        let why = match source {
            Some(_) => "and the backup's own server is not known",
            None => "and an imported backup does not tell how its server is reached",
        };
        return impossible(
            format!("spec.target is missing, {why}"),
            "Say target.postgresql: host and credentialsSecretRef.",
        );
    };
    Resolution::Known(Box::new(ResolvedRestore {
        repository_ref,
        snapshot_id: Some(snapshot),
        series: None,
        before: None,
        target,
    }))
}

/// The newest snapshot from before the request was created: each retry finds the same one. The
/// API server cuts that time to whole seconds, and a backup may have ended within that one.
fn newest_bound(before: Option<Timestamp>, created: Option<Timestamp>) -> Option<Timestamp> {
    let created = created.and_then(|time| time.checked_add(SignedDuration::from_secs(1)).ok());
    before.into_iter().chain(created).min()
}

fn of_schedule(
    latest: &LatestSource,
    schedule: Option<BackupSchedule>,
    target: Option<TargetSpec>,
    series: String,
    before: Option<Timestamp>,
) -> Resolution {
    let name = &latest.schedule_ref.name;
    let Some(schedule) = schedule else {
        return missing(
            Reason::ReferenceNotFound,
            format!("the BackupSchedule {name} does not exist"),
        );
    };
    let Some(target) = target.or_else(|| own_server(&schedule.spec.source)) else {
        return impossible(
            "spec.target is missing, and the schedule names no server".to_owned(),
            "Say target.postgresql.",
        );
    };
    Resolution::Known(Box::new(ResolvedRestore {
        repository_ref: schedule.spec.repository_ref,
        snapshot_id: None,
        series: Some(series),
        before,
        target,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imported_backup_is_restored_to_the_server_that_is_named() {
        let backup = |status: serde_json::Value| {
            serde_json::from_value::<Backup>(serde_json::json!({
                "apiVersion": "dbbackup.dev/v1alpha1", "kind": "Backup", "metadata": {"name": "b"},
                "spec": {"imported": {"repositoryRef": {"name": "main"}, "snapshotId": "s"}},
                "status": status,
            }))
            .unwrap()
        };
        let of = |status, target| of_backup("b", Some(backup(status)), target);
        let done = serde_json::json!({"phase": "Succeeded", "snapshotId": "s"});
        let target = crate::reconcile::fixtures::target();
        let Resolution::Known(known) = of(done.clone(), Some(target.clone())) else { panic!() };
        assert_eq!((known.repository_ref.name.as_str(), &known.target), ("main", &target));
        assert_eq!(known.snapshot_id.as_deref(), Some("s"));

        let Resolution::Impossible(failure) = of(done, None) else { panic!() };
        assert!(failure.message.starts_with("spec.target is missing"), "{failure}");
        assert!(failure.hint.contains("target.postgresql"), "{failure}");
        let unread = serde_json::json!({"observedGeneration": -1});
        let Resolution::Missing(failure) = of(unread, Some(target)) else { panic!() };
        assert_eq!(failure.reason, Reason::ReferenceNotReady);
    }

    #[test]
    fn the_latest_backup_is_the_latest_of_the_time_when_the_request_was_created() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let (early, late) = (at("2026-11-20T08:00:00Z"), at("2026-11-21T08:00:00Z"));
        let (after_early, after_late) = (at("2026-11-20T08:00:01Z"), at("2026-11-21T08:00:01Z"));
        for (before, created, expected) in [
            (None, late, after_late),
            (early, late, early),
            (late, early, after_early),
            (early, None, early),
        ] {
            assert_eq!(newest_bound(before, created), expected);
        }
    }
}
