//! The chart over its life: from the previous state of the project to the present one,
//! back again, away, and installed anew. `hack/test-cluster` runs this before the other
//! scenarios, one test after the other: each takes the operator away under all.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use std::path::{Path, PathBuf};
use std::process::Command;

use dbbackup_kind_tests::{
    Scenario, Server, backup, create_repository, helm, kubectl, restore, schedule,
};
use serde_json::{Value, json};

const RELEASE: [&str; 2] = ["dbbackup", "--namespace=dbbackup"];
/// A value that a person has set.
const KEPT: &str = "podLabels.kept=by-upgrades";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn present_chart() -> PathBuf {
    project().join("charts/dbbackup")
}

/// A copy of the previous chart, one word of whose definitions differs: an upgrade must
/// bring something even where two states have the same ones.
fn previous_chart() -> tempfile::TempDir {
    let source = std::env::var_os("DBBACKUP_PREVIOUS_CHART").expect(
        "no previous state of the chart: hack/test-cluster makes it, or says why it cannot",
    );
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-rT").arg(source).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let mut changed = 0;
    for file in std::fs::read_dir(copy.path().join("files/crds")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let older = text.replace("description: Is it fine?", "description: Was it fine?");
        changed += usize::from(older != text);
        std::fs::write(&path, older).unwrap();
    }
    assert!(changed > 0, "the columns' descriptions have changed: choose another word");
    copy
}

/// `helm upgrade --install` with the images of this tag, and further arguments.
fn upgrade(chart: &Path, tag: &str, arguments: &[&str]) {
    let images = format!(
        "images.operator.repository=localhost/dbbackup-operator,images.operator.tag={tag},\
         images.runner.repository=localhost/dbbackup-runner,images.runner.tag={tag}"
    );
    let fixed = ["upgrade", "--install", "--create-namespace", "--wait", "--timeout=3m"];
    let chart = chart.to_str().unwrap();
    helm(&[&fixed[..], &RELEASE, &[chart, "--set", &images], arguments].concat()).unwrap();
}

/// The definitions that a chart holds, by name.
fn definitions(chart: &Path) -> Vec<Value> {
    let chart = chart.to_str().unwrap();
    let yaml = helm(&["template", chart, "--show-only", "templates/crds.yaml"]).unwrap();
    let mut found: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    found.retain(|definition| !definition.is_null());
    found
}

/// Fails unless the cluster's definitions are those of the chart.
fn assert_definitions_are_of(chart: &Path) {
    for expected in definitions(chart) {
        let name = expected["metadata"]["name"].as_str().unwrap();
        let found = get(&format!("crd/{name}"));
        assert_eq!(found["spec"]["versions"], expected["spec"]["versions"], "{name}");
        assert_eq!(found["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
}

/// An object as JSON; those of the operator are looked for in its namespace.
fn get(what: &str) -> Value {
    let get = ["get", what, "--namespace=dbbackup", "--output=json"];
    serde_json::from_str(&kubectl(&get).unwrap()).unwrap()
}

/// A server with two databases, a repository, and a schedule for each.
fn prepare<'a>(scenario: &'a Scenario, rows: u32) -> Server<'a> {
    let server = Server::start(scenario);
    server.create_database("small", 100);
    server.create_database("shop", rows);
    create_repository(scenario);
    scenario.apply(&schedule("quick", "shop-db", "{include: [small]}", "{}"));
    scenario.apply(&schedule("whole", "shop-db", "{include: [shop]}", "{}"));
    server
}

/// Runs a backup of the schedule `quick` and expects its success.
fn back_up(scenario: &Scenario, name: &str) {
    scenario.apply(&backup(name, "quick"));
    let done = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{name}");
}

/// Kind, name and UID of each of our objects in the namespace.
fn identities(scenario: &Scenario) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let objects = scenario.objects("backuprepositories,backupschedules,backups", "");
    let identity = |object: &Value| {
        let metadata = &object["metadata"];
        (text(&object["kind"]), text(&metadata["name"]), text(&metadata["uid"]))
    };
    objects.iter().map(identity).collect()
}

/// The uids of the Jobs and the number of pods of a backup.
fn runs_of(scenario: &Scenario, backup: &str) -> (Vec<String>, usize) {
    let of_backup = |kind: &str| {
        let mut found = scenario.objects(kind, "app.kubernetes.io/name=dbbackup-runner");
        found.retain(|object| object["metadata"]["name"].as_str().unwrap().contains(backup));
        found
    };
    let uid = |job: &Value| job["metadata"]["uid"].as_str().unwrap().to_owned();
    (of_backup("jobs").iter().map(uid).collect(), of_backup("pods").len())
}

