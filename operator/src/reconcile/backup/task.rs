//! The tasks of a `Backup`: the run itself, the question what became of it, and what an
//! imported snapshot is.

use dbbackup_contract::{
    Action, BackupAction, Failure, ImportAction, InspectAction, MadeBy, Origin, Reason, SubjectKind,
};
use dbbackup_crds::{Backup, BackupRepository, JobSpec, ResolvedBackup};
use k8s_openapi::api::batch::v1::Job;

use super::gather::Gathered;
use crate::context::{Identity, Surroundings};
use crate::job::{Errand, Mounts, Place, hooks_access, source_access};
use crate::names::{Purpose, schedule_series, single_series};
use crate::reconcile::maintenance::seconds;

/// The series of a run.
pub(super) fn series(cluster: &str, seen: &Gathered, resolved: &ResolvedBackup) -> String {
    let namespace = &seen.identity.namespace;
    match &resolved.schedule {
        Some(schedule) => schedule_series(cluster, namespace, schedule),
        None => single_series(cluster, namespace, &seen.identity.name),
    }
}

/// The Job that makes the backup.
pub(super) fn backup_job(
    around: &Surroundings,
    seen: &Gathered,
    resolved: &ResolvedBackup,
    repository: &BackupRepository,
    name: String,
) -> Result<Job, Failure> {
    let mut mounts = Mounts::default();
    let (place, spec) = match &resolved.schedule {
        Some(schedule) => {
            let place = |path| Place::new(path, "BackupSchedule", schedule);
            (place("source.postgresql"), place(""))
        }
        None => {
            let place = |path| Place::new(path, "Backup", &seen.identity.name);
            (place("template.source.postgresql"), place("template"))
        }
    };
    let source = source_access(&resolved.source, &place, &mut mounts)
        .ok_or_else(|| Failure::new(Reason::InvalidSpec, "spec.source names no server"))?;
    let action = Action::Backup(BackupAction {
        method: resolved.method,
        series: series(&around.cluster, seen, resolved),
        run_id: seen.identity.uid.clone(),
        slot_time: resolved.slot_time,
        origin: Origin {
            cluster: around.cluster.clone(),
            namespace: seen.identity.namespace.clone(),
            backup: seen.identity.name.clone(),
            schedule: resolved.schedule.clone(),
        },
        made_by: match seen.slot {
            Some(_) => MadeBy::Schedule,
            None => MadeBy::Person {
                retain_for_seconds: resolved.retain_for.as_ref().and_then(seconds),
            },
        },
        source,
        hooks: hooks_access(resolved.hooks.as_ref(), &spec, &mut mounts)?,
    });
    let job = &resolved.job;
    let subject = (&seen.backup, &seen.identity);
    finish(around, subject, repository, mounts, (Purpose::Backup, action, job, name))
}

/// The Job that asks the repository.
pub(super) fn inspect_job(
    around: &Surroundings,
    seen: &Gathered,
    resolved: &ResolvedBackup,
    repository: &BackupRepository,
    name: String,
) -> Result<Job, Failure> {
    let action = Action::Inspect(InspectAction {
        series: series(&around.cluster, seen, resolved),
        run_id: seen.identity.uid.clone(),
        slot_time: resolved.slot_time,
    });
    let (job, subject) = (&repository.spec.job, (&seen.backup, &seen.identity));
    finish(around, subject, repository, Mounts::default(), (Purpose::Inspect, action, job, name))
}

/// The Job that looks an imported snapshot up.
pub(super) fn look_job(
    around: &Surroundings,
    subject: (&Backup, &Identity),
    repository: &BackupRepository,
    snapshot: &str,
    name: String,
) -> Result<Job, Failure> {
    let action = Action::Import(ImportAction::One { snapshot: snapshot.to_owned() });
    let job = &repository.spec.job;
    finish(around, subject, repository, Mounts::default(), (Purpose::Inspect, action, job, name))
}

