use dbbackup_contract::{Failure, FindReport, Reason, Report};
use dbbackup_crds::{BackupRepository, LocalRef, ResolvedRestore, RestoreRequestStatus};
use jiff::Timestamp;

use super::gather::{Gathered, Resolution};
use super::{Step, plan, task};
use crate::conditions::{Standing, Verdict};
use crate::names::Purpose;
use crate::reconcile::fixtures;
use crate::run::{RunView, Waiting};

/// The newest snapshot, which is not known yet.
fn resolved() -> ResolvedRestore {
    ResolvedRestore {
        repository_ref: LocalRef { name: "main".into() },
        snapshot_id: None,
        series: Some("3f6c/shop/shop-nightly".into()),
        before: fixtures::request().spec.from.latest.and_then(|latest| latest.before),
        target: fixtures::target(),
    }
}

/// The same, once it is known.
fn chosen() -> ResolvedRestore {
    ResolvedRestore { snapshot_id: Some("s1".into()), ..resolved() }
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
        resolved: Resolution::Known(Box::new(chosen())),
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

fn job(purpose: Purpose, resolved: &ResolvedRestore) -> serde_json::Value {
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let job = task::job(&around, &seen(None), resolved, &repository, purpose, "r".into());
    fixtures::readable(&job.unwrap())
}

#[test]
fn the_job_of_a_restore() {
    insta::assert_yaml_snapshot!(job(Purpose::Restore, &chosen()));
}

#[test]
fn the_job_that_finds_the_newest_snapshot_has_no_credentials_of_a_server() {
    let job = job(Purpose::Find, &resolved());
    let find = &job["spec"]["template"]["metadata"]["annotations"]["dbbackup.dev/task"]["action"];
    assert_eq!(find["find"]["series"], "3f6c/shop/shop-nightly");
    assert!(!job.to_string().contains("shop-db"), "{job}");
}

#[test]
fn the_newest_snapshot_is_found_once_and_each_later_job_takes_that_one() {
    let mut seen = seen(None);
    seen.resolved = Resolution::Known(Box::new(resolved()));
    assert!(matches!(plan(&seen), Step::Find(_, None)));
    let reported = |report| Some(RunView::Reported(Box::new(Report::Find(report)), 1));
    seen.status.jobs = Some(1);
    seen.run = reported(FindReport { snapshot_id: Some("s1".into()), error: None });
    let Step::Choose(before, id) = plan(&seen) else { panic!() };
    assert_eq!((*before, id.as_str()), (resolved(), "s1"));
    let nothing = Failure::new(Reason::SnapshotNotFound, "no snapshot");
    seen.run = reported(FindReport { snapshot_id: None, error: Some(nothing) });
    let Step::Fail(failure, 1) = plan(&seen) else { panic!() };
    assert_eq!(failure.reason, Reason::SnapshotNotFound);
    // A question whose answer is lost is asked again.
    seen.run = Some(RunView::Unknown(Failure::new(Reason::JobGone, "gone"), 1));
    assert!(matches!(plan(&seen), Step::Find(_, Some(_))));

    seen.resolved = Resolution::Known(Box::new(chosen()));
    assert!(matches!(plan(&seen), Step::Begin(_, Some(_))));
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
fn a_restore_that_was_killed_for_want_of_memory_in_each_attempt_is_not_begun_again() {
    let killed = Failure::new(Reason::OutOfMemory, "its limit is 48Mi").with_hint("Raise it.");
    let seen = seen(Some(RunView::Unknown(killed.clone(), 4)));
    assert_eq!(plan(&seen), Step::Fail(killed, 4));
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
    let waiting =
        Waiting { attempt: 1, last_failure: None, cause: None, until: Timestamp::UNIX_EPOCH };
    assert!(matches!(plan(&seen(Some(RunView::Waiting(waiting)))), Step::Start(_)));
}

#[test]
fn one_name_for_two_databases_is_refused_before_anything_is_begun() {
    let mut twice = seen(None);
    twice.request.spec.databases[1].as_name = Some("shop_on_friday".into());
    let Step::Fail(failure, _) = plan(&twice) else { panic!() };
    assert!(failure.message.contains("spec.databases[1]"), "{}", failure.message);
}
