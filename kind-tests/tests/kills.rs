//! What becomes of a run whose pod, Job or operator is taken away. The operator
//! is stopped here, so these scenarios run one after the other, apart from others.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use dbbackup_kind_tests::{
    Scenario, Server, backup, create_repository, kubectl, restore, schedule,
};
use serde_json::Value;

/// The operator is one for all: one scenario of this file at a time.
static OPERATOR: Mutex<()> = Mutex::new(());

/// Brings the operator back when a scenario ends, however it ends.
struct Operator(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Operator {
    fn alone() -> Self {
        Self(OPERATOR.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn scale(replicas: &str) {
        let scale = ["--namespace", "dbbackup", "scale", "deploy/dbbackup", "--replicas", replicas];
        kubectl(&scale).unwrap();
    }

    /// Stops the operator and waits until its pods are gone.
    fn stop(&self) {
        Self::scale("0");
        let gone =
            ["--namespace", "dbbackup", "wait", "pods", "--all", "--for=delete", "--timeout=90s"];
        kubectl(&gone).unwrap();
    }

    fn start(&self) {
        Self::scale("1");
        let rollout =
            ["--namespace", "dbbackup", "rollout", "status", "deploy/dbbackup", "--timeout=120s"];
        kubectl(&rollout).unwrap();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        Self::scale("1");
    }
}

/// The runner's pods of a backup, oldest first.
fn pods_of(scenario: &Scenario, backup: &str) -> Vec<Value> {
    let mut pods = scenario.objects("pods", "app.kubernetes.io/name=dbbackup-runner");
    pods.retain(|pod| pod["metadata"]["name"].as_str().is_some_and(|name| name.contains(backup)));
    pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().map(str::to_owned));
    pods
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a runner's pod of the backup has logged `words`, and gives the pod's name.
fn wait_for_log(scenario: &Scenario, backup: &str, words: &str) -> String {
    scenario.wait_until(&format!("a pod of {backup} says {words:?}"), || {
        pods_of(scenario, backup)
            .iter()
            .map(name_of)
            .find(|pod| scenario.try_kubectl(&["logs", pod]).is_ok_and(|log| log.contains(words)))
    })
}

/// Snapshots of the repository `main`, as the runner lists them: the truth apart
/// from every object.
fn snapshots(scenario: &Scenario) -> Vec<Value> {
    scenario.kubectl(&["delete", "pod/lister", "--ignore-not-found"]);
    scenario.apply(LISTER);
    scenario.kubectl(&[
        "wait",
        "pod/lister",
        "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=90s",
    ]);
    serde_json::from_str(&scenario.kubectl(&["logs", "pod/lister"])).unwrap()
}

const LISTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: lister}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: lister
    image: localhost/dbbackup-runner:dev
    imagePullPolicy: IfNotPresent
    args: [snapshots, --json, file:///repository/dbbackup, --passphrase-file, /key/passphrase]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: repository, mountPath: /repository}, {name: key, mountPath: /key}]
  volumes:
  - {name: repository, persistentVolumeClaim: {claimName: backups}}
  - {name: key, secret: {secretName: backup-key, defaultMode: 0440}}
";

/// A server with a database large enough that its backup takes a while on a tenth of a core.
fn prepare(scenario: &Scenario, rows: u32, cpu: &str) {
    let server = Server::start(scenario);
    server.create_database("shop", rows);
    create_repository(scenario);
    let job =
        format!("{{resources: {{requests: {{cpu: 10m}}, limits: {{cpu: {cpu}, memory: 256Mi}}}}}}");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", &job));
}

#[test]
fn a_runner_killed_in_the_middle_is_tried_again_and_succeeds() {
    let scenario = Scenario::begin("killed");
    let _operator = Operator::alone();
    prepare(&scenario, 400_000, "100m");
    scenario.apply(&backup("tough", "nightly"));
    let pod = scenario.wait_until("some bytes are read", || {
        let object = scenario.object("backup/tough");
        let read = object["status"]["progress"]["bytesDone"].as_u64().unwrap_or(0);
        (read > 0).then(|| pods_of(&scenario, "tough").first().map(name_of)).flatten()
    });
    scenario.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);

    let done = scenario.wait_for_condition("backup/tough", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert!(pods_of(&scenario, "tough").iter().all(|other| name_of(other) != pod));
    let snapshots = snapshots(&scenario);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["id"], done["status"]["snapshotId"]);
    scenario.apply(&restore("proof", "tough", "shop", "shop_again"));
    let restored = scenario.wait_for_condition("restorerequest/proof", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
}

#[test]
fn a_pod_deleted_between_commit_and_report_is_a_success_with_one_snapshot() {
    let scenario = Scenario::begin("unreported");
    let operator = Operator::alone();
    prepare(&scenario, 400_000, "100m");
    scenario.apply(&backup("quiet", "nightly"));
    // The report cannot arrive: nobody listens.
    scenario.wait_until("the runner runs", || {
        let pods = pods_of(&scenario, "quiet");
        pods.first().filter(|pod| pod["status"]["phase"] == "Running").map(|_| ())
    });
    operator.stop();
    let pod = wait_for_log(&scenario, "quiet", "snapshot committed");
    scenario.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    operator.start();

    let done = scenario.wait_for_condition("backup/quiet", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    let snapshots = snapshots(&scenario);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["id"], done["status"]["snapshotId"]);
}

#[test]
fn a_job_deleted_after_the_commit_is_looked_up_in_the_repository() {
    let scenario = Scenario::begin("jobless");
    let operator = Operator::alone();
    prepare(&scenario, 400_000, "100m");
    scenario.apply(&backup("lost", "nightly"));
    scenario.wait_until("the runner runs", || {
        let pods = pods_of(&scenario, "lost");
        pods.first().filter(|pod| pod["status"]["phase"] == "Running").map(|_| ())
    });
    operator.stop();
    wait_for_log(&scenario, "lost", "snapshot committed");
    scenario.kubectl(&[
        "delete",
        "jobs",
        "--all",
        "--grace-period=0",
        "--force",
        "--cascade=foreground",
    ]);
    operator.start();

    let done = scenario.wait_for_condition("backup/lost", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(snapshots(&scenario).len(), 1);
}

#[test]
fn a_job_deleted_before_the_commit_is_never_read_as_success() {
    let scenario = Scenario::begin("undone");
    let operator = Operator::alone();
    prepare(&scenario, 400_000, "100m");
    scenario.apply(&backup("undone", "nightly"));
    scenario.wait_until("the runner runs", || {
        let pods = pods_of(&scenario, "undone");
        pods.first().filter(|pod| pod["status"]["phase"] == "Running").map(|_| ())
    });
    operator.stop();
    scenario.kubectl(&["delete", "jobs", "--all", "--cascade=foreground"]);
    operator.start();

    let failed = scenario.wait_for_condition("backup/undone", "Failed");
    assert_eq!(failed["status"]["phase"], "Failed");
    assert_eq!(snapshots(&scenario).len(), 0);
}
