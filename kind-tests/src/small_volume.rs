//! A claim on a volume that is really as small as it says. The volumes of a test
//! cluster are mostly folders whose size nobody enforces; a pod's volume in
//! memory has a size that the kernel enforces, and can be offered as a volume.

use serde_json::Value;

use crate::kubectl::{kubectl, kubectl_with_input, must};
use crate::scenario::Scenario;

/// A claim, the volume behind it, and the pod that keeps it. Nothing is left on
/// the node: the volume goes with the pod.
#[derive(Debug)]
pub struct SmallVolume<'a> {
    scenario: &'a Scenario,
    volume: String,
}

impl<'a> SmallVolume<'a> {
    /// Makes the claim `backups` of so many mebibytes.
    ///
    /// # Panics
    /// When the API server refuses, or the pod does not start.
    #[must_use]
    pub fn create(scenario: &'a Scenario, mebibytes: u32) -> Self {
        let size = format!("{mebibytes}Mi");
        scenario.apply(&KEEPER.replace("SIZE", &size));
        scenario.kubectl(&["wait", "pod/keeper", "--for=condition=Ready", "--timeout=90s"]);
        let keeper = scenario.object("pod/keeper");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let volume = format!("{}-backups", scenario.namespace());
        // Volumes belong to no namespace.
        let yaml = VOLUME
            .replace("VOLUME", &volume)
            .replace("SIZE", &size)
            .replace("NAMESPACE", scenario.namespace())
            .replace("POD_UID", &text(&keeper["metadata"]["uid"]))
            .replace("NODE", &text(&keeper["spec"]["nodeName"]));
        must(kubectl(&["delete", "persistentvolume", &volume, "--ignore-not-found"]));
        must(kubectl_with_input(&["apply", "--filename", "-"], &yaml));
        scenario.apply(&CLAIM.replace("VOLUME", &volume).replace("SIZE", &size));
        Self { scenario, volume }
    }

    /// Takes all room but about so many mebibytes.
    ///
    /// # Panics
    /// When that does not work.
    pub fn leave(&self, mebibytes: u32) {
        let fill = format!(
            "free=$(df --output=avail -m /store | tail -1); \
             head -c $(((free - {mebibytes}) * 1048576)) /dev/zero > /store/ballast"
        );
        self.scenario.kubectl(&["exec", "keeper", "--", "sh", "-c", &fill]);
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When that does not work.
    pub fn make_room(&self) {
        self.scenario.kubectl(&["exec", "keeper", "--", "rm", "/store/ballast"]);
    }
}

impl Drop for SmallVolume<'_> {
    fn drop(&mut self) {
        // It goes when its claim has gone with the namespace.
        if let Err(error) = kubectl(&["delete", "persistentvolume", &self.volume, "--wait=false"]) {
            eprintln!("the volume {} stays: {error}", self.volume);
        }
    }
}

const KEEPER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: keeper}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: keeper
    image: localhost/postgres:17
    imagePullPolicy: IfNotPresent
    command: [sleep, infinity]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: store, mountPath: /store}]
  volumes:
  - {name: store, emptyDir: {medium: Memory, sizeLimit: SIZE}}
";

const VOLUME: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: VOLUME}
spec:
  capacity: {storage: SIZE}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ''
  claimRef: {namespace: NAMESPACE, name: backups}
  local: {path: /var/lib/kubelet/pods/POD_UID/volumes/kubernetes.io~empty-dir/store}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [NODE]}]
";

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: backups}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  volumeName: VOLUME
  resources: {requests: {storage: SIZE}}
";
