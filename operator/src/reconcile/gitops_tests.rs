//! How GitOps tools read the statuses that are written here: Flux by kstatus, Argo CD by the
//! scripts of `dist/argocd`, both by the code that they run themselves (`hack/gitops/health`).

use std::io::Write as _;
use std::process::{Command, Stdio};

use dbbackup_contract::{
    BackupReport, Failure, InitReport, MaintainReport, Outcome, Reason, RecoverReport, RestorePlan,
    RestoreReport,
};
use dbbackup_crds::{
    Backup, BackupPhase, BackupRepositoryStatus, BackupSchedule, BackupStatus, MaintenanceRun,
    PitrRestoreStatus, RestoreRequestStatus,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kube::core::object::HasStatus;
use serde::Serialize;
use serde_json::{Value, json};

use super::one_shot::{finished, running, seen_by, waiting};
use super::schedule::{Children, Ended, Outlook, stalled, standing};
use super::{fixtures, maintenance, pitr, repository, restore};
use crate::conditions::Verdict;
use crate::reasons::INTACT;

const HEALTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/gitops/health-of");

/// What an object is read as: its words here, then by Flux and by Argo CD.
type Case = (&'static str, Value, &'static str, &'static str);

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn gone() -> Failure {
    Failure::new(Reason::StorageUnavailable, "no answer").with_hint("Look at the bucket.")
}

fn wrong() -> Failure {
    Failure::new(Reason::WrongPassword, "the password is wrong").with_hint("Correct it.")
}

/// The object with this status.
fn with<K: HasStatus + Clone + Serialize>(object: &K, status: K::Status) -> Value {
    let mut object = object.clone();
    *object.status_mut() = Some(status);
    serde_json::to_value(object).unwrap()
}

/// The object after a change of its spec that nobody has looked at.
fn changed(mut object: Value) -> Value {
    object["metadata"]["generation"] = json!(2);
    object
}

/// The object as the API server gives it before anybody has looked at it.
fn new<K: Serialize>(object: &K) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    let mut crds = dbbackup_crds::definitions().into_iter().map(|(_, crd)| crd);
    let crd = crds.find(|crd| crd["spec"]["names"]["kind"] == object["kind"]).unwrap();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/status/default";
    object["status"] = crd.pointer(schema).unwrap().clone();
    object
}

fn assert_read_as(cases: &[Case]) {
    let items: Vec<&Value> = cases.iter().map(|(_, object, ..)| object).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let (input, output) = (Stdio::piped(), Stdio::piped());
    let mut child = Command::new(HEALTH).stdin(input).stdout(output).spawn().unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{HEALTH} failed");
    let output = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), cases.len());
    for ((words, object, flux, argo), found) in cases.iter().zip(found) {
        assert_eq!((&found["flux"], &found["argo"]), (&json!(flux), &json!(argo)), "{words}");
        let message = found["message"].as_str().unwrap();
        let conditions = object["status"]["conditions"].as_array();
        let mut told = conditions.into_iter().flatten().filter_map(|it| it["message"].as_str());
        let is_behind = object["status"]["observedGeneration"] != object["metadata"]["generation"];
        let is_told = told.any(|told| message.starts_with(told));
        assert!(
            if is_behind { message.contains("not seen") } else { is_told },
            "{words}: {message}"
        );
    }
}

#[test]
fn a_repository_is_waited_for_until_it_is_open() {
    let object = fixtures::repository();
    let status = BackupRepositoryStatus::default;
    let opening = |status| repository::opening(status, None, Some(1), now());
    let failed = |failure| repository::failed(status(), failure, now(), Some(1), now());
    let report: InitReport = serde_json::from_value(json!({
        "outcome": "Succeeded", "repositoryId": "5d0c", "created": true, "snapshotCount": 0,
        "logicalBytes": 0, "storedBytes": 0,
    }))
    .unwrap();
    let open = repository::opened(status(), &report, Some(1), now());
    let run = MaintenanceRun { slot_time: now(), job_name: "m".into() };
    let maintained = BackupRepositoryStatus { maintenance: Some(run), ..open.clone() };
    let damaged = Failure::new(Reason::RepositoryDamaged, "a pack is damaged");
    let damage = MaintainReport { error: Some(damaged), ..MaintainReport::begun(now()) };
    let damaged = maintenance::ended(maintained, Ok(&damage), &object, now());
    assert!(damaged.conditions.iter().any(|it| it.type_ == INTACT && it.status == "False"));
    assert_read_as(&[
        ("new", new(&object), "InProgress", "Progressing"),
        ("opening", with(&object, opening(status())), "InProgress", "Progressing"),
        ("open", with(&object, open.clone()), "Current", "Healthy"),
        // Backups go on; alerts and messages tell.
        ("open, and damaged", with(&object, damaged), "Current", "Healthy"),
        ("no answer", with(&object, failed(&gone())), "InProgress", "Progressing"),
        ("wrong key", with(&object, failed(&wrong())), "Failed", "Degraded"),
        ("changed", changed(with(&object, open)), "InProgress", "Progressing"),
    ]);
}

