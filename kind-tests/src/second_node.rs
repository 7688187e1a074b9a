//! A second node, for scenarios that take it away.

use std::process::Command;

use crate::kubectl::{kubectl, must};

/// The second node, which only pods run on that ask for it. It is there when this is
/// dropped, however the scenario ends.
#[derive(Debug)]
pub struct SecondNode {
    name: String,
}

impl SecondNode {
    /// Finds it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn find() -> Self {
        let selector = "--selector=dbbackup.dev/second-node";
        let name = "jsonpath={.items[*].metadata.name}";
        let name = must(kubectl(&["get", "nodes", selector, "--output", name]));
        assert!(
            !name.is_empty(),
            "the cluster has no second node: kind-tests/cluster/second-node adds one, \
             and hack/test-cluster calls it before these scenarios"
        );
        Self { name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It goes away without a word, with all that runs there in the middle of something.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub fn stop(&self) -> StoppedNode<'_> {
        second_node("stop").unwrap_or_else(|error| panic!("{error}"));
        StoppedNode { _node: self, is_stopped: true }
    }
}

/// The second node while it is away.
#[derive(Debug)]
pub struct StoppedNode<'a> {
    _node: &'a SecondNode,
    is_stopped: bool,
}

impl StoppedNode<'_> {
    /// It comes back, and all that ran there goes on.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn start(mut self) {
        self.is_stopped = false;
        second_node("start").unwrap_or_else(|error| panic!("{error}"));
    }

    /// It never comes back; another one takes its place.
    ///
    /// # Panics
    /// When there is no other one.
    pub fn replace(mut self) {
        self.is_stopped = false;
        replace().unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Drop for StoppedNode<'_> {
    fn drop(&mut self) {
        if self.is_stopped
            && let Err(error) = second_node("start").or_else(|_| replace())
        {
            eprintln!("the second node stays away: {error}");
        }
    }
}

fn replace() -> Result<(), String> {
    second_node("remove").and_then(|()| second_node("add"))
}

fn second_node(what: &str) -> Result<(), String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/second-node");
    let output = Command::new(script)
        .arg(what)
        .output()
        .map_err(|error| format!("{script} does not start: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{script} {what}: {words}")) }
}
