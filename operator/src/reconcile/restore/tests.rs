use dbbackup_contract::{
    AccessMode, Failure, FindReport, PlanTerms, Reason, Report, RestorePlan, RestoreReport,
};
use dbbackup_crds::{
    BackupRepository, LocalRef, ResolvedRestore, RestorePhase, RestoreRequestStatus,
};
use jiff::Timestamp;

use super::gather::{Gathered, Resolution};
use super::status::{awaiting, proposed};
use super::{Step, plan, task};
use crate::conditions::{Standing, Verdict};
use crate::names::Purpose;
use crate::reconcile::{finished, fixtures};
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
        now: Timestamp::UNIX_EPOCH,
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
    let waiting = Waiting {
        attempt: 1,
        last_failure: None,
        cause: None,
        until: Timestamp::UNIX_EPOCH,
        limit: "",
    };
    assert!(matches!(plan(&seen(Some(RunView::Waiting(waiting)))), Step::Start(_)));
}

#[test]
fn one_name_for_two_databases_is_refused_before_anything_is_begun() {
    let mut twice = seen(None);
    twice.request.spec.databases[1].as_name = Some("shop_on_friday".into());
    let Step::Fail(failure, _) = plan(&twice) else { panic!() };
    assert!(failure.message.contains("spec.databases[1]"), "{}", failure.message);
}

/// A request that replaces databases.
fn replacing(strategy: &str, more: serde_json::Value) -> Gathered {
    let mut seen = seen(None);
    let mut object = serde_json::to_value(&seen.request).unwrap();
    object["metadata"]["creationTimestamp"] = "2026-11-20T08:12:00Z".into();
    object["spec"]["strategy"] = strategy.into();
    object["spec"]["validUntil"] = "2026-11-21T00:00:00Z".into();
    for (key, value) in more.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    seen.request = serde_json::from_value(object).unwrap();
    seen.now = "2026-11-20T09:00:00Z".parse().unwrap();
    seen
}

fn task_of(seen: &Gathered, purpose: Purpose) -> serde_json::Value {
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let job = task::job(&around, seen, &chosen(), &repository, purpose, "r".into()).unwrap();
    let job = fixtures::readable(&job);
    job["spec"]["template"]["metadata"]["annotations"]["dbbackup.dev/task"]["action"]["restore"]
        .clone()
}

#[test]
fn a_swap_is_asked_for_once_with_the_same_names_in_every_attempt() {
    let seen = replacing("Swap", serde_json::json!({"swap": {"terminateSessions": true}}));
    assert!(matches!(plan(&seen), Step::Begin(_, None)));
    let task = task_of(&seen, Purpose::Restore);
    assert_eq!(
        task["replace"],
        serde_json::json!({"keep": true, "terminateSessions": true, "lockTimeoutSeconds": 10,
            "time": "2026-11-20T08:12:00Z", "isContinued": false})
    );
    // Repositories hold it: a release that computes another one would carry requests out again.
    assert_eq!(
        task["once"],
        serde_json::json!({"namespace": "shop", "name": "shop-look",
            "specDigest": "sha256:184ea65409919a12b8cc61634cb22792674a2926059d256b1291f346f4f9487f"})
    );
    assert!(task_of(&super::tests::seen(None), Purpose::Restore)["once"].is_null());
    for (more, same) in [
        (serde_json::json!({"swap": {"terminateSessions": true}, "dryRun": true}), true),
        (
            serde_json::json!({"swap": {"terminateSessions": true}, "job": {"startTimeout": "1h"}}),
            true,
        ),
        (serde_json::json!({"swap": {"terminateSessions": false}}), false),
        (serde_json::json!({"swap": {"terminateSessions": true}, "noOwner": true}), false),
        (serde_json::json!({"swap": {"terminateSessions": true}, "roleMap": {"a": "b"}}), false),
        (
            serde_json::json!({"swap": {"terminateSessions": true}, "validUntil": "2026-11-22T00:00:00Z"}),
            false,
        ),
    ] {
        let other = task_of(&replacing("Swap", more), Purpose::Restore);
        assert_eq!(other["once"] == task["once"], same);
    }
}

