//! The operator of the cluster, for scenarios that take it away or change it.
//! There is one for all: such scenarios run one after the other, and in files
//! of their own.

use std::cell::Cell;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kubectl::{kubectl, must};

static ALONE: Mutex<()> = Mutex::new(());

const NAMESPACE: &str = "dbbackup";

/// The operator, for one scenario at a time. Brings it back as it was installed
/// when the scenario ends, however it ends.
#[derive(Debug)]
pub struct Operator {
    scaled: Cell<bool>,
    upgraded: Cell<bool>,
    _alone: MutexGuard<'static, ()>,
}

impl Operator {
    /// Waits until no other scenario has the operator.
    #[must_use]
    pub fn alone() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { scaled: Cell::new(false), upgraded: Cell::new(false), _alone: alone }
    }

    /// Stops the operator and waits until its pods are gone.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn stop(&self) {
        self.scale("0");
        in_its_namespace(&["wait", "pods", "--all", "--for=delete", "--timeout=90s"]);
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn start(&self) {
        self.run("1");
    }

    /// Runs so many replicas and waits until they are ready.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn run(&self, replicas: &str) {
        self.scale(replicas);
        ready();
    }

    fn scale(&self, replicas: &str) {
        self.scaled.set(true);
        in_its_namespace(&["scale", "deploy/dbbackup", "--replicas", replicas]);
    }

    /// Upgrades the chart with other values, and waits until it runs so.
    ///
    /// # Panics
    /// When Helm or the operator fails.
    pub fn upgrade(&self, values: &[&str]) {
        self.upgraded.set(true);
        upgrade(values);
    }

    /// Names of its pods that have not ended.
    ///
    /// # Panics
    /// When the API server cannot be asked.
    #[must_use]
    pub fn pods() -> Vec<String> {
        let names = "jsonpath={range .items[*]}{.metadata.name} {end}";
        let text = in_its_namespace(&["get", "pods", "--output", names]);
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// The pod that leads; empty while none does.
    ///
    /// # Panics
    /// When the API server cannot be asked.
    #[must_use]
    pub fn leader() -> String {
        let holder = "jsonpath={.spec.holderIdentity}";
        in_its_namespace(&["get", "lease/dbbackup-operator", "--output", holder])
    }

    /// Kills a pod at once, without a word.
    ///
    /// # Panics
    /// When the API server refuses.
    pub fn kill(&self, pod: &str) {
        in_its_namespace(&["delete", "pod", pod, "--grace-period=0", "--force"]);
    }

    /// What its pods have logged since a time (RFC 3339), line by line.
    ///
    /// # Panics
    /// When the API server cannot be asked.
    #[must_use]
    pub fn log_since(time: &str) -> Vec<String> {
        let since = format!("--since-time={time}");
        let selector = "--selector=app.kubernetes.io/name=dbbackup";
        let log = in_its_namespace(&["logs", selector, "--tail=-1", &since]);
        log.lines().map(str::to_owned).collect()
    }

    /// The leader's metrics.
    ///
    /// # Panics
    /// When it cannot be asked.
    #[must_use]
    pub fn metrics() -> String {
        let leader = Self::leader();
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{leader}:8080/proxy/metrics");
        in_its_namespace(&["get", "--raw", &path])
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if self.scaled.get() {
            self.scale("1");
        }
        if self.upgraded.get() {
            upgrade(&[]);
        }
    }
}

fn in_its_namespace(arguments: &[&str]) -> String {
    must(kubectl(&[&["--namespace", NAMESPACE], arguments].concat()))
}

fn ready() {
    in_its_namespace(&["rollout", "status", "deploy/dbbackup", "--timeout=120s"]);
}

/// As `hack/shell/installed.sh` installs it, and then these values.
fn upgrade(values: &[&str]) {
    let here = env!("CARGO_MANIFEST_DIR");
    let images = "images.operator.repository=localhost/dbbackup-operator,images.operator.tag=dev,\
                  images.runner.repository=localhost/dbbackup-runner,images.runner.tag=dev";
    let mut helm = Command::new(format!("{here}/cluster/helm"));
    helm.args(["upgrade", "dbbackup", &format!("{here}/../charts/dbbackup")]);
    helm.args(["--namespace", NAMESPACE, "--reset-values", "--set", images]);
    for value in values {
        helm.args(["--set", value]);
    }
    let output = helm.output().unwrap_or_else(|error| panic!("helm does not start: {error}"));
    assert!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    ready();
}
