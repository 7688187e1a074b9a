//! `kubectl` and `helm` as child processes.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What the program said when it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubectlError {
    /// Its standard error.
    pub message: String,
}

impl std::fmt::Display for KubectlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Runs `kubectl` and gives its standard output.
///
/// # Errors
/// Its standard error, when it ends with anything but success.
pub fn kubectl(arguments: &[&str]) -> Result<String, KubectlError> {
    kubectl_with_input(arguments, "")
}

/// Runs `kubectl` with `input` on standard input.
///
/// # Errors
/// Its standard error, when it ends with anything but success.
///
/// # Panics
/// When there is no `kubectl` or no cluster's configuration: nothing can be tested then.
pub fn kubectl_with_input(arguments: &[&str], input: &str) -> Result<String, KubectlError> {
    run("kubectl", arguments, input)
}

/// Runs `helm` (the one of `kind-tests/cluster/helm`) and gives its standard output.
///
/// # Errors
/// Its standard error, when it ends with anything but success.
///
/// # Panics
/// When there is no cluster's configuration.
pub fn helm(arguments: &[&str]) -> Result<String, KubectlError> {
    run("helm", arguments, "")
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, KubectlError> {
    assert!(
        std::env::var_os("KUBECONFIG").is_some(),
        "no cluster: run these tests by `make test-cluster`, which brings one up"
    );
    let failed = |what: &str, error: std::io::Error| KubectlError {
        message: format!("{what} {program}: {error}"),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed("starting", error))?;
    // Inputs are small beside a pipe's buffer or read at once: no deadlock.
    if let Some(mut stdin) = child.stdin.take() {
        // A program that failed early closes its input; its own error says more.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed("waiting for", error))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(KubectlError { message: text(&output.stderr) })
    }
}

/// What came of a `kubectl` that must not fail.
pub(crate) fn must<T>(outcome: Result<T, KubectlError>) -> T {
    outcome.unwrap_or_else(|error| panic!("kubectl: {error}"))
}