#[test]
fn what_is_dropped_is_named_twice_and_what_is_late_is_left_alone() {
    let names = serde_json::json!({"confirm": ["shop_on_friday", "crm"]});
    let mut sure = replacing("Overwrite", names);
    assert!(matches!(plan(&sure), Step::Begin(..)));
    assert_eq!(task_of(&sure, Purpose::Restore)["replace"]["keep"], false);
    let unsure = replacing("Overwrite", serde_json::json!({"confirm": ["shop", "crm"]}));
    let Step::Fail(failure, 0) = plan(&unsure) else { panic!() };
    assert!(failure.message.contains("confirm lacks shop_on_friday"), "{failure}");

    sure.now = "2026-11-21T00:00:01Z".parse().unwrap();
    let Step::Fail(failure, 0) = plan(&sure) else { panic!() };
    assert_eq!(failure.reason, Reason::RequestExpired);
    // One that has begun goes on: its journal knows what it did.
    sure.status.job_name = Some("j".into());
    let lost = Failure::new(Reason::JobGone, "gone");
    sure.run = Some(RunView::Unknown(lost, 1));
    assert!(matches!(plan(&sure), Step::Begin(..)));
    assert_eq!(task_of(&sure, Purpose::Restore)["replace"]["isContinued"], true);
}

#[test]
fn what_replaces_is_refused_from_a_repository_that_is_only_read() {
    let mut seen = replacing("Swap", serde_json::json!({}));
    seen.repository.as_mut().unwrap().spec.access = AccessMode::ReadOnly;
    let Step::Fail(failure, 0) = plan(&seen) else { panic!() };
    assert_eq!(failure.reason, Reason::RepositoryReadOnly);
}

#[test]
fn a_part_and_other_roles_are_asked_for_as_the_request_says() {
    let databases = serde_json::json!([{"name": "shop", "as": "before", "schemas": ["hr"],
        "tables": [{"schema": "sales", "name": "Odd \"one\""}]}]);
    let seen = replacing(
        "CreateNew",
        serde_json::json!({"databases": databases, "noOwner": true, "roleMap": {"a": "b"}}),
    );
    let task = task_of(&seen, Purpose::Restore);
    assert_eq!(task["databases"], databases);
    assert_eq!((&task["noOwner"], &task["roleMap"]["a"]), (&true.into(), &"b".into()));
}

fn report_with(plan: Option<RestorePlan>, error: Option<Failure>) -> RestoreReport {
    let outcome = if error.is_some() { "Failed" } else { "Succeeded" };
    let json = serde_json::json!({"outcome": outcome, "startTime": "2026-11-20T09:00:00Z",
        "completionTime": "2026-11-20T09:00:05Z"});
    RestoreReport { plan, error, ..serde_json::from_value(json).unwrap() }
}

fn a_plan() -> RestorePlan {
    let database = serde_json::json!({"name": "shop", "as": "shop_on_friday", "action": "Replace",
        "replaces": {"oid": 5, "keptAs": "shop_on_friday_before_20261120t081200z"}});
    let databases = vec![serde_json::from_value(database).unwrap()];
    RestorePlan::new("s1", "7", &PlanTerms::default(), databases, Vec::new())
}

#[test]
fn a_dry_run_ends_with_a_plan_and_only_its_approval_goes_on() {
    let mut seen = replacing("Swap", serde_json::json!({"dryRun": true}));
    assert!(matches!(plan(&seen), Step::Plan(_, None)));
    assert_eq!(task_of(&seen, Purpose::Plan)["dryRun"], true);
    seen.status.job_name = Some("j".into());
    let report = report_with(Some(a_plan()), None);
    let reported = |report| Some(RunView::Reported(Box::new(Report::Restore(report)), 1));
    seen.run = reported(report.clone());
    assert!(matches!(plan(&seen), Step::Propose(_)));
    // Also where somebody has taken dryRun away meanwhile: nothing was done.
    seen.request.spec.dry_run = false;
    let Step::Propose(told) = plan(&seen) else { panic!() };

    let status = proposed(seen.status.clone(), *told, Some(1), seen.now);
    assert_eq!(status.phase, Some(RestorePhase::AwaitingApproval));
    assert_eq!(status.display.as_deref(), Some("planned: replaces shop_on_friday"));
    (seen.status, seen.run) = (status, None);
    let other = Some(format!("sha256:{}", "0".repeat(64)));
    for (dry_run, approved, reason) in [
        (true, None, Reason::AwaitingApproval),
        (false, None, Reason::AwaitingApproval),
        (true, other.clone(), Reason::PlanChanged),
        (false, other, Reason::PlanChanged),
    ] {
        seen.request.spec.dry_run = dry_run;
        seen.request.spec.approved_plan = approved;
        let Step::AwaitApproval(why) = plan(&seen) else { panic!() };
        assert_eq!(why.reason, reason);
        let status = awaiting(seen.status.clone(), &why, Some(2), seen.now);
        let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        let is_planned = reason == Reason::AwaitingApproval;
        assert_eq!((ready.status == "True", status.error.is_none()), (is_planned, is_planned));
    }
    // Git goes on saying that it is a dry run.
    seen.request.spec.dry_run = true;
    seen.request.spec.approved_plan = Some(a_plan().digest);
    assert!(matches!(plan(&seen), Step::Begin(..)));
    assert_eq!(task_of(&seen, Purpose::Restore)["approvedPlan"], a_plan().digest);

    // An approval that is taken back while its Job is lost is one no more.
    let mut taken_back = seen.clone();
    taken_back.request.spec.approved_plan = None;
    taken_back.status.job_name = Some("k".into());
    let gone = Failure::new(Reason::JobGone, "gone");
    taken_back.run = Some(RunView::Unknown(gone.clone(), 1));
    assert!(matches!(plan(&taken_back), Step::AwaitApproval(_)));
    taken_back.request.spec.approved_plan = Some(a_plan().digest);
    assert!(matches!(plan(&taken_back), Step::Begin(_, Some(_))));

    // It is another one by now: somebody has to look again.
    seen.status.job_name = Some("k".into());
    seen.status.jobs = Some(1);
    let changed = Failure::new(Reason::PlanChanged, "the plan is sha256:1");
    seen.run = reported(report_with(Some(a_plan()), Some(changed)));
    let Step::Propose(told) = plan(&seen) else { panic!() };
    let status = proposed(seen.status.clone(), *told, Some(2), seen.now);
    assert_eq!((status.phase, status.jobs), (Some(RestorePhase::AwaitingApproval), Some(1)));
    assert_eq!(status.error.unwrap().reason, Reason::PlanChanged);
    // One that was carried out has no plan, and one that can never be has failed.
    seen.run = reported(report_with(None, None));
    assert!(matches!(plan(&seen), Step::Finish(..)));
    let exists = Failure::new(Reason::DatabaseExists, "x");
    seen.run = reported(report_with(Some(a_plan()), Some(exists)));
    assert!(matches!(plan(&seen), Step::Finish(..)));
}

