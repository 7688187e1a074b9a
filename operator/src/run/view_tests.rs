use dbbackup_contract::{
    BackupReport, ByteCounts, DatabaseCount, ErrorClass, Outcome, Reason, Report,
};
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-23T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn job(status: Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "j", "creationTimestamp": "2026-11-23T11:59:00Z"},
        "status": status,
    }))
    .unwrap()
}

fn pod(name: &str, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": "2026-11-23T11:59:00Z"},
        "status": status,
    }))
    .unwrap()
}

fn terminated(code: i32, reason: &str, message: Option<String>) -> Value {
    json!({"phase": "Failed", "containerStatuses": [{
        "name": "runner", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "reason": reason, "message": message,
            "finishedAt": "2026-11-23T11:59:50Z"}},
    }]})
}

fn container_waits(reason: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "runner", "image": "localhost/x:dev", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": "the kubelet's words"}},
    }]})
}

fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "runner", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-23T11:59:30Z"}},
    }]})
}

fn failed_job() -> Job {
    job(json!({"failed": 1, "conditions": [{"type": "Failed", "status": "True"}]}))
}

fn report(outcome: Outcome, error: Option<Failure>) -> Report {
    Report::Backup(BackupReport {
        outcome,
        snapshot_id: (outcome != Outcome::Failed).then(|| "s".to_owned()),
        repository_id: None,
        start_time: now(),
        consistent_time: None,
        completion_time: now(),
        attempt: 0,
        method: None,
        server: None,
        position: None,
        log_start: None,
        bytes: ByteCounts::default(),
        database_count: DatabaseCount::default(),
        databases: Vec::new(),
        verification: None,
        hooks: Vec::new(),
        error,
    })
}

fn raw(report: &Report, job: &str, pod: &str) -> RawReport {
    RawReport {
        job_name: job.into(),
        pod_name: pod.into(),
        pod_uid: format!("uid-{pod}"),
        received_time: now(),
        content: serde_json::to_value(report).unwrap(),
    }
}

fn seen<'a>(
    job: Option<&'a Job>,
    pods: &'a [Pod],
    report: Option<&'a RawReport>,
) -> Observation<'a> {
    Observation {
        job_name: "j",
        job,
        pods,
        report,
        rejection: None,
        start_timeout: SignedDuration::from_mins(15),
        lost_after: SignedDuration::from_mins(10),
        now: now(),
    }
}

fn retryable() -> Option<Failure> {
    Some(Failure::new(Reason::ServerGoneAway, "gone"))
}

#[test]
fn a_final_report_ends_the_run_whatever_its_job_and_pods_look_like() {
    let success = raw(&report(Outcome::Succeeded, None), "j", "p");
    let refusal = report(Outcome::Failed, Some(Failure::new(Reason::WrongPassword, "no")));
    let refusal = raw(&refusal, "j", "p");
    let oom = [pod("p", terminated(137, "OOMKilled", None))];
    let (active, failed) = (job(json!({"active": 1})), failed_job());
    for raw in [&success, &refusal] {
        for (job, pods) in [(None, &[][..]), (Some(&active), &oom[..]), (Some(&failed), &[][..])] {
            assert!(matches!(view(&seen(job, pods, Some(raw))), RunView::Reported(..)));
        }
    }
}

#[test]
fn a_report_of_another_job_says_nothing() {
    let old = raw(&report(Outcome::Succeeded, None), "inspection", "p");
    assert!(matches!(view(&seen(None, &[], Some(&old))), RunView::Unknown(..)));
}

#[test]
fn a_failure_that_may_pass_ends_nothing_while_the_job_goes_on() {
    let early = raw(&report(Outcome::Failed, retryable()), "j", "first");
    let pods = [pod("first", terminated(1, "Error", None)), pod("second", running())];
    let active = job(json!({"active": 1, "failed": 1}));
    let RunView::Running { attempts, last_failure } =
        view(&seen(Some(&active), &pods, Some(&early)))
    else {
        panic!("the Job goes on")
    };
    assert_eq!(attempts, 2);
    assert_eq!(last_failure.unwrap().reason, Reason::ServerGoneAway);
}

