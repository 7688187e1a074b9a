//! The API server, for scenarios that take it away.

use std::process::Command;

use crate::kubectl::kubectl;

/// The API server's process, stopped: it accepts connections and answers none,
/// as behind a network that is cut. It goes on when this is dropped.
#[derive(Debug)]
pub struct StoppedApiServer {
    process: String,
}

impl StoppedApiServer {
    /// Stops it.
    ///
    /// # Panics
    /// When its process is not found.
    #[must_use]
    pub fn stop() -> Self {
        // The bracket keeps the search from finding itself.
        let process = in_the_node("pgrep --full '[k]ube-apiserver --'");
        assert!(process.parse::<u32>().is_ok(), "the API server's process is not one: {process:?}");
        let stopped = Self { process };
        in_the_node(&format!("kill -STOP {}", stopped.process));
        stopped
    }

    /// What the pods of a namespace whose names begin so have logged, as it stands on the node.
    #[must_use]
    pub fn log_of(&self, namespace: &str, pod: &str) -> String {
        in_the_node(&format!("cat /var/log/pods/{namespace}_{pod}*/*/*.log"))
    }

    /// Lets it go on, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn go_on(self) {
        drop(self);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while let Err(error) = kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"]) {
            assert!(std::time::Instant::now() < end, "the API server does not come back: {error}");
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
    }
}

impl Drop for StoppedApiServer {
    fn drop(&mut self) {
        in_the_node(&format!("kill -CONT {}", self.process));
    }
}

/// Runs a shell command among the node's processes, and gives what it prints.
fn in_the_node(command: &str) -> String {
    let enter = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/enter");
    let output = Command::new(enter)
        .args(["sh", "-c", command])
        .output()
        .unwrap_or_else(|error| panic!("{enter} does not start: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
