//! The tasks of a `RestoreRequest`: the restore itself, its plan, and the question which
//! snapshot is the newest.

use dbbackup_contract::{
    Action, Failure, FindAction, Reason, ReplaceAction, RequestKey, RestoreAction, RestoreDatabase,
    RestoreStrategy, SubjectKind,
};
use dbbackup_crds::{BackupRepository, JobSpec, ResolvedRestore, RestoreRequestSpec};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use sha2::{Digest, Sha256};

use super::gather::Gathered;
use crate::context::Surroundings;
use crate::job::{Errand, Mounts, Place, postgresql_access};
use crate::names::Purpose;

/// The Job of a purpose: `Find`, `Plan` or `Restore`.
pub(super) fn job(
    around: &Surroundings,
    seen: &Gathered,
    resolved: &ResolvedRestore,
    repository: &BackupRepository,
    purpose: Purpose,
    name: String,
) -> Result<Job, Failure> {
    let mut mounts = Mounts::default();
    let action = match purpose {
        Purpose::Find => find(seen, resolved)?,
        _ => restore(seen, resolved, purpose == Purpose::Plan, &mut mounts)?,
    };
    let errand = Errand {
        kind: SubjectKind::RestoreRequest,
        identity: &seen.identity,
        purpose,
        name,
        action,
        mounts,
        repository: Some(repository),
        destination: None,
        job: &seen.request.spec.job,
    };
    errand.job_of(&seen.request, around)
}

fn find(seen: &Gathered, resolved: &ResolvedRestore) -> Result<Action, Failure> {
    let series = resolved
        .series
        .clone()
        .ok_or_else(|| Failure::new(Reason::InvalidSpec, "spec.from names no backup"))?;
    let databases = seen.request.spec.databases.iter().map(|database| database.name.clone());
    let (before, databases) = (resolved.before, databases.collect());
    Ok(Action::Find(FindAction { series, before, databases }))
}

fn restore(
    seen: &Gathered,
    resolved: &ResolvedRestore,
    dry_run: bool,
    mounts: &mut Mounts,
) -> Result<Action, Failure> {
    let invalid = |message: &str| Failure::new(Reason::InvalidSpec, message);
    let spec = &seen.request.spec;
    let server = resolved.target.postgresql.as_ref();
    let target = server.ok_or_else(|| invalid("spec.target names no server"))?;
    let snapshot = resolved.snapshot_id.clone();
    let databases = spec.databases.iter().map(|database| RestoreDatabase {
        name: database.name.clone(),
        as_name: database.as_name.clone(),
        schemas: database.schemas.clone(),
        tables: database.tables.clone(),
    });
    Ok(Action::Restore(RestoreAction {
        request_uid: seen.identity.uid.clone(),
        snapshot: snapshot.ok_or_else(|| invalid("spec.from names no backup"))?,
        target: postgresql_access(target, &place(seen), mounts),
        databases: databases.collect(),
        globals: spec.globals,
        no_owner: spec.no_owner,
        role_map: spec.role_map.clone(),
        replace: replacing(seen)?,
        once: (spec.strategy != RestoreStrategy::CreateNew).then(|| RequestKey {
            namespace: seen.identity.namespace.clone(),
            name: seen.identity.name.clone(),
            spec_digest: spec_digest(spec),
        }),
        on_error: spec.on_error,
        assertions: spec.assertions.clone(),
        dry_run,
        approved_plan: spec.approved_plan.clone().filter(|_| !dry_run),
    }))
}

/// How databases that exist give way, if they do.
fn replacing(seen: &Gathered) -> Result<Option<ReplaceAction>, Failure> {
    let spec = &seen.request.spec;
    let keep = match spec.strategy {
        RestoreStrategy::CreateNew => return Ok(None),
        RestoreStrategy::Swap => true,
        RestoreStrategy::Overwrite => false,
    };
    let swap = spec.swap.clone().unwrap_or_default();
    let timeout = swap.lock_timeout.parse().map_err(|error| {
        Failure::new(Reason::InvalidSpec, format!("spec.swap.lockTimeout: {error}"))
    })?;
    let created = seen.request.creation_timestamp();
    Ok(Some(ReplaceAction {
        keep,
        terminate_sessions: swap.terminate_sessions,
        lock_timeout_seconds: timeout.as_secs().max(1),
        // The same in every attempt, and in the plan.
        time: created.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        // What was carried out, the ledger knows. After validUntil nothing is begun, and what was
        // begun is finished.
        is_continued: spec.valid_until.is_some_and(|until| until < seen.now),
    }))
}

/// A digest of what is asked for: not of how the Job runs, nor of who approves.
fn spec_digest(spec: &RestoreRequestSpec) -> String {
    let asked = RestoreRequestSpec {
        job: JobSpec::default(),
        dry_run: false,
        approved_plan: None,
        ..spec.clone()
    };
    // What came as JSON becomes JSON.
    let json = serde_json::to_vec(&asked).unwrap_or_default();
    let digest = Sha256::digest(json);
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Where the server that is restored to is named: by the request, or by what it restores.
fn place(seen: &Gathered) -> Place {
    let spec = &seen.request.spec;
    match (&spec.target, &spec.from.backup_ref, &spec.from.latest) {
        (None, Some(backup), _) => {
            Place::new("status.resolved.source.postgresql", "Backup", &backup.name)
        }
        (None, None, Some(latest)) => {
            Place::new("source.postgresql", "BackupSchedule", &latest.schedule_ref.name)
        }
        _ => Place::new("target.postgresql", "RestoreRequest", &seen.identity.name),
    }
}