fn ended(failure: Option<Failure>) -> Children {
    let phase = if failure.is_some() { BackupPhase::Failed } else { BackupPhase::Succeeded };
    let (name, left_out) = ("nightly-1".to_owned(), Vec::new());
    let proof = failure.is_none().then_some((now(), now()));
    let began = Some(now());
    let ended = Ended { began, time: now(), name, phase, failure, left_out, of_hooks: None };
    Children {
        last_success: proof.map(|(_, ended)| ended),
        proof,
        last_ended: Some(ended),
        ..Children::default()
    }
}

#[test]
fn a_schedule_is_waited_for_until_its_backups_would_work() {
    let schedule = |suspend: bool| -> BackupSchedule {
        serde_json::from_value(json!({
            "apiVersion": "dbbackup.dev/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "nightly", "namespace": "shop", "generation": 1},
            "spec": {
                "repositoryRef": {"name": "main"}, "schedule": "15 3 * * *", "suspend": suspend,
                "source": {"postgresql": {"host": "db", "credentialsSecretRef": {"name": "db"}}},
            },
        }))
        .unwrap()
    };
    let (object, suspended) = (schedule(false), schedule(true));
    let stands = |object: &BackupSchedule, children: &Children, trouble: Option<Failure>| {
        let zone = TimeZone::UTC;
        let outlook = Outlook { trouble, ..Outlook::calm(&zone) };
        with(object, standing(Default::default(), object, children, &outlook, now()))
    };
    let (none, good) = (Children::default(), ended(None));
    let looked = |reason: Reason, minutes: i64| {
        let failure = Failure::new(reason, "it is not as it should be");
        let status = serde_json::from_value(json!({
            "observedGeneration": 1,
            "generationTime": now() - SignedDuration::from_mins(minutes),
            "lastPreflight": {
                "time": now(), "generation": 1, "outcome": "Failed", "error": failure,
            },
        }));
        let (zone, none) = (TimeZone::UTC, Children::default());
        let outlook = Outlook::calm(&zone);
        with(&object, standing(status.unwrap(), &object, &none, &outlook, now()))
    };
    let invalid = Failure::new(Reason::InvalidSpec, "spec.schedule: six fields");
    assert_read_as(&[
        ("new", new(&object), "InProgress", "Progressing"),
        ("being looked at", stands(&object, &none, None), "InProgress", "Progressing"),
        ("a Secret may come", looked(Reason::SecretNotFound, 59), "InProgress", "Progressing"),
        ("no Secret has come", looked(Reason::SecretNotFound, 60), "Failed", "Degraded"),
        ("would fail", looked(Reason::WrongPassword, 1), "Failed", "Degraded"),
        ("no repository", stands(&object, &good, Some(gone())), "InProgress", "Progressing"),
        ("well", stands(&object, &good, None), "Current", "Healthy"),
        (
            "to be tried again",
            stands(&object, &ended(Some(gone())), None),
            "InProgress",
            "Progressing",
        ),
        ("failed", stands(&object, &ended(Some(wrong())), None), "Failed", "Degraded"),
        ("suspended", stands(&suspended, &good, None), "Current", "Suspended"),
        (
            "suspended, and failed",
            stands(&suspended, &ended(Some(gone())), None),
            "Failed",
            "Degraded",
        ),
        (
            "no schedule",
            with(&object, stalled(Default::default(), &invalid, Some(1), now())),
            "Failed",
            "Degraded",
        ),
        ("changed", changed(stands(&object, &good, None)), "InProgress", "Progressing"),
    ]);
}

fn times(more: Value) -> Value {
    let mut report = json!({"startTime": now(), "completionTime": now(), "outcome": "Succeeded"});
    report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    report
}