#[test]
fn between_two_attempts_the_failure_of_the_last_one_is_told() {
    let active = job(json!({"failed": 1}));
    // In its own words: by the channel, or by the pod's status.
    let said = report(Outcome::Failed, retryable());
    let raw = raw(&said, "j", "first");
    let by_channel = [pod("first", terminated(1, "Error", None))];
    let summary = serde_json::to_string(&said).unwrap();
    let by_summary = [pod("first", terminated(1, "Error", Some(summary)))];
    for (pods, raw) in [(&by_channel, Some(&raw)), (&by_summary, None)] {
        let RunView::Waiting(waiting) = view(&seen(Some(&active), pods, raw)) else { panic!() };
        assert_eq!((waiting.attempt, waiting.cause), (2, None));
        assert_eq!(waiting.last_failure.unwrap().reason, Reason::ServerGoneAway);
        // The pause between two attempts comes on top: ten seconds after the first.
        let expected: Timestamp = "2026-11-23T12:15:00Z".parse().unwrap();
        assert_eq!(waiting.until, expected);
    }
    // As it is seen from outside, while the next pod starts and while it runs.
    let killed = pod("first", terminated(137, "OOMKilled", None));
    let mut second = pod("second", json!({"phase": "Pending"}));
    second.metadata.creation_timestamp = Some(dbbackup_crds::Time(now()));
    let active = job(json!({"failed": 1, "active": 1}));
    let pods = [killed.clone(), second.clone()];
    let RunView::Waiting(waiting) = view(&seen(Some(&active), &pods, None)) else { panic!() };
    assert_eq!(waiting.attempt, 2);
    assert_eq!(waiting.last_failure.unwrap().reason, Reason::OutOfMemory);
    second.status = pod("second", running()).status;
    let pods = [killed, second];
    let RunView::Running { attempts, last_failure } = view(&seen(Some(&active), &pods, None))
    else {
        panic!()
    };
    assert_eq!((attempts, last_failure.unwrap().reason), (2, Reason::OutOfMemory));
}

#[test]
fn a_pod_that_cannot_end_is_no_attempt_before_the_one_that_runs() {
    let own = raw(&report(Outcome::Failed, retryable()), "j", "first");
    let active = job(json!({"active": 1}));
    let judged = view(&seen(Some(&active), &[pod("first", running())], Some(&own)));
    assert_eq!(judged, RunView::Running { attempts: 1, last_failure: None });
    // The pod that said it is gone: now it is.
    let active = job(json!({"active": 1, "failed": 1}));
    let judged = view(&seen(Some(&active), &[pod("second", running())], Some(&own)));
    assert_eq!(judged, RunView::Running { attempts: 2, last_failure: retryable() });
    // Of two the newer one hangs.
    let own = raw(&report(Outcome::Failed, retryable()), "j", "second");
    let pods = [pod("first", terminated(137, "OOMKilled", None)), pod("second", running())];
    let judged = view(&seen(Some(&active), &pods, Some(&own)));
    let RunView::Running { attempts: 2, last_failure: Some(last) } = judged else {
        panic!("{judged:?}")
    };
    assert_eq!(last.reason, Reason::OutOfMemory);
}

#[test]
fn a_job_whose_last_pod_never_started_has_run_if_an_earlier_pod_is_gone() {
    let pods = [pod("second", container_waits("CreateContainerConfigError"))];
    let ended = |failed: u32| {
        job(json!({"failed": failed, "conditions": [{"type": "Failed", "status": "True"}]}))
    };
    let judged = view(&seen(Some(&ended(1)), &pods, None));
    assert!(matches!(judged, RunView::NeverStarted(_)), "{judged:?}");
    let judged = view(&seen(Some(&ended(2)), &pods, None));
    let RunView::Unknown(cause, 2) = judged else { panic!("{judged:?}") };
    assert_eq!(cause.reason, Reason::PodRejected);
}

#[test]
fn an_attempt_that_is_never_followed_by_another_is_not_waited_for_for_ever() {
    let pods = [pod("first", terminated(1, "Error", None))];
    let active = job(json!({"failed": 1}));
    let mut seen = seen(Some(&active), &pods, None);
    seen.rejection = Some("Error creating: pods \"j-1\" is forbidden: exceeded quota: tight");
    let RunView::Waiting(waiting) = view(&seen) else { panic!() };
    let cause = waiting.cause.unwrap();
    assert_eq!(cause.reason, Reason::PodRejected);
    assert_eq!(cause.message, "the API server does not let the pod in: exceeded quota: tight");
    seen.now = waiting.until;
    let RunView::Lost(failure, 1) = view(&seen) else { panic!("{:?}", view(&seen)) };
    assert!(failure.message.ends_with("; it was given up after 15m00s"), "{failure}");
}

