//! A server of S3 in a scenario's namespace: MinIO, as the tests of the driver have it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::scenario::Scenario;

/// `storage` of a repository in the bucket that [`start_bucket`] makes.
pub const BUCKET: &str = "{s3: {bucket: backups, prefix: shop, endpoint: 'http://s3:9000', \
                           forcePathStyle: true, credentialsSecretRef: {name: s3-keys}}}";

/// The pod, and the service in front of it. The image is there anyway, and has a shell.
const MANIFEST: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: s3-keys}
stringData: {accessKeyId: e2e-user, secretAccessKey: e2e-only-secret}
---
apiVersion: v1
kind: Service
metadata: {name: s3}
spec:
  selector: {app: s3}
  ports: [{port: 9000}]
---
apiVersion: v1
kind: Pod
metadata: {name: s3, labels: {app: s3}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: s3
      image: localhost/postgres:17
      imagePullPolicy: Never
      command: [sh, -c, "until [ -e /s3/ready ]; do sleep 0.2; done; exec /s3/minio server --quiet --address :9000 --certs-dir /s3/certs /s3/data"]
      env:
        - {name: HOME, value: /s3}
        - {name: MINIO_UPDATE, value: "off"}
        - {name: MINIO_BROWSER, value: "off"}
        - {name: MINIO_ROOT_USER, valueFrom: {secretKeyRef: {name: s3-keys, key: accessKeyId}}}
        - {name: MINIO_ROOT_PASSWORD, valueFrom: {secretKeyRef: {name: s3-keys, key: secretAccessKey}}}
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: files, mountPath: /s3}]
      readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}
  volumes: [{name: files, emptyDir: {}}]
"#;

/// Starts the server with an empty bucket `backups`; `http://s3:9000` reaches it, and the
/// secret `s3-keys` has its keys.
///
/// # Panics
/// When it does not start.
pub fn start_bucket(scenario: &Scenario) {
    scenario.apply(MANIFEST);
    scenario.wait_until("the pod of the S3 server runs", || {
        (scenario.object("pod/s3")["status"]["phase"] == "Running").then_some(())
    });
    // A folder of its data is a bucket.
    let unpack = "cat > /s3/minio && chmod +x /s3/minio && \
                  mkdir -p /s3/certs /s3/data/backups && touch /s3/ready";
    let file = std::fs::File::open(program())
        .unwrap_or_else(|error| panic!("the program of the S3 server: {error}"));
    let status = Command::new("kubectl")
        .args(["--namespace", scenario.namespace(), "exec", "-i", "s3", "--", "sh", "-c", unpack])
        .stdin(Stdio::from(file))
        .status()
        .unwrap_or_else(|error| panic!("kubectl does not start: {error}"));
    assert!(status.success(), "the program cannot be copied: {status}");
    scenario.kubectl(&["wait", "pod/s3", "--for=condition=Ready", "--timeout=90s"]);
}

/// The program; made where it is missing.
fn program() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../storage/s3/tests/s3/s3-server");
    let output = Command::new(script).arg("minio").stderr(Stdio::inherit()).output();
    let output = output.unwrap_or_else(|error| panic!("{script} does not start: {error}"));
    assert!(output.status.success(), "{script} minio failed");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("program")
}
