//! What is kept in Git and applied again and again, and how Flux and Argo CD read what becomes
//! of it (`hack/gitops/health` runs the code that they run themselves).

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use std::io::Write as _;
use std::process::{Command, Stdio};

use dbbackup_kind_tests::{
    CLAIM, FOLDER, Scenario, Server, backup, create_repository, repository, restore, schedule,
};
use serde_json::Value;

const HEALTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/gitops/health-of");
/// As Argo CD applies, and as Flux and `kubectl apply --server-side` do.
const BY_SERVER: [&str; 3] = ["--server-side", "--field-manager=argocd-controller", "--filename=-"];
const BY_CLIENT: [&str; 1] = ["--filename=-"];

/// `Current Healthy`: how Flux and Argo CD read an object, once the operator has seen its spec.
fn health(scenario: &Scenario, what: &str) -> String {
    let object = scenario.wait_until(&format!("the spec of {what} is seen"), || {
        let object = scenario.object(what);
        let seen = &object["status"]["observedGeneration"];
        (*seen == object["metadata"]["generation"]).then_some(object)
    });
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [object]});
    let (input, output) = (Stdio::piped(), Stdio::piped());
    let mut child = Command::new(HEALTH).stdin(input).stdout(output).spawn().unwrap();
    child.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{HEALTH} failed");
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    format!("{} {}", read["flux"].as_str().unwrap(), read["argo"].as_str().unwrap())
}

fn kubectl(scenario: &Scenario, verb: &str, how: &[&str], manifests: &str) {
    let arguments = [&[verb], how].concat();
    let outcome = scenario.kubectl_with_input(&arguments, manifests);
    outcome.unwrap_or_else(|error| panic!("{verb} {how:?}: {error}"));
}

/// Without what the server and the operator write of their own.
fn wanted(scenario: &Scenario, what: &str) -> (Value, Value) {
    let object = scenario.object(what);
    (object["metadata"]["generation"].clone(), object["spec"].clone())
}

#[test]
fn what_is_applied_again_changes_nothing_and_suspending_it_is_read_as_that() {
    let scenario = Scenario::begin("gitops");
    let server = Server::start(&scenario);
    server.create_database("shop", 10);
    let nightly = schedule("nightly", "shop-db", "{include: [shop]}", "{}");
    let manifests = format!("{CLAIM}\n---\n{}\n---\n{nightly}", repository(FOLDER, ""));
    let kinds = ["backuprepository/main", "backupschedule/nightly"];
    // Either way first, and then the other, as where a tool's setting is changed.
    for how in [&BY_CLIENT[..], &BY_SERVER] {
        let more: &[&str] = if how == BY_CLIENT { &[] } else { &["--force-conflicts"] };
        kubectl(&scenario, "apply", &[how, more].concat(), &manifests);
        let before = kinds.map(|what| {
            let _ = scenario.wait_for_condition(what, "Ready");
            assert_eq!(health(&scenario, what), "Current Healthy", "{what}");
            wanted(&scenario, what)
        });
        // A difference makes `kubectl diff` fail.
        kubectl(&scenario, "diff", how, &manifests);
        kubectl(&scenario, "apply", how, &manifests);
        assert_eq!(kinds.map(|what| wanted(&scenario, what)), before);
    }
    // The operator has its part of an object, which is the status.
    for what in kinds {
        let object = scenario.kubectl(&["get", what, "--show-managed-fields", "--output=json"]);
        let object: Value = serde_json::from_str(&object).unwrap();
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let ours: Vec<_> = entries.iter().filter(|it| it["manager"] == "dbbackup").collect();
        assert!(!ours.is_empty(), "{what}: {entries:?}");
        for entry in ours {
            assert_eq!(entry["subresource"], "status", "{what}: {entry}");
        }
    }

    let suspended = manifests.replace("  schedule: ", "  suspend: true\n  schedule: ");
    kubectl(&scenario, "apply", &BY_SERVER, &suspended);
    assert_eq!(health(&scenario, "backupschedule/nightly"), "Current Suspended");
}

#[test]
fn a_pipeline_waits_for_the_end_of_a_restore_and_sees_whether_it_failed() {
    let scenario = Scenario::begin("gitops-restore");
    let server = Server::start(&scenario);
    server.create_database("shop", 10);
    create_repository(&scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let look = restore("look", "done", "shop", "shop_as_it_was");
    let ends = |name: &str| {
        let object = format!("restorerequest/{name}");
        let ended = ["wait", &object, "--for=jsonpath={.status.completionTime}", "--timeout=240s"];
        scenario.kubectl(&ended);
        scenario.try_kubectl(&["wait", &object, "--for=condition=Complete", "--timeout=0"]).is_ok()
    };
    // The restore is applied before its backup has ended, as tools do that wait for nothing.
    kubectl(&scenario, "apply", &BY_SERVER, &look);
    assert!(ends("look"));
    assert_eq!(health(&scenario, "backup/done"), "Current Healthy");
    assert_eq!(health(&scenario, "restorerequest/look"), "Current Healthy");

    // What may still change of it changes nothing, and nobody waits for that.
    kubectl(&scenario, "apply", &BY_SERVER, &format!("{look}  dryRun: true\n"));
    let seen = scenario.object("restorerequest/look");
    assert_eq!(seen["metadata"]["generation"], 2);
    assert_eq!(health(&scenario, "restorerequest/look"), "Current Healthy");

    // Pruned, and in Git again: a new object, which finds the database.
    scenario.kubectl(&["delete", "restorerequest", "look"]);
    kubectl(&scenario, "apply", &BY_SERVER, &look);
    assert!(!ends("look"));
    assert_eq!(health(&scenario, "restorerequest/look"), "Failed Degraded");
    assert_eq!(
        scenario.object("restorerequest/look")["status"]["error"]["reason"],
        "DatabaseExists"
    );
}