#[test]
fn a_report_of_an_earlier_attempt_does_not_speak_for_the_last_one() {
    let early = raw(&report(Outcome::Failed, retryable()), "j", "first");
    let mut last = pod("second", terminated(137, "OOMKilled", None));
    last.metadata.creation_timestamp = Some(dbbackup_crds::Time(now()));
    let pods = [pod("first", terminated(1, "Error", None)), last];
    let judged = view(&seen(Some(&failed_job()), &pods, Some(&early)));
    let RunView::Unknown(cause, _) = judged else { panic!("{judged:?}") };
    assert_eq!(cause.reason, Reason::OutOfMemory);
    // The report of the last one does.
    let own = raw(&report(Outcome::Failed, retryable()), "j", "second");
    let judged = view(&seen(Some(&failed_job()), &pods, Some(&own)));
    assert!(matches!(judged, RunView::Reported(..)));
}

#[test]
fn a_failure_that_may_pass_is_the_end_without_pods_only_where_there_was_one_attempt() {
    let early = raw(&report(Outcome::Failed, retryable()), "j", "first");
    let ended = |failed: u32| {
        job(json!({"failed": failed, "conditions": [{"type": "Failed", "status": "True"}]}))
    };
    let judged = view(&seen(Some(&ended(1)), &[], Some(&early)));
    assert!(matches!(judged, RunView::Reported(_, 1)), "{judged:?}");
    let judged = view(&seen(Some(&ended(2)), &[], Some(&early)));
    assert!(matches!(judged, RunView::Unknown(_, 2)), "{judged:?}");
    let success = raw(&report(Outcome::Succeeded, None), "j", "first");
    let judged = view(&seen(Some(&ended(2)), &[], Some(&success)));
    assert!(matches!(judged, RunView::Reported(_, 2)), "{judged:?}");
}

#[test]
fn the_summary_in_the_pods_status_stands_in_for_a_lost_report() {
    let summary = serde_json::to_string(&report(Outcome::Succeeded, None)).unwrap();
    let pods = [pod("p", terminated(0, "Completed", Some(summary)))];
    let complete =
        job(json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}));
    assert!(matches!(view(&seen(Some(&complete), &pods, None)), RunView::Reported(..)));
}

#[test]
fn a_job_that_is_complete_and_says_nothing_is_no_success() {
    let complete =
        job(json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}));
    for pods in [vec![], vec![pod("p", terminated(0, "Completed", None))]] {
        assert!(matches!(view(&seen(Some(&complete), &pods, None)), RunView::Unknown(..)));
    }
}

#[test]
fn what_ended_a_pod_is_named() {
    let disrupted = json!({"phase": "Failed", "conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drain"}]});
    let evicted =
        json!({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"});
    for (status, reason, words) in [
        (terminated(137, "OOMKilled", None), Reason::OutOfMemory, "for want of memory"),
        (terminated(137, "Error", None), Reason::PodFailed, "SIGKILL"),
        (terminated(67, "Error", None), Reason::PodFailed, "67 (Denied)"),
        (terminated(0, "Completed", Some("not json".into())), Reason::PodFailed, "no report"),
        (disrupted, Reason::PodDisrupted, "drain"),
        (evicted, Reason::PodDisrupted, "low on memory"),
    ] {
        let failure = explain_end(&pod("p", status));
        assert_eq!(failure.reason, reason);
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[test]
fn memory_that_was_short_is_told_with_the_limit_that_was_in_force() {
    let mut killed = pod("p", terminated(137, "OOMKilled", None));
    killed.spec = serde_json::from_value(json!({
        "containers": [{"name": "runner", "resources": {"limits": {"memory": "48Mi"}}}],
    }))
    .unwrap();
    let failure = explain_end(&killed);
    assert!(failure.message.ends_with("for want of memory: the limit is 48Mi"), "{failure}");
    assert!(failure.hint.contains("240Mi"), "{failure}");
}

#[test]
fn a_claim_that_is_missing_or_unbound_is_named() {
    for (scheduler, words) in [
        (
            "0/1 nodes are available: persistentvolumeclaim \"backups\" not found. preemption: 0/1 \
          nodes are available",
            "the BackupRepository names, does not exist",
        ),
        (
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "is not bound to a volume yet",
        ),
        ("persistentvolumeclaim \"backups\" is being deleted", "cannot be used: "),
    ] {
        let mut waiting = pod(
            "p",
            json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": scheduler}]}),
        );
        waiting.spec = serde_json::from_value(json!({
            "containers": [],
            "volumes": [{"name": "task"},
                {"name": "repository", "persistentVolumeClaim": {"claimName": "backups"}}],
        }))
        .unwrap();
        let failure = explain_wait(&waiting).unwrap();
        assert_eq!(failure.reason, Reason::ClaimNotFound);
        assert!(failure.message.starts_with("the PersistentVolumeClaim backups, which "));
        assert!(failure.message.contains(words), "{failure}");
        assert!(!failure.to_string().contains("preemption"), "{failure}");
    }
}

#[test]
fn a_pod_that_does_not_start_waits_with_its_reason_and_is_given_up_in_time() {
    let unschedulable = |message: &str| {
        json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]})
    };
    let active = job(json!({"active": 1}));
    for (status, reason) in [
        (container_waits("ImagePullBackOff"), Reason::ImagePullFailed),
        (container_waits("CreateContainerConfigError"), Reason::PodRejected),
        (unschedulable("0/1 nodes are available: 1 Insufficient memory"), Reason::Unschedulable),
        (unschedulable("persistentvolumeclaim \"backups\" not found"), Reason::ClaimNotFound),
    ] {
        let pods = [pod("p", status)];
        let mut seen = seen(Some(&active), &pods, None);
        let RunView::Waiting(waiting) = view(&seen) else { panic!("{reason}") };
        assert_eq!(waiting.cause.unwrap().reason, reason);
        seen.now = waiting.until;
        let RunView::NeverStarted(failure) = view(&seen) else { panic!("{reason}") };
        assert_eq!(failure.reason, reason);
    }
    let pods = [pod("p", container_waits("ContainerCreating"))];
    let mut seen = seen(Some(&active), &pods, None);
    seen.now = now() + SignedDuration::from_hours(1);
    let RunView::NeverStarted(failure) = view(&seen) else { panic!() };
    assert_eq!(failure.reason, Reason::StartTimeout);
}