fn finish(
    around: &Surroundings,
    (backup, identity): (&Backup, &Identity),
    repository: &BackupRepository,
    mounts: Mounts,
    (purpose, action, job, name): (Purpose, Action, &JobSpec, String),
) -> Result<Job, Failure> {
    let errand = Errand {
        kind: SubjectKind::Backup,
        identity,
        purpose,
        name,
        action,
        mounts,
        repository: Some(repository),
        destination: None,
        job,
    };
    errand.job_of(backup, around)
}

#[cfg(test)]
mod tests {
    use dbbackup_crds::BackupStatus;

    use super::*;
    use crate::reconcile::backup::gather::Resolution;
    use crate::reconcile::fixtures;

    fn seen() -> Gathered {
        Gathered {
            backup: fixtures::backup(),
            identity: fixtures::identity("shop-nightly-29391435"),
            status: BackupStatus::default(),
            resolved: Resolution::Known(Box::new(fixtures::resolved_backup())),
            repository: Some(fixtures::repository()),
            slot: None,
            deadline_seconds: None,
            jitter: jiff::SignedDuration::ZERO,
            run: None,
            inspection: None,
        }
    }

    #[test]
    fn the_job_of_a_backup() {
        let (around, resolved) = (fixtures::surroundings(), fixtures::resolved_backup());
        let repository = fixtures::repository();
        let job = backup_job(&around, &seen(), &resolved, &repository, "b".into()).unwrap();
        insta::assert_yaml_snapshot!(fixtures::readable(&job));
    }

    #[test]
    fn the_job_of_an_inspection() {
        let (around, resolved) = (fixtures::surroundings(), fixtures::resolved_backup());
        let repository = fixtures::repository();
        let job = inspect_job(&around, &seen(), &resolved, &repository, "i".into()).unwrap();
        insta::assert_yaml_snapshot!(fixtures::readable(&job));
    }

    #[test]
    fn the_job_that_looks_an_imported_snapshot_up() {
        let (around, seen, repository) = (fixtures::surroundings(), seen(), fixtures::repository());
        let subject = (&seen.backup, &seen.identity);
        let job = look_job(&around, subject, &repository, "a-b-c-0", "i".into()).unwrap();
        let job = fixtures::readable(&job);
        let task = job.pointer("/spec/template/metadata/annotations/dbbackup.dev~1task").unwrap();
        insta::assert_yaml_snapshot!(task["action"], @r"
        import:
          one:
            snapshot: a-b-c-0
        ");
        assert_eq!(task["subject"]["kind"], "Backup");
    }

    #[test]
    fn a_task_that_is_too_large_is_refused_with_advice() {
        let (around, mut resolved) = (fixtures::surroundings(), fixtures::resolved_backup());
        if let Some(postgresql) = &mut resolved.source.postgresql {
            let databases = postgresql.databases.get_or_insert_default();
            databases.include = (0..256).map(|n| format!("{n:0256}")).collect();
        }
        let repository = fixtures::repository();
        let failure = backup_job(&around, &seen(), &resolved, &repository, "b".into()).unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.contains("globs"), "{}", failure.message);
    }

    #[test]
    fn hooks_that_do_not_fit_a_task_are_refused_with_advice() {
        let (around, mut resolved) = (fixtures::surroundings(), fixtures::resolved_backup());
        let hooks = resolved.hooks.as_mut().unwrap();
        // What counts in the API are characters.
        let sql = dbbackup_contract::SqlText("\u{7}".repeat(8192));
        hooks.before = ["a", "b", "c"]
            .map(|name| {
                let (name, sql) = (name.to_owned(), sql.clone());
                dbbackup_crds::BeforeHookSpec { name, sql, ..hooks.before[0].clone() }
            })
            .into();
        let repository = fixtures::repository();
        let failure = backup_job(&around, &seen(), &resolved, &repository, "b".into()).unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.contains("functions of the database"), "{}", failure.message);
    }

    #[test]
    fn a_backup_without_a_schedule_has_a_series_that_no_schedule_can_have() {
        let mut resolved = fixtures::resolved_backup();
        assert_eq!(series("3f6c", &seen(), &resolved), "3f6c/shop/shop-nightly");
        resolved.schedule = None;
        assert_eq!(series("3f6c", &seen(), &resolved), "3f6c/shop/~shop-nightly-29391435");
    }
}
