use dbbackup_crds::{LocalRef, RestoreRequestStatus};

use super::*;
use crate::reconcile::fixtures;
use crate::reconcile::restore::{Resolution, plan};
use crate::run::Waiting;

fn resolved() -> ResolvedRestore {
    ResolvedRestore {
        repository_ref: LocalRef { name: "main".into() },
        snapshot_id: None,
        series: Some("3f6c/shop/shop-nightly".into()),
        before: fixtures::request().spec.from.latest.and_then(|latest| latest.before),
        target: fixtures::target(),
    }
}

fn ready_repository() -> BackupRepository {
    let mut repository = fixtures::repository();
    let now = Timestamp::UNIX_EPOCH;
    let verdict = Verdict::new(Standing::Ready, "Opened", "");
    if let Some(status) = &mut repository.status {
        status.conditions = crate::conditions::conditions(&[], &verdict, Some(1), now);
    }
    repository
}

fn seen(run: Option<RunView>) -> Gathered {
    let mut seen = Gathered {
        request: fixtures::request(),
        identity: fixtures::identity("shop-look"),
        status: RestoreRequestStatus::default(),
        resolved: Resolution::Known(Box::new(resolved())),
        repository: Some(ready_repository()),
        run: None,
    };
    if run.is_some() {
        seen.status.job_name = Some("j".into());
        seen.status.jobs = Some(1);
    }
    seen.run = run;
    seen
}

#[test]
fn the_job_of_a_restore() {
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let job = restore_job(&around, &seen(None), &resolved(), &repository, "r".into()).unwrap();
    insta::assert_yaml_snapshot!(fixtures::readable(&job));
}

#[test]
fn a_restore_whose_report_is_lost_is_carried_out_again_but_not_for_ever() {
    let lost = || Some(RunView::Unknown(Failure::new(Reason::JobGone, "gone"), 1));
    let mut seen = seen(lost());
    let Step::Begin(_, Some(cause)) = plan(&seen) else { panic!() };
    assert_eq!(cause.reason, Reason::JobGone);
    seen.status.jobs = Some(3);
    let Step::Fail(failure, _) = plan(&seen) else { panic!() };
    assert!(!failure.is_retryable() && failure.message.contains("3 times"));
}

#[test]
fn a_restore_waits_for_what_may_still_come_and_fails_for_what_cannot() {
    let mut missing = seen(None);
    missing.resolved = Resolution::Missing(Failure::new(Reason::ReferenceNotFound, "x"));
    assert!(matches!(plan(&missing), Step::Wait(_)));
    let mut impossible = seen(None);
    impossible.resolved = Resolution::Impossible(Failure::new(Reason::InvalidSpec, "x"));
    assert!(matches!(plan(&impossible), Step::Fail(..)));
    let mut no_repository = seen(None);
    no_repository.repository = None;
    assert!(matches!(plan(&no_repository), Step::Wait(_)));
    assert!(matches!(plan(&seen(None)), Step::Begin(_, None)));
    let waiting = Waiting { cause: None, until: Timestamp::UNIX_EPOCH };
    assert!(matches!(plan(&seen(Some(RunView::Waiting(waiting)))), Step::Start(_)));
}

#[test]
fn one_name_for_two_databases_is_refused_before_anything_is_begun() {
    let mut twice = seen(None);
    twice.request.spec.databases[1].as_name = Some("shop_on_friday".into());
    let Step::Fail(failure, _) = plan(&twice) else { panic!() };
    assert!(failure.message.contains("spec.databases[1]"), "{}", failure.message);
}
