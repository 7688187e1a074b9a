use dbbackup_contract::{ErrorClass, Failure, Reason, Report};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::run::{Observation, RunView, explain_end, explain_wait, view};

const NOW: &str = "2026-11-23T12:00:00Z";

fn container(name: &str, image: &str, more: Value) -> Value {
    let mut status = json!({
        "name": name, "image": image, "imageID": "", "ready": false, "restartCount": 0,
    });
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    status
}

/// A pod of a recovery whose server is so and whose runner is so.
fn pod(phase: &str, server: Value, runner: Value) -> Pod {
    let claim = |name: &str, claim: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "uid-p", "creationTimestamp": "2026-11-23T11:59:00Z"},
        "spec": {
            "initContainers": [{"name": "shim"},
                {"name": "server", "resources": {"limits": {"memory": "1Gi"}}}],
            "containers": [{"name": "runner", "resources": {"limits": {"memory": "300Mi"}}}],
            "volumes": [claim("repository", "backups"), claim("recovered", "shop-1437")],
        },
        "status": {
            "phase": phase,
            "initContainerStatuses": [
                container("shim", "runner:1", json!({"state": {"terminated": {"exitCode": 0}}})),
                container("server", "postgres:17", server),
            ],
            "containerStatuses": [container("runner", "runner:1", runner)],
        },
    }))
    .unwrap()
}

fn initializing() -> Value {
    json!({"state": {"waiting": {"reason": "PodInitializing"}}})
}

fn runs() -> Value {
    json!({"state": {"running": {"startedAt": "2026-11-23T11:59:30Z"}}})
}

fn ended(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "finishedAt": "2026-11-23T11:59:50Z"}})
}

fn judged(pod: &Pod, job: Value, report: Option<&Report>) -> RunView {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "j", "creationTimestamp": "2026-11-23T11:59:00Z"}, "status": job,
    }))
    .unwrap();
    let raw = report.map(|report| dbbackup_crds::RawReport {
        job_name: "j".into(),
        pod_name: "p".into(),
        pod_uid: "uid-p".into(),
        received_time: NOW.parse().unwrap(),
        content: serde_json::to_value(report).unwrap(),
    });
    view(&Observation {
        job_name: "j",
        job: Some(&job),
        pods: std::slice::from_ref(pod),
        report: raw.as_ref(),
        rejection: None,
        start_timeout: jiff::SignedDuration::from_mins(15),
        lost_after: jiff::SignedDuration::from_mins(10),
        now: NOW.parse().unwrap(),
    })
}

fn failed(reason: Reason) -> Report {
    serde_json::from_value(json!({"recover": {
        "outcome": "Failed", "startTime": NOW, "completionTime": NOW,
        "error": Failure::new(reason, "the server has ended"),
    }}))
    .unwrap()
}

#[test]
fn a_servers_image_that_cannot_be_pulled_is_told_by_the_field_that_names_it() {
    for why in ["ImagePullBackOff", "ErrImagePull", "InvalidImageName"] {
        let server = json!({"state": {"waiting": {"reason": why, "message": "no such host"}}});
        let pod = pod("Pending", server, initializing());
        let failure = explain_wait(&pod).unwrap();
        assert_eq!(failure.reason, Reason::ImagePullFailed);
        let words = "the image postgres:17, which spec.image names, cannot be pulled: no such host";
        assert_eq!(failure.message, words);
        assert!(failure.hint.contains("job.imagePullSecrets"), "{failure}");
        let RunView::Waiting(waiting) = judged(&pod, json!({"active": 1}), None) else { panic!() };
        assert_eq!(waiting.cause.unwrap().reason, Reason::ImagePullFailed);
    }
}

#[test]
fn a_server_that_does_not_start_is_told_while_its_runner_waits_for_it() {
    let back_off = |last: Value| json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last});
    let start = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec format error"}});
    for (server, reason, words) in [
        (
            json!({"state": {"waiting": {"reason": "CreateContainerError", "message": "no disk"}}}),
            Reason::PodRejected,
            "the server's container cannot be created (CreateContainerError): no disk",
        ),
        (back_off(start), Reason::ServerImageUnsuitable, "does not start: exec format error"),
        (back_off(ended(1, "Error")), Reason::ServerImageUnsuitable, "ended with exit code 1"),
        (back_off(ended(137, "OOMKilled")), Reason::OutOfMemory, "the limit is 1024Mi"),
    ] {
        let failure = explain_wait(&pod("Pending", server, initializing())).unwrap();
        assert_eq!(failure.reason, reason);
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn a_server_that_runs_on_does_not_make_a_run_look_unfinished() {
    let up = pod("Running", runs(), runs());
    let judge = |pod: &Pod, job: Value| judged(pod, job, None);
    assert_eq!(
        judge(&up, json!({"active": 1})),
        RunView::Running { attempts: 1, last_failure: None }
    );
    // Until its runner runs, it starts.
    let starts = pod("Pending", runs(), initializing());
    assert!(matches!(judge(&starts, json!({"active": 1})), RunView::Waiting(_)));
    // The summary in the runner's status counts, whatever became of the server.
    let mut own = ended(0, "Completed");
    own["terminated"]["message"] = serde_json::to_string(&done()).unwrap().into();
    let complete = json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]});
    for server in [runs(), json!({"state": ended(137, "Error")})] {
        let pod = pod("Succeeded", server, json!({"state": own}));
        assert!(matches!(judge(&pod, complete.clone()), RunView::Reported(..)));
    }
}