#[test]
fn a_backup_is_waited_for_until_it_has_ended() {
    let object = fixtures::backup();
    let status = BackupStatus::default;
    let report = |more| serde_json::from_value::<BackupReport>(times(more)).unwrap();
    let end = |end| finished(status(), &end, 1, Some(1), now()).0;
    let done = end(Ok(report(json!({"snapshotId": "s"}))));
    let part = report(json!({"snapshotId": "s", "outcome": Outcome::PartiallyFailed}));
    let runs = Verdict::of_attempt("the backup", 1, None);
    let runs = running(status(), &runs, "runs".into(), Some(1), now());
    let expired = maintenance::expired(done.clone(), Some(1), now());
    let pinned = changed(with::<Backup>(&object, done.clone()));
    let mut seen = object.clone();
    seen.metadata.generation = Some(2);
    assert_read_as(&[
        ("new", new(&object), "InProgress", "Progressing"),
        (
            "waiting",
            with(&object, waiting(status(), &gone(), Some(1), now())),
            "InProgress",
            "Progressing",
        ),
        ("running", with(&object, runs), "InProgress", "Progressing"),
        ("done", with(&object, done.clone()), "Current", "Healthy"),
        ("done in part", with(&object, end(Ok(part))), "Failed", "Degraded"),
        ("failed", with(&object, end(Err(gone()))), "Failed", "Degraded"),
        ("let go by retention", with(&object, expired), "Current", "Healthy"),
        ("pinned", pinned, "InProgress", "Progressing"),
        ("pinned, and seen", with(&seen, seen_by(done, Some(2))), "Current", "Healthy"),
    ]);
}

#[test]
fn a_restore_is_waited_for_until_it_has_ended_or_somebody_is_to_approve_of_its_plan() {
    let object = fixtures::request();
    let status = RestoreRequestStatus::default;
    let report = |more| serde_json::from_value::<RestoreReport>(times(more)).unwrap();
    let end = |end| finished(status(), &end, 1, Some(1), now()).0;
    let failed = |reason| end(Err(Failure::new(reason, "no")));
    let done = end(Ok(report(json!({}))));
    let runs = Verdict::of_attempt("the restore", 1, None);
    let runs = running(status(), &runs, "runs".into(), Some(1), now());
    let plan = RestorePlan::new("s", "7", &Default::default(), Vec::new(), Vec::new());
    let proposed = |error| {
        let report = RestoreReport { plan: Some(plan.clone()), error, ..report(json!({})) };
        with(&object, restore::proposed(status(), report, Some(1), now()))
    };
    let another = Failure::new(Reason::PlanChanged, "another database stands there");
    let mut seen = object.clone();
    seen.metadata.generation = Some(2);
    assert_read_as(&[
        ("new", new(&object), "InProgress", "Progressing"),
        (
            "waiting",
            with(&object, waiting(status(), &gone(), Some(1), now())),
            "InProgress",
            "Progressing",
        ),
        ("running", with(&object, runs), "InProgress", "Progressing"),
        ("planned", proposed(None), "Current", "Suspended"),
        ("planned otherwise", proposed(Some(another)), "Failed", "Degraded"),
        ("done", with(&object, done.clone()), "Current", "Healthy"),
        (
            "done in part",
            with(&object, end(Ok(report(json!({"outcome": Outcome::PartiallyFailed}))))),
            "Failed",
            "Degraded",
        ),
        ("failed", with(&object, failed(Reason::DatabaseExists)), "Failed", "Degraded"),
        ("too late", with(&object, failed(Reason::RequestExpired)), "Failed", "Degraded"),
        ("done before", with(&object, failed(Reason::AlreadyCarriedOut)), "Current", "Healthy"),
        ("in part before", with(&object, failed(Reason::CarriedOutInPart)), "Failed", "Degraded"),
        ("changed afterwards", changed(with(&object, done.clone())), "InProgress", "Progressing"),
        ("changed, and seen", with(&seen, seen_by(done, Some(2))), "Current", "Healthy"),
    ]);
}

#[test]
fn a_recovery_is_waited_for_until_it_has_ended() {
    let object = fixtures::recovery();
    let status = PitrRestoreStatus::default;
    let report = |more| serde_json::from_value::<RecoverReport>(times(more)).unwrap();
    let end = |end| with(&object, finished(status(), &end, 1, Some(1), now()).0);
    let failed = |reason| end(Err(Failure::new(reason, "no")));
    let runs = Verdict::of_attempt("the recovery", 1, None);
    let runs = running(status(), &runs, "runs".into(), Some(1), now());
    let reached = report(json!({"reached": {"lsn": "0/5A2B1C8", "timeline": 2}}));
    let recovered = pitr::Recovered { report: reached, asked: None, claim: "shop-1437".into() };
    let found = json!({"resolvedTarget": {"lsn": "0/5A2B1C8", "timeline": 1}});
    let found = pitr::noted(status(), &report(found), Some(1), now());
    assert_read_as(&[
        ("new", new(&object), "InProgress", "Progressing"),
        (
            "waiting",
            with(&object, waiting(status(), &gone(), Some(1), now())),
            "InProgress",
            "Progressing",
        ),
        ("found", with(&object, found), "InProgress", "Progressing"),
        ("running", with(&object, runs), "InProgress", "Progressing"),
        ("done", end(Ok(recovered)), "Current", "Healthy"),
        ("unreachable", failed(Reason::TargetUnreachable), "Failed", "Degraded"),
        ("too late", failed(Reason::RequestExpired), "Failed", "Degraded"),
    ]);
}
