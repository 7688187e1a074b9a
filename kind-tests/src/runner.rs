//! The runner's pods of an object, and the repository as the runner sees it.

use serde_json::Value;

use crate::Scenario;

/// The runner's pods whose Job belongs to the object of this name, oldest first.
#[must_use]
pub fn pods_of(scenario: &Scenario, subject: &str) -> Vec<Value> {
    let mut pods = scenario.objects("pods", "app.kubernetes.io/name=dbbackup-runner");
    pods.retain(|pod| pod["metadata"]["annotations"]["dbbackup.dev/subject"] == subject);
    pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].as_str().map(str::to_owned));
    pods
}

/// Name of an object.
#[must_use]
pub fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Waits until some bytes of the object's run have moved.
///
/// # Panics
/// When that takes too long.
pub fn wait_for_bytes(scenario: &Scenario, what: &str) {
    scenario.wait_until(&format!("{what} has moved some bytes"), || {
        let object = scenario.object(what);
        (object["status"]["progress"]["bytesDone"].as_u64().unwrap_or(0) > 0).then_some(())
    });
}

/// Waits until a runner's pod of the object has logged `words`, and gives the pod's name.
///
/// # Panics
/// When that takes too long.
pub fn wait_for_log(scenario: &Scenario, subject: &str, words: &str) -> String {
    scenario.wait_until(&format!("a pod of {subject} says {words:?}"), || {
        pods_of(scenario, subject)
            .iter()
            .map(name_of)
            .find(|pod| scenario.try_kubectl(&["logs", pod]).is_ok_and(|log| log.contains(words)))
    })
}

/// Exit code of the object's newest pod, if its runner has ended.
#[must_use]
pub fn exit_code_of(scenario: &Scenario, subject: &str) -> Option<i64> {
    let pods = pods_of(scenario, subject);
    pods.last()?["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
}

/// Snapshots of the repository `main`, as the runner lists them: the truth apart
/// from every object.
///
/// # Panics
/// When the pod that asks does not succeed.
#[must_use]
pub fn snapshots(scenario: &Scenario) -> Vec<Value> {
    listed(&on_the_repository(scenario, "lister", LIST))
}

/// Snapshots of a repository in the bucket of [`crate::start_bucket`], as the runner lists them.
///
/// # Panics
/// When the pod that asks does not succeed.
#[must_use]
pub fn snapshots_in_the_bucket(scenario: &Scenario) -> Vec<Value> {
    listed(&run(scenario, "lister", LIST, &IN_THE_BUCKET))
}

const LIST: &str = "[snapshots, --json, REPOSITORY]";

fn listed(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Runs a command of the runner on the repository `main`, in a pod, and gives
/// what it printed. `REPOSITORY` in the arguments becomes its place and key.
///
/// # Panics
/// When it does not succeed.
pub fn on_the_repository(scenario: &Scenario, pod: &str, arguments: &str) -> String {
    run(scenario, pod, arguments, &ON_THE_VOLUME)
}

/// A repository as the command line names it, and the volume that a pod needs for it.
struct Place {
    address: &'static str,
    volume: &'static str,
}

const ON_THE_VOLUME: Place = Place {
    address: "file:///repository/dbbackup",
    volume: "persistentVolumeClaim: {claimName: backups}",
};
const IN_THE_BUCKET: Place = Place {
    address: "s3://backups/shop, --s3-endpoint, http://s3:9000, --s3-path-style, \
              --s3-credentials-dir, /repository",
    volume: "secret: {secretName: s3-keys, defaultMode: 0440}",
};

fn run(scenario: &Scenario, pod: &str, arguments: &str, place: &Place) -> String {
    let repository = format!("{}, --passphrase-file, /key/passphrase", place.address);
    let arguments = arguments.replace("REPOSITORY", &repository);
    let yaml = POD.replace("NAME", pod).replace("ARGUMENTS", &arguments);
    run_pod(scenario, pod, &yaml.replace("VOLUME", place.volume))
}

/// Runs a pod to its end, in the place of one of the same name, and gives its log.
fn run_pod(scenario: &Scenario, name: &str, yaml: &str) -> String {
    scenario.kubectl(&["delete", "pod", name, "--ignore-not-found", "--grace-period=1"]);
    scenario.apply(yaml);
    let phase = scenario.wait_until(&format!("the pod {name} has ended"), || {
        let phase = scenario.object(&format!("pod/{name}"))["status"]["phase"].take();
        (phase == "Succeeded" || phase == "Failed").then_some(phase)
    });
    // The kubelet may look for the log before it has it: its words are no log.
    let log = scenario.wait_until(&format!("the pod {name} has a log"), || {
        let log = scenario.kubectl(&["logs", name]);
        (!log.starts_with("unable to retrieve container logs")).then_some(log)
    });
    assert_eq!(phase, "Succeeded", "the pod {name}: {log}");
    log
}

/// Runs a shell command in the volume `backups`, as `/repository`, as its owner, and gives
/// what it printed.
///
/// # Panics
/// When it does not succeed.
pub fn on_the_volume(scenario: &Scenario, command: &str) -> String {
    let command = Value::from(command).to_string();
    let yaml = SHELL.replace("COMMAND", &command);
    run_pod(scenario, "shell", &yaml)
}

/// Runs what the newest pod of an object's Jobs has run once more, in a pod of this name,
/// with another task and without the operator: nobody is told.
///
/// # Panics
/// When there is no such pod, or the new one does not succeed.
pub fn run_by_hand(scenario: &Scenario, of: &str, name: &str, change: impl FnOnce(&mut Value)) {
    const TASK: &str = "dbbackup.dev/task";
    let pods = pods_of(scenario, of);
    let mut pod = pods.last().unwrap_or_else(|| panic!("{of} has no pod")).clone();
    let text = pod["metadata"]["annotations"][TASK].as_str().unwrap_or_default();
    let mut task: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    task["report"] = Value::Null;
    change(&mut task);
    pod["metadata"] = serde_json::json!({
        "name": name, "annotations": {"dbbackup.dev/task": task.to_string()},
    });
    pod["spec"]["nodeName"] = Value::Null;
    pod["status"] = Value::Null;
    run_pod(scenario, name, &pod.to_string());
}

/// Waits until the repository `main` has so many snapshots.
///
/// # Panics
/// When it does not.
#[must_use]
pub fn wait_for_snapshots(scenario: &Scenario, count: usize) -> Vec<Value> {
    scenario.wait_until(&format!("{count} snapshots are there"), || {
        let found = snapshots(scenario);
        (found.len() == count).then_some(found)
    })
}

const SHELL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: shell
    image: localhost/postgres:17
    imagePullPolicy: IfNotPresent
    command: [sh, -ec, COMMAND]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: repository, mountPath: /repository}]
  volumes: [{name: repository, persistentVolumeClaim: {claimName: backups}}]
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: NAME
    image: localhost/dbbackup-runner:dev
    imagePullPolicy: IfNotPresent
    args: ARGUMENTS
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: repository, mountPath: /repository}, {name: key, mountPath: /key}]
  volumes:
  - {name: repository, VOLUME}
  - {name: key, secret: {secretName: backup-key, defaultMode: 0440}}
";