#[test]
fn a_pod_whose_volume_is_on_another_node_names_its_claim() {
    let mut waits = pod(
        "p",
        json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity. preemption: none"}]}),
    );
    let hint = |pod: &Pod| explain_wait(pod).unwrap().hint;
    assert!(!hint(&waits).contains("claim"));
    let volumes = json!([{"name": "r", "persistentVolumeClaim": {"claimName": "backups"}}]);
    waits.spec =
        Some(serde_json::from_value(json!({"containers": [], "volumes": volumes})).unwrap());
    assert!(hint(&waits).contains("the claim backups"), "{}", hint(&waits));
}

#[test]
fn a_pod_that_could_not_be_created_tells_the_api_servers_words() {
    let idle = job(json!({}));
    let mut seen = seen(Some(&idle), &[], None);
    let each = "(combined from similar events): Error creating: pods \"j-x\" is forbidden: ";
    let words = format!("{each}exceeded quota: memory");
    seen.rejection = Some(&words);
    let RunView::Waiting(waiting) = view(&seen) else { panic!() };
    let cause = waiting.cause.unwrap();
    assert_eq!((cause.reason, cause.class), (Reason::PodRejected, ErrorClass::Fatal));
    assert_eq!(cause.message, "the API server does not let the pod in: exceeded quota: memory");
}

#[test]
fn a_pod_on_a_lost_node_is_not_waited_for_for_ever() {
    let mut lost = pod("p", running());
    let active = job(json!({"active": 1}));
    lost.spec = Some(serde_json::from_value(json!({"nodeName": "n", "containers": []})).unwrap());
    let mut judge = |seconds: i64| {
        let end = now() - SignedDuration::from_secs(seconds);
        lost.metadata.deletion_timestamp = Some(dbbackup_crds::Time(end));
        view(&seen(Some(&active), &[lost.clone()], None))
    };
    // Its grace period is over when its time has come, and it ends within seconds.
    for seconds in [-20, 10] {
        let judged = judge(seconds);
        assert!(matches!(judged, RunView::Running { attempts: 1, .. }), "{judged:?}");
    }
    let RunView::Waiting(silent) = judge(60) else { panic!() };
    let cause = silent.cause.unwrap();
    assert_eq!((silent.attempt, cause.reason), (2, Reason::PodDisrupted));
    assert!(cause.message.contains("the node n is silent"), "{}", cause.message);
    assert_eq!(silent.until, now() + SignedDuration::from_mins(9));
    let judged = judge(601);
    let RunView::Lost(failure, 1) = judged else { panic!("{judged:?}") };
    assert_eq!(failure.reason, Reason::PodDisrupted);
}

#[test]
fn a_job_that_is_gone_without_a_report_leaves_the_outcome_unknown() {
    let judged = view(&seen(None, &[], None));
    let RunView::Unknown(cause, 0) = judged else { panic!("{judged:?}") };
    assert_eq!(cause.reason, Reason::JobGone);
}