#[test]
fn a_request_that_was_carried_out_before_is_no_failure_and_one_that_is_late_is_expired() {
    let done = Failure::new(Reason::AlreadyCarriedOut, "shop/back was carried out");
    let late = Failure::new(Reason::RequestExpired, "it is late");
    let in_part = Failure::new(Reason::CarriedOutInPart, "shop/back was carried out in part");
    for (failure, phase, complete) in [
        (done, RestorePhase::AlreadyCarriedOut, true),
        (in_part, RestorePhase::AlreadyCarriedOut, false),
        (late, RestorePhase::Expired, false),
    ] {
        let now = Timestamp::UNIX_EPOCH;
        let (status, _) = finished(RestoreRequestStatus::default(), &Err(failure), 0, None, now);
        assert_eq!(status.phase, Some(phase));
        assert!(phase.is_terminal());
        let has = |type_: &str| {
            status.conditions.iter().any(|it| it.type_ == type_ && it.status == "True")
        };
        assert_eq!((has("Complete"), has("Failed")), (complete, !complete), "{status:?}");
    }
}

#[test]
fn a_plan_says_what_it_would_be_refused_by_now_and_can_be_approved_all_the_same() {
    let json = |name: &str, action: &str, reason: Option<Reason>| {
        let error = reason.map(|reason| Failure::new(reason, "no"));
        serde_json::json!({"name": name, "action": action, "error": error})
    };
    let in_use = Some(Reason::DatabaseInUse);
    for (databases, words) in [
        (
            vec![json("shop", "Replace", in_use)],
            "replaces shop; refused as it is now: DatabaseInUse (shop)",
        ),
        (
            vec![
                json("shop", "Replace", in_use),
                json("crm", "Replace", in_use),
                json("erp", "Create", None),
            ],
            "replaces crm, shop; creates erp; refused as it is now: DatabaseInUse (crm, shop)",
        ),
        // What is refused for good is no part of what is carried out.
        (
            vec![
                json("shop", "Replace", None),
                json("crm", "Refuse", Some(Reason::ExtensionNotAvailable)),
            ],
            "replaces shop; refuses crm",
        ),
    ] {
        let databases =
            databases.into_iter().map(|json| serde_json::from_value(json).unwrap()).collect();
        let plan = RestorePlan::new("s1", "7", &PlanTerms::default(), databases, Vec::new());
        let seen = replacing("Swap", serde_json::json!({"dryRun": true}));
        let status = proposed(seen.status, report_with(Some(plan), None), Some(1), seen.now);
        assert_eq!(status.display, Some(format!("planned: {words}")));
        let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Planned"));
        assert!(ready.message.starts_with(&format!("the plan: {words}. ")), "{}", ready.message);
        assert_eq!(status.phase, Some(RestorePhase::AwaitingApproval));
    }
}