fn done() -> Report {
    serde_json::from_value(
        json!({"recover": {"outcome": "Succeeded", "startTime": NOW, "completionTime": NOW}}),
    )
    .unwrap()
}

#[test]
fn a_server_that_was_killed_for_want_of_memory_is_told_though_its_runner_cannot_see_it() {
    let killed = || json!({"state": runs()["state"], "lastState": ended(137, "OOMKilled")});
    let told = |reason: Reason, server: Value, job: Value| {
        let code = if reason.class() == ErrorClass::Retryable { 1 } else { 76 };
        let pod = pod("Failed", server, json!({"state": ended(code, "Error")}));
        judged(&pod, job, Some(&failed(reason)))
    };
    let over = json!({"failed": 1, "conditions": [{"type": "Failed", "status": "True"}]});
    let goes_on = json!({"failed": 1});
    for reason in [Reason::ServerNotReady, Reason::RecoveryFailed, Reason::ChildKilled] {
        let RunView::Reported(report, 1) = told(reason, killed(), over.clone()) else { panic!() };
        let failure = report.error().unwrap();
        assert_eq!(failure.reason, Reason::OutOfMemory);
        let words = format!(
            "the server in the pod p was killed for want of memory: the limit is 1024Mi \
             ({reason}: the server has ended)"
        );
        assert_eq!(failure.message, words);
        assert!(failure.hint.contains("server.resources.limits.memory"), "{failure}");
    }
    // Between two attempts, too.
    let next = told(Reason::ServerNotReady, killed(), goes_on.clone());
    let RunView::Waiting(waiting) = next else { panic!("{next:?}") };
    assert_eq!(waiting.last_failure.unwrap().reason, Reason::OutOfMemory);
    // What has nothing to do with the server, and a server that was not killed, are as told.
    let alive = || json!({"state": ended(0, "Completed")});
    for (reason, server) in [(Reason::VolumeNotEmpty, killed()), (Reason::RecoveryFailed, alive())]
    {
        let RunView::Reported(report, 1) = told(reason, server, over.clone()) else { panic!() };
        assert_eq!(report.error().unwrap().reason, reason);
    }
}

#[test]
fn a_pod_whose_runner_never_came_to_run_tells_which_container_ended_it() {
    let mut failed = pod("Failed", initializing(), initializing());
    let status = failed.status.as_mut().unwrap();
    let shim = container("shim", "runner:0", json!({"state": ended(2, "Error")}));
    status.init_container_statuses.as_mut().unwrap()[0] = serde_json::from_value(shim).unwrap();
    let failure = explain_end(&failed);
    assert_eq!(failure.reason, Reason::PodFailed);
    assert_eq!(failure.message, "the container shim of the pod p ended with exit code 2");
}

#[test]
fn of_two_claims_the_one_that_the_scheduler_means_is_told() {
    for (words, claim, field) in [
        ("persistentvolumeclaim \"backups\" not found", "backups", "storage.volume.claimName"),
        ("persistentvolumeclaim \"shop-1437\" not found", "shop-1437", "to.volumeClaim.name"),
        ("pod has unbound immediate PersistentVolumeClaims", "shop-1437", "describe pvc shop-1437"),
    ] {
        let mut waits = pod("Pending", initializing(), initializing());
        let unscheduled = json!([{"type": "PodScheduled", "status": "False", "message": words}]);
        waits.status.as_mut().unwrap().conditions = serde_json::from_value(unscheduled).unwrap();
        let failure = explain_wait(&waits).unwrap();
        assert_eq!(failure.reason, Reason::ClaimNotFound);
        assert!(failure.message.starts_with(&format!("the PersistentVolumeClaim {claim}, which")));
        assert!(failure.hint.contains(field), "{failure}");
    }
}
