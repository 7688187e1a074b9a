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
    let json = on_the_repository(scenario, "lister", "[snapshots, --json, REPOSITORY]");
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// Runs a command of the runner on the repository `main`, in a pod, and gives
/// what it printed. `REPOSITORY` in the arguments becomes its place and key.
///
/// # Panics
/// When it does not succeed.
pub fn on_the_repository(scenario: &Scenario, pod: &str, arguments: &str) -> String {
    let arguments = arguments
        .replace("REPOSITORY", "file:///repository/dbbackup, --passphrase-file, /key/passphrase");
    scenario.kubectl(&["delete", "pod", pod, "--ignore-not-found", "--grace-period=1"]);
    scenario.apply(&POD.replace("NAME", pod).replace("ARGUMENTS", &arguments));
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    scenario.kubectl(&["wait", &format!("pod/{pod}"), done, "--timeout=90s"]);
    scenario.kubectl(&["logs", pod])
}

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
  - {name: repository, persistentVolumeClaim: {claimName: backups}}
  - {name: key, secret: {secretName: backup-key, defaultMode: 0440}}
";
