use dbbackup_contract::{
    AccessMode, ErrorClass, Failure, FindReport, Outcome, Reason, RecoverReport, Report,
};
use dbbackup_crds::{
    BackupRepository, PitrPhase, PitrRestore, PitrRestoreStatus, PitrSource, ResolvedPitr,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::gather::{Gathered, Resolution, of_repository, of_schedule};
use super::status::{Recovered, claimed, looking, noted};
use super::{Step, plan, task};
use crate::conditions::{Standing, Verdict, holds};
use crate::labels;
use crate::reasons::{COMPLETE, FAILED, RECONCILING};
use crate::reconcile::{finished, fixtures, running};
use crate::run::{RunView, Waiting};

fn now() -> Timestamp {
    "2026-11-20T15:00:00Z".parse().unwrap()
}

fn resolved() -> ResolvedPitr {
    let repository_ref = dbbackup_crds::LocalRef { name: "main".into() };
    ResolvedPitr { repository_ref, series: "3f6c/shop/shop".into() }
}

fn ready_repository() -> BackupRepository {
    let mut repository = fixtures::repository();
    let verdict = Verdict::new(Standing::Ready, "Opened", "");
    if let Some(status) = &mut repository.status {
        status.conditions = crate::conditions::conditions(&[], &verdict, Some(1), now());
    }
    repository
}

/// Nothing was begun yet.
fn seen() -> Gathered {
    Gathered {
        request: fixtures::recovery(),
        identity: fixtures::identity("shop-1437"),
        status: PitrRestoreStatus::default(),
        resolved: Resolution::Known(resolved()),
        repository: Some(ready_repository()),
        claim: None,
        run: None,
        now: now(),
    }
}

/// The same with other fields of the spec.
fn asking(more: Value) -> Gathered {
    let mut object = serde_json::to_value(fixtures::recovery()).unwrap();
    let spec = object["spec"].as_object_mut().unwrap();
    spec.extend(more.as_object().unwrap().clone());
    Gathered { request: serde_json::from_value(object).unwrap(), ..seen() }
}

fn report(more: Value) -> RecoverReport {
    let mut json = json!({
        "outcome": "Succeeded", "startTime": "2026-11-20T14:56:00Z",
        "completionTime": "2026-11-20T14:59:10Z",
        "base": {"snapshotId": "b1", "time": "2026-11-20T12:00:01Z"},
        "resolvedTarget": {"lsn": "0/5A2B1C8", "timeline": 1, "time": "2026-11-20T13:36:59.871Z"},
        "recoveryWindow": {"earliest": "2026-11-06T01:15:01Z", "latest": "2026-11-20T15:01:12Z"},
        "neededBytes": 12_000_000_000_u64,
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

/// What the server was brought to.
fn reached() -> RecoverReport {
    report(json!({
        "reached": {"lsn": "0/5A2B1C8", "timeline": 2, "lastTransactionTime": "2026-11-20T13:36:59.871Z"},
        "server": {"version": "17.6", "identity": "7", "sizeBytes": 1},
        "restoredBytes": 11_000_000_000_u64,
    }))
}

/// The look has found the moment.
fn found(mut seen: Gathered) -> Gathered {
    seen.status.resolved = Some(resolved());
    seen.status = noted(seen.status, &report(json!({})), Some(1), now());
    seen
}

fn reported(report: RecoverReport) -> Option<RunView> {
    Some(RunView::Reported(Box::new(Report::Recover(Box::new(report))), 1))
}

fn claim(more: Value) -> PersistentVolumeClaim {
    let mut json = json!({"metadata": {"name": "shop-1437"}, "spec": {}});
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

/// A claim that was made for the object.
fn own_claim() -> PersistentVolumeClaim {
    claim(json!({"metadata": {"annotations": {labels::RECOVERY: "uid-of-shop-1437"}}}))
}

fn job_of(seen: &Gathered, claim: Option<&str>) -> Value {
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let job = task::job(&around, seen, &resolved(), &repository, claim, "r".into());
    fixtures::readable(&job.unwrap())
}

fn task_of(seen: &Gathered, claim: Option<&str>) -> Value {
    let job = job_of(seen, claim);
    job["spec"]["template"]["metadata"]["annotations"]["dbbackup.dev/task"]["action"]["recover"]
        .clone()
}

#[test]
fn the_job_of_a_recovery() {
    insta::assert_yaml_snapshot!(job_of(&found(seen()), Some("shop-1437")));
}

#[test]
fn all_containers_are_as_pod_security_wants_them_and_the_server_sees_nothing_of_the_runner() {
    let more = json!({"job": {"podSecurityContext": {"runAsUser": 999, "fsGroup": 999}}});
    let job = job_of(&found(asking(more)), Some("shop-1437"));
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsUser"], 999);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let list = |name: &str| pod[name].as_array().unwrap().clone();
    let (before, main) = (list("initContainers"), list("containers"));
    let names: Vec<_> = before.iter().chain(&main).map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["shim", "server", "runner"]);
    for container in before.iter().chain(&main) {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{container}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
        assert_eq!(context["runAsNonRoot"], true, "{container}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{container}");
    }
    let mounted = |container: &Value| -> Vec<String> {
        let mounts = container["volumeMounts"].as_array().unwrap();
        mounts.iter().map(|it| it["mountPath"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(mounted(&before[0]), ["/run/dbbackup/server"]);
    assert_eq!(mounted(&before[1]), ["/run/dbbackup/server", "/recovered"]);
    assert!(mounted(&main[0]).ends_with(&["/run/dbbackup/server".into(), "/recovered".into()]));
    assert_eq!(
        (&before[0]["image"], &before[1]["image"]),
        (&"runner:1".into(), &"postgres:17".into())
    );
    assert_eq!(
        (&before[0]["restartPolicy"], &before[1]["restartPolicy"]),
        (&Value::Null, &"Always".into())
    );
    let memory = |limits: &str| before[1]["resources"][limits]["memory"].clone();
    let mebibytes = |count: u64| Value::from((count << 20).to_string());
    assert_eq!((memory("requests"), memory("limits")), (mebibytes(256), mebibytes(1024)));
}

#[test]
fn a_server_has_the_memory_that_is_said_and_what_is_none_is_refused() {
    let with = |resources: Value| found(asking(json!({"server": {"resources": resources}})));
    let job = job_of(&with(json!({"limits": {"memory": "4Gi"}})), Some("c"));
    let server = &job["spec"]["template"]["spec"]["initContainers"][1];
    assert_eq!(server["resources"]["limits"]["memory"], "4Gi");
    let (around, repository) = (fixtures::surroundings(), fixtures::repository());
    let wrong = with(json!({"limits": {"memory": "much"}}));
    let job = task::job(&around, &wrong, &resolved(), &repository, Some("c"), "r".into());
    let failure = job.unwrap_err();
    assert_eq!(failure.reason, Reason::InvalidSpec);
    assert!(failure.message.starts_with("spec.server.resources: "), "{failure}");
}

#[test]
fn the_look_has_neither_server_nor_claim_and_the_recovery_takes_the_base_that_it_chose() {
    let job = job_of(&seen(), None);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!((&pod["initContainers"], &pod["containers"][1]), (&Value::Null, &Value::Null));
    assert!(!job.to_string().contains("/recovered"), "{job}");
    let action = |snapshot: Value, dry_run: Value| {
        json!({
            "requestUid": "uid-of-shop-1437", "series": "3f6c/shop/shop", "timeline": "latest",
            "point": {"time": {"time": "2026-11-20T13:37:00.25Z", "inclusive": false}},
            "snapshot": snapshot, "dryRun": dry_run,
        })
    };
    let without = |mut action: Value, field: &str| {
        action.as_object_mut().unwrap().remove(field);
        action
    };
    assert_eq!(task_of(&seen(), None), without(action(Value::Null, true.into()), "snapshot"));
    let recovery = task_of(&found(seen()), Some("shop-1437"));
    assert_eq!(recovery, without(action("b1".into(), false.into()), "dryRun"));
}

#[test]
fn each_kind_of_moment_and_timeline_becomes_that_of_the_task() {
    for (target, point, timeline) in [
        (
            json!({"time": "2026-11-20T14:37:00Z"}),
            json!({"time": {"time": "2026-11-20T14:37:00Z", "inclusive": true}}),
            json!("latest"),
        ),
        (
            json!({"lsn": "16/B374D848", "timeline": "Current"}),
            json!({"lsn": {"lsn": "16/B374D848", "inclusive": true}}),
            json!("current"),
        ),
        (
            json!({"xid": "48112", "inclusive": false, "timeline": "3"}),
            json!({"xid": {"xid": 48112, "inclusive": false}}),
            json!({"number": 3}),
        ),
        // As pg_current_xact_id() counts on.
        (
            json!({"xid": "4294967396", "inclusive": true}),
            json!({"xid": {"xid": 100, "inclusive": true}}),
            json!("latest"),
        ),
        (json!({"name": "before"}), json!({"name": "before"}), json!("latest")),
        (json!({"immediate": {}}), json!({"immediate": {}}), json!("latest")),
        (json!({"latest": {}}), json!({"latest": {}}), json!("latest")),
    ] {
        let task = task_of(&asking(json!({"recoveryTarget": target})), None);
        assert_eq!((&task["point"], &task["timeline"]), (&point, &timeline));
    }
}

#[test]
fn a_moment_that_means_nothing_is_refused_before_anything_is_begun() {
    for (target, words) in [
        (json!({}), "no moment, or several"),
        (json!({"latest": {}, "immediate": {}}), "no moment, or several"),
        (json!({"xid": "48112"}), "inclusive is missing"),
        (json!({"xid": "2", "inclusive": true}), "2 is no transaction's number"),
        (json!({"xid": "99999999999999999999", "inclusive": true}), "no transaction's number"),
        (json!({"latest": {}, "timeline": "9999999999"}), "timeline: 9999999999"),
    ] {
        let Step::Fail(failure, 0) = plan(&asking(json!({"recoveryTarget": target}))) else {
            panic!("{target}")
        };
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn a_recovery_looks_first_then_makes_its_claim_and_then_recovers() {
    let mut seen = seen();
    assert_eq!(plan(&seen), Step::Look(resolved(), None));
    (seen.status.job_name, seen.status.jobs) = (Some("look".into()), Some(1));
    seen.run = reported(report(json!({})));
    let Step::Note(told) = plan(&seen) else { panic!() };

    seen.status = noted(seen.status, &told, Some(1), now());
    seen.run = None;
    let status = &seen.status;
    assert_eq!((&status.job_name, &status.jobs, status.phase), (&None, &None, None));
    assert_eq!(
        (&*status.base.as_ref().unwrap().snapshot_id, status.needed_bytes),
        ("b1", Some(12_000_000_000))
    );
    let words = "found: 0/5A2B1C8 on timeline 1 (2026-11-20 13:36:59.871 UTC); needs 12 GB";
    assert_eq!(status.display.as_deref(), Some(words));
    assert!(holds(&status.conditions, RECONCILING, Some(1)));

    let Step::MakeClaim(made) = plan(&seen) else { panic!("{:?}", plan(&seen)) };
    seen.claim = Some(*made);
    seen.status = claimed(seen.status, "shop-1437", Some(1), now());
    let claim = "shop-1437".to_owned();
    let begin = Step::Recover { resolved: resolved(), claim, cause: None };
    assert_eq!(plan(&seen), begin);
    (seen.status.job_name, seen.status.jobs) = (Some("recovery".into()), Some(1));
    seen.run = Some(RunView::Running { attempts: 1, last_failure: None });
    assert_eq!(plan(&seen), Step::Run { attempts: 1, last_failure: None });
    seen.run = reported(reached());
    assert_eq!(plan(&seen), Step::Finish(Box::new(reached()), 1));
}

#[test]
fn the_claim_of_a_template_is_the_objects_own_and_goes_along_only_where_that_was_said() {
    let made = |policy: &str| {
        let template =
            json!({"storageClassName": "fast", "size": "50Gi", "accessModes": ["ReadWriteMany"]});
        let to = json!({"volumeClaim": {"template": template, "reclaimPolicy": policy}});
        let Step::MakeClaim(claim) = plan(&found(asking(json!({"to": to})))) else { panic!() };
        serde_json::to_value(*claim).unwrap()
    };
    let kept = made("Retain");
    assert_eq!(
        kept["metadata"],
        json!({"name": "shop-1437", "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "dbbackup", "dbbackup.dev/kind": "PitrRestore"},
            "annotations": {"dbbackup.dev/pitr-restore-uid": "uid-of-shop-1437"}})
    );
    assert_eq!(
        kept["spec"],
        json!({"accessModes": ["ReadWriteMany"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "50Gi"}}})
    );
    let owner = &made("Delete")["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&"PitrRestore".into(), &"uid-of-shop-1437".into())
    );
}

#[test]
fn a_claim_that_would_be_too_small_is_not_made_and_both_sizes_are_said() {
    let to = json!({"volumeClaim": {"template": {"size": "11Gi"}}});
    let Step::Fail(failure, 0) = plan(&found(asking(json!({"to": to})))) else { panic!() };
    assert_eq!(failure.reason, Reason::VolumeTooSmall);
    for words in ["size is 11Gi", "need 12 GB", "12000000000 bytes"] {
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn a_claim_of_somebody_else_is_left_alone() {
    let refused = |claim: PersistentVolumeClaim| {
        let seen = Gathered { claim: Some(claim), ..found(seen()) };
        let Step::Fail(failure, 0) = plan(&seen) else { panic!("{:?}", plan(&seen)) };
        (failure.reason, failure.message)
    };
    let others = claim(json!({"metadata": {"annotations": {labels::RECOVERY: "of-one-before"}}}));
    for claim in [claim(json!({})), others] {
        let (reason, message) = refused(claim);
        assert_eq!(reason, Reason::VolumeNotEmpty);
        assert!(message.contains("was not made for this PitrRestore"), "{message}");
    }
    let own = Gathered { claim: Some(own_claim()), ..found(seen()) };
    assert!(matches!(plan(&own), Step::Recover { .. }));
}

#[test]
fn a_claim_that_is_named_is_waited_for_and_is_neither_a_device_nor_the_repositorys() {
    let named = |name: &str, claim: Option<PersistentVolumeClaim>| {
        let seen = found(asking(json!({"to": {"volumeClaim": {"name": name}}})));
        plan(&Gathered { claim, ..seen })
    };
    let going = claim(json!({"metadata": {"deletionTimestamp": "2026-11-20T15:00:00Z"}}));
    for absent in [None, Some(going)] {
        let Step::Wait(failure) = named("mine", absent) else { panic!() };
        assert_eq!((failure.reason, failure.class), (Reason::ClaimNotFound, ErrorClass::Retryable));
        assert!(failure.message.contains("the PersistentVolumeClaim mine"), "{failure}");
    }
    let Step::Recover { claim: name, .. } = named("mine", Some(claim(json!({})))) else { panic!() };
    assert_eq!(name, "mine");
    let device = claim(json!({"spec": {"volumeMode": "Block"}}));
    let Step::Fail(failure, 0) = named("mine", Some(device)) else { panic!() };
    assert_eq!(failure.reason, Reason::InvalidSpec);
    // The claim of the fixtures' repository: a pod with both would hang.
    let Step::Fail(failure, 0) = named("backups", Some(claim(json!({})))) else { panic!() };
    assert_eq!(failure.reason, Reason::VolumeNotEmpty);
}

#[test]
fn a_moment_that_cannot_be_reached_ends_it_with_the_window_and_without_a_claim() {
    let mut seen = seen();
    (seen.status.job_name, seen.status.jobs) = (Some("look".into()), Some(1));
    let error = Failure::new(Reason::TargetUnreachable, "the log ends at 15:01:12");
    let unreachable =
        report(json!({"outcome": "Failed", "base": null, "resolvedTarget": null, "error": error}));
    seen.run = reported(unreachable.clone());
    let Step::Finish(told, 1) = plan(&seen) else { panic!() };
    let end = Recovered::of(&seen, *told);
    let (status, end) = finished(seen.status.clone(), &Ok(end), 1, Some(1), now());
    assert_eq!((status.phase, end.outcome), (Some(PitrPhase::Failed), Outcome::Failed));
    assert_eq!(status.error.unwrap().reason, Reason::TargetUnreachable);
    assert_eq!(status.recovery_window, unreachable.recovery_window);
    assert_eq!((status.volume_claim_name, status.reached), (None, None));
    assert!(holds(&status.conditions, FAILED, Some(1)));

    // One that was found must say where.
    seen.run = reported(report(json!({"base": null})));
    let Step::Fail(failure, 1) = plan(&seen) else { panic!() };
    assert_eq!(failure.reason, Reason::Internal);
}

#[test]
fn the_end_is_told_by_the_time_that_was_asked_for_or_by_where_the_server_is() {
    let end = |seen: &Gathered| {
        let mut seen = found(seen.clone());
        seen.status.volume_claim_name = Some("shop-1437".into());
        finished(seen.status.clone(), &Ok(Recovered::of(&seen, reached())), 1, Some(1), now()).0
    };
    let status = end(&seen());
    let words = "recovered to 2026-11-20 13:37:00.25 UTC on the claim shop-1437 in 3m10s";
    assert_eq!(
        (status.phase, status.display.as_deref()),
        (Some(PitrPhase::Succeeded), Some(words))
    );
    assert!(holds(&status.conditions, COMPLETE, Some(1)));
    assert_eq!(status.reached.unwrap().timeline, 2);
    assert_eq!(status.restored_bytes, Some(11_000_000_000));
    assert_eq!(status.server.unwrap().version, "17.6");
    let status = end(&asking(json!({"recoveryTarget": {"latest": {}}})));
    let words =
        "recovered to 0/5A2B1C8 (2026-11-20 13:36:59.871 UTC) on the claim shop-1437 in 3m10s";
    assert_eq!(status.display.as_deref(), Some(words));
}

#[test]
fn a_success_that_does_not_say_where_the_server_is_is_none() {
    let seen = found(seen());
    let end = Ok(Recovered::of(&seen, report(json!({}))));
    let (status, _) = finished(seen.status, &end, 1, Some(1), now());
    assert_eq!(status.phase, Some(PitrPhase::Failed));
    assert_eq!(status.error.unwrap().reason, Reason::Internal);
}

#[test]
fn the_phase_says_whether_anything_is_made_yet() {
    let verdict = Verdict::new(Standing::Reconciling, "Starting", "");
    let phase = |seen: &Gathered| {
        running(seen.status.clone(), &verdict, String::new(), Some(1), now()).phase
    };
    assert_eq!(phase(&seen()), Some(PitrPhase::Validating));
    assert_eq!(phase(&found(seen())), Some(PitrPhase::Running));
    let status = looking(PitrRestoreStatus::default(), 1, None, Some(1), now());
    assert_eq!((status.phase, status.attempts), (Some(PitrPhase::Validating), Some(1)));
    assert_eq!(status.display.as_deref(), Some("looking for the moment in the log"));
}

#[test]
fn a_job_whose_report_is_lost_is_begun_again_but_not_for_ever() {
    let gone = || Failure::new(Reason::JobGone, "gone");
    let mut look = seen();
    (look.status.job_name, look.status.jobs) = (Some("look".into()), Some(1));
    look.run = Some(RunView::Unknown(gone(), 1));
    assert_eq!(plan(&look), Step::Look(resolved(), Some(gone())));

    let mut seen = Gathered { claim: Some(own_claim()), ..found(seen()) };
    (seen.status.job_name, seen.status.jobs) = (Some("recovery".into()), Some(1));
    seen.run = Some(RunView::Lost(gone(), 1));
    let Step::Recover { cause: Some(cause), .. } = plan(&seen) else { panic!() };
    assert_eq!(cause.reason, Reason::JobGone);
    seen.run = Some(RunView::Reported(
        Box::new(Report::Find(FindReport { snapshot_id: None, error: None })),
        1,
    ));
    assert!(matches!(plan(&seen), Step::Recover { cause: Some(_), .. }));
    seen.status.jobs = Some(3);
    seen.run = Some(RunView::Unknown(gone(), 1));
    let Step::Fail(failure, 1) = plan(&seen) else { panic!() };
    assert!(!failure.is_retryable() && failure.message.contains("3 times"), "{failure}");
    let killed = Failure::new(Reason::OutOfMemory, "its limit is 48Mi");
    (seen.status.jobs, seen.run) = (Some(1), Some(RunView::Unknown(killed.clone(), 4)));
    assert_eq!(plan(&seen), Step::Fail(killed, 4));
}

#[test]
fn what_may_still_come_is_waited_for_and_a_repository_that_is_only_read_is_enough() {
    let missing = Resolution::Missing(Failure::new(Reason::ReferenceNotFound, "x"));
    assert!(matches!(plan(&Gathered { resolved: missing, ..seen() }), Step::Wait(_)));
    let impossible = Resolution::Impossible(Failure::new(Reason::InvalidSpec, "x"));
    assert!(matches!(plan(&Gathered { resolved: impossible, ..seen() }), Step::Fail(..)));
    assert!(matches!(plan(&Gathered { repository: None, ..seen() }), Step::Wait(_)));
    assert!(matches!(plan(&Gathered { repository: None, ..found(seen()) }), Step::Wait(_)));
    let mut only_read = seen();
    only_read.repository.as_mut().unwrap().spec.access = AccessMode::ReadOnly;
    assert!(matches!(plan(&only_read), Step::Look(_, None)));
    let waiting = Waiting { attempt: 1, last_failure: None, cause: None, until: now(), limit: "" };
    let starts = Gathered { run: Some(RunView::Waiting(waiting)), ..seen() };
    assert!(matches!(plan(&starts), Step::Start(_)));
    let failure = Failure::new(Reason::ImagePullFailed, "no such image");
    let never = Gathered { run: Some(RunView::NeverStarted(failure.clone())), ..seen() };
    assert_eq!(plan(&never), Step::Fail(failure, 0));
}

#[test]
fn a_recovery_that_comes_too_late_has_touched_nothing() {
    let late = asking(json!({"validUntil": "2026-11-20T14:59:59Z"}));
    // Also where it waits for a claim, which somebody has not made.
    for late in [late.clone(), found(late.clone())] {
        let Step::Fail(failure, 0) = plan(&late) else { panic!() };
        let (status, _) = finished(late.status, &Err(failure), 0, Some(1), now());
        assert_eq!(status.phase, Some(PitrPhase::Expired));
    }
    // One that has made its claim goes on.
    let mut begun = Gathered { claim: Some(own_claim()), ..found(late) };
    begun.status = claimed(begun.status, "shop-1437", Some(1), now());
    assert!(matches!(plan(&begun), Step::Recover { .. }));
}

#[test]
fn a_recovery_that_has_ended_is_left_alone() {
    for phase in [PitrPhase::Succeeded, PitrPhase::Failed, PitrPhase::Expired] {
        let mut ended = found(seen());
        ended.status.phase = Some(phase);
        assert_eq!(plan(&ended), Step::Nothing);
        assert!(phase.is_terminal());
    }
}

#[test]
fn bases_and_log_are_those_of_a_schedule_or_of_a_series_that_is_named() {
    let source = |json: Value| serde_json::from_value::<PitrSource>(json).unwrap();
    let named = source(json!({"repositoryRef": {"name": "main"}, "series": "3f6c/shop/shop"}));
    assert_eq!(of_repository(&named), Resolution::Known(resolved()));
    let half = source(json!({"repositoryRef": {"name": "main"}}));
    assert!(matches!(of_repository(&half), Resolution::Impossible(_)));
    let Resolution::Missing(failure) = of_schedule("shop", None, "s".into()) else { panic!() };
    assert!(failure.hint.contains("from.series"), "{failure}");
    let schedule = json!({
        "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule", "metadata": {"name": "shop"},
        "spec": {"repositoryRef": {"name": "main"}, "schedule": "0 2 * * *",
            "source": {"postgresql": {"host": "db", "credentialsSecretRef": {"name": "db"}}}},
    });
    let schedule = serde_json::from_value(schedule).unwrap();
    let known = of_schedule("shop", Some(schedule), "3f6c/shop/shop".into());
    assert_eq!(known, Resolution::Known(resolved()));
}

#[test]
fn what_is_left_out_is_as_the_definition_says() {
    let least: PitrRestore = fixtures::recovery();
    let claim = &least.spec.to.volume_claim;
    assert_eq!(claim.reclaim_policy, dbbackup_crds::ReclaimPolicy::Retain);
    let modes = &claim.template.as_ref().unwrap().access_modes;
    assert_eq!(modes, &[dbbackup_crds::ClaimAccessMode::ReadWriteOnce]);
    assert_eq!(least.spec.recovery_target.timeline, "Latest");
}