#[test]
fn an_upgrade_brings_new_definitions_and_loses_neither_values_nor_a_running_backup() {
    let previous = previous_chart();
    upgrade(previous.path(), "previous", &["--reset-values", "--set", KEPT]);
    assert_definitions_are_of(previous.path());
    let scenario = Scenario::begin("upgrade");
    let server = prepare(&scenario, 1000);
    back_up(&scenario, "before");
    let lock = server.begin_held("running", "whole");
    let runs = runs_of(&scenario, "running");
    assert_eq!((runs.0.len(), runs.1), (1, 1));
    let known = identities(&scenario);

    upgrade(&present_chart(), "dev", &["--reset-then-reuse-values"]);
    assert_eq!(scenario.object("backup/running")["status"]["phase"], "Running");
    drop(lock);
    assert_definitions_are_of(&present_chart());
    let deployment = get("deploy/dbbackup");
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["kept"], "by-upgrades");
    assert_eq!(template["spec"]["containers"][0]["image"], "localhost/dbbackup-operator:dev");
    let done = scenario.wait_for_condition("backup/running", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(runs_of(&scenario, "running"), runs, "one Job with one pod");

    assert_eq!(identities(&scenario), known);
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    let _ = scenario.wait_for_condition("backupschedule/quick", "Ready");
    back_up(&scenario, "after");
    scenario.apply(&restore("back", "running", "shop", "shop_again"));
    let restored = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
    assert_eq!(server.digest_of_items("shop_again"), server.digest_of_items("shop"));

    helm(&[&["rollback"], &RELEASE[..], &["--wait", "--timeout=3m"]].concat()).unwrap();
    assert_definitions_are_of(previous.path());
    let image =
        get("deploy/dbbackup")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image, "localhost/dbbackup-operator:previous");
    back_up(&scenario, "rolled-back");
    upgrade(&present_chart(), "dev", &["--reset-values"]);
    back_up(&scenario, "and-again");
}

#[test]
fn a_removed_release_leaves_every_object_and_a_new_one_takes_them_up() {
    upgrade(&present_chart(), "dev", &["--reset-values"]);
    let scenario = Scenario::begin("reinstall");
    let server = Server::start(&scenario);
    server.create_database("small", 100);
    create_repository(&scenario);
    scenario.apply(&schedule("quick", "shop-db", "{include: [small]}", "{}"));
    back_up(&scenario, "before");
    let known = identities(&scenario);

    helm(&[&["uninstall"], &RELEASE[..], &["--wait"]].concat()).unwrap();
    assert!(kubectl(&["get", "deploy/dbbackup", "--namespace=dbbackup"]).is_err());
    assert_definitions_are_of(&present_chart());
    assert_eq!(identities(&scenario), known);

    // Its certificate is a new one; whatever runs from now on is told so.
    upgrade(&present_chart(), "dev", &[]);
    assert_eq!(identities(&scenario), known);
    let _ = scenario.wait_for_condition("backupschedule/quick", "Ready");
    back_up(&scenario, "after");
    scenario.apply(&restore("back", "before", "small", "small_again"));
    let restored = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(restored["status"]["phase"], "Succeeded");
}

/// Runs the README's line about the manifest, with the images that are here.
fn apply_as_the_readme_says() {
    let readme = std::fs::read_to_string(project().join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.contains("dist/install.yaml | kubectl")).unwrap();
    let line = line.replace("YOUR_REGISTRY", "localhost");
    let mut bash = Command::new("bash");
    bash.args(["-o", "pipefail", "-c", &line]).current_dir(project());
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_one_manifest_installs_the_same_operator() {
    let release = ["uninstall", "--ignore-not-found", "--wait"];
    helm(&[&release[..], &RELEASE].concat()).unwrap();
    apply_as_the_readme_says();
    let rollout =
        ["rollout", "status", "deploy/dbbackup", "--namespace=dbbackup", "--timeout=120s"];
    kubectl(&rollout).unwrap();
    assert_eq!(
        get("namespace/dbbackup")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        json!("restricted")
    );
    let scenario = Scenario::begin("manifest");
    let server = Server::start(&scenario);
    server.create_database("small", 100);
    create_repository(&scenario);
    scenario.apply(&schedule("quick", "shop-db", "{include: [small]}", "{}"));
    back_up(&scenario, "by-manifest");
    let known = identities(&scenario);

    // Applied again it leaves what the operator wrote: the next report arrives.
    apply_as_the_readme_says();
    back_up(&scenario, "applied-again");

    // As its header says it.
    kubectl(&["delete", "namespace", "dbbackup", "--timeout=120s"]).unwrap();
    let selector = "--selector=app.kubernetes.io/instance=dbbackup";
    kubectl(&["delete", "clusterrole,clusterrolebinding", selector]).unwrap();
    assert!(identities(&scenario).starts_with(&known[..1]), "objects stay");
    upgrade(&present_chart(), "dev", &[]);
}
