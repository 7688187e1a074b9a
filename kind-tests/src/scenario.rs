//! One scenario: a namespace, the objects in it, and waiting for what they say.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kubectl::{KubectlError, kubectl, kubectl_with_input, must};

/// How long a scenario waits for something that takes seconds on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// How often a condition is looked at that `kubectl wait` cannot express.
const LOOK: Duration = Duration::from_millis(700);
/// The kinds of the product.
const KINDS: &str = "backuprepositories,backupschedules,backups,restorerequests,pitrrestores";

/// A namespace of its own; it is removed at the end, and shown if the test failed.
#[derive(Debug)]
pub struct Scenario {
    namespace: String,
}

impl Scenario {
    /// Begins a scenario in the namespace `e2e-NAME`, emptied of an earlier run.
    ///
    /// # Panics
    /// When the cluster cannot be reached.
    #[must_use]
    pub fn begin(name: &str) -> Self {
        let namespace = format!("e2e-{name}");
        must(kubectl(&["delete", "namespace", &namespace, "--ignore-not-found", "--timeout=120s"]));
        let scenario = Self { namespace };
        scenario.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n  labels: {{pod-security.kubernetes.io/enforce: restricted}}\n",
            scenario.namespace
        ));
        scenario
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `kubectl` in the namespace.
    ///
    /// # Errors
    /// Its standard error.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, KubectlError> {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// Runs `kubectl` in the namespace; it must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        must(self.try_kubectl(arguments))
    }

    /// Applies YAML; objects without a namespace go into the scenario's.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn apply(&self, yaml: &str) {
        must(self.try_apply(yaml));
    }

    /// Applies YAML, and gives the API server's words when it refuses.
    ///
    /// # Errors
    /// The API server's words.
    pub fn try_apply(&self, yaml: &str) -> Result<String, KubectlError> {
        self.kubectl_with_input(&["apply", "--filename", "-"], yaml)
    }

    /// Runs `kubectl` in the namespace with `input` on standard input.
    ///
    /// # Errors
    /// Its standard error.
    pub fn kubectl_with_input(
        &self,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, KubectlError> {
        kubectl_with_input(&[&["--namespace", &self.namespace], arguments].concat(), input)
    }

    /// An object as JSON; `null` where it does not exist.
    ///
    /// # Panics
    /// When the API server cannot be asked.
    #[must_use]
    pub fn object(&self, what: &str) -> Value {
        let json = self.kubectl(&["get", what, "--ignore-not-found", "--output", "json"]);
        if json.is_empty() { Value::Null } else { parsed(&json) }
    }

    /// The objects of a kind, with a label selector (may be empty).
    ///
    /// # Panics
    /// When the API server cannot be asked.
    #[must_use]
    pub fn objects(&self, kind: &str, selector: &str) -> Vec<Value> {
        let list =
            parsed(&self.kubectl(&["get", kind, "--selector", selector, "--output", "json"]));
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the object has the condition with the status `True`, and gives the object.
    ///
    /// # Panics
    /// When that takes too long.
    #[must_use]
    pub fn wait_for_condition(&self, what: &str, condition: &str) -> Value {
        self.wait_until(&format!("{what} is {condition}"), || {
            let object = self.object(what);
            has_condition(&object, condition).then_some(object)
        })
    }

    /// Waits until `look` finds what it looks for.
    ///
    /// # Panics
    /// When that takes too long; the state of the namespace is shown then.
    pub fn wait_until<T>(&self, until: &str, look: impl FnMut() -> Option<T>) -> T {
        wait(PATIENCE, until, look)
    }

    /// Waits for something that takes minutes even on a quiet machine.
    ///
    /// # Panics
    /// When that takes too long; the state of the namespace is shown then.
    pub fn wait_patiently<T>(&self, until: &str, look: impl FnMut() -> Option<T>) -> T {
        wait(3 * PATIENCE, until, look)
    }

    /// Shows what a person would look at to understand a failure.
    fn show(&self) {
        let tail = ["--tail=40", "--prefix", "--all-containers"];
        let looks: [&[&str]; 6] = [
            &["get", KINDS, "--output", "wide"],
            &["describe", KINDS],
            &["get", "jobs,pods", "--output", "wide"],
            &["describe", "pods"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[&["logs", "--selector=app.kubernetes.io/name=dbbackup-runner"], &tail[..]].concat(),
        ];
        for look in looks {
            let shown = self.try_kubectl(look).unwrap_or_else(|error| error.message);
            eprintln!("$ kubectl {}\n{shown}\n", look.join(" "));
        }
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        // Not waited for: the next scenario need not stand still.
        let delete = ["delete", "namespace", &self.namespace, "--ignore-not-found", "--wait=false"];
        if let Err(error) = kubectl(&delete) {
            eprintln!("namespace {} stays: {error}", self.namespace);
        }
    }
}

fn wait<T>(patience: Duration, until: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain until {until}");
        std::thread::sleep(LOOK);
    }
}

/// Whether `object` has the condition with the status `True`, for its present generation.
fn has_condition(object: &Value, condition: &str) -> bool {
    let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let conditions = object["status"]["conditions"].as_array();
    current
        && conditions
            .into_iter()
            .flatten()
            .any(|found| found["type"] == condition && found["status"] == "True")
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json)
        .unwrap_or_else(|error| panic!("kubectl gave no JSON ({error}): {json}"))
}
