//! A node that goes away with all that runs there. `hack/test-cluster` adds a second node
//! for these scenarios, and runs them apart, one after the other.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::runner::{pods_of, snapshots_in_the_bucket};
use dbbackup_kind_tests::{
    BUCKET, Operator, Scenario, SecondNode, Server, backup, kubectl, repository, restore, schedule,
    start_bucket,
};
use serde_json::Value;

/// Rather on the second node, and soon elsewhere once that is lost.
const RATHER_THERE: &str = "{tolerations: [{key: dbbackup.dev/second-node, operator: Exists}, \
    {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 3}], \
    affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, \
      preference: {matchExpressions: [{key: dbbackup.dev/second-node, operator: Exists}]}}]}}}";

/// On the second node alone, since the volume is there.
const ONLY_THERE: &str = "{nodeSelector: {dbbackup.dev/second-node: \"true\"}, \
    tolerations: [{key: dbbackup.dev/second-node, operator: Exists}]}";

/// A repository on a volume of the second node, and a schedule for it.
fn on_a_volume_there(scenario: &Scenario) {
    scenario.apply(&format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: there}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}
---
apiVersion: dbbackup.dev/v1alpha1
kind: BackupRepository
metadata: {{name: there}}
spec:
  storage: {{volume: {{claimName: there}}}}
  encryption: {{keys: [{{name: first, passphraseSecretRef: {{name: backup-key}}}}]}}
  job: {ONLY_THERE}
"
    ));
    let _ = scenario.wait_for_condition("backuprepository/there", "Ready");
    // The volume says where: the Jobs need no more than to be let in.
    let let_in = "{tolerations: [{key: dbbackup.dev/second-node, operator: Exists}]}";
    let there = schedule("there", "shop-db", "{include: [shop]}", let_in);
    scenario.apply(&there.replace("{name: main}", "{name: there}"));
}

/// A server, a repository in a bucket, and a schedule whose Jobs are rather on the second node.
fn prepare(scenario: &Scenario) -> Server<'_> {
    let server = Server::start(scenario);
    server.create_database("shop", 2000);
    server.slow_restores_of("shop");
    start_bucket(scenario);
    scenario.apply(&repository(BUCKET, ""));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", RATHER_THERE));
    server
}

fn succeed(scenario: &Scenario, what: &str) -> Value {
    let done = scenario.wait_for_condition(what, "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{what}");
    done
}

/// Fails unless the newest pod of an object runs there.
fn assert_on(scenario: &Scenario, subject: &str, node: &SecondNode) {
    let pods = pods_of(scenario, subject);
    assert_eq!(pods.last().unwrap()["spec"]["nodeName"], node.name(), "{subject}");
}

#[test]
fn what_ran_on_a_lost_node_is_done_elsewhere_and_what_comes_back_with_it_does_no_harm() {
    let node = SecondNode::find();
    let operator = Operator::alone();
    operator.upgrade(&["lostNodeTimeout=45s"]);
    let scenario = Scenario::begin("lost-node");
    let server = prepare(&scenario);
    on_a_volume_there(&scenario);
    for (name, by) in [("done", "nightly"), ("first", "there")] {
        scenario.apply(&backup(name, by));
        succeed(&scenario, &format!("backup/{name}"));
    }
    let digest = server.digest_of_items("shop");

    let lock = server.begin_held("cut", "nightly");
    assert_on(&scenario, "cut", &node);
    let again = restore("again", "done", "shop", "shop_again");
    scenario.apply(&format!("{again}  job: {RATHER_THERE}\n"));
    server.wait_for_slow_restore();
    assert_on(&scenario, "again", &node);
    let stopped = node.stop();

    let silent = format!("--for=condition=Ready=Unknown node/{}", node.name());
    kubectl(&[&["wait", "--timeout=120s"], &silent.split(' ').collect::<Vec<_>>()[..]].concat())
        .unwrap();
    // A volume that is there alone: the Job waits, and says for what.
    scenario.apply(&backup("patient", "there"));
    let (column, message) = scenario.wait_for_reason("backup/patient", "Unschedulable");
    assert!(column.starts_with("starting: no node takes the pod: "), "{column}");
    for words in ["The volume of the claim there", "kubectl get nodes", "It is given up at"] {
        assert!(message.contains(words), "{message}");
    }
    // Those that can run elsewhere wait until it is sure, and say so.
    let (column, message) = scenario.wait_for_reason("backup/cut", "PodDisrupted");
    assert!(column.contains(&format!("the node {} is silent", node.name())), "{column}");
    assert!(message.contains("lostNodeTimeout of the chart"), "{message}");
    assert_eq!(scenario.object("backup/cut")["status"]["phase"], "Running");
    scenario.wait_until("the backup has its second Job", || {
        (scenario.object("backup/cut")["status"]["jobs"] == 2).then_some(())
    });
    drop(lock);
    let cut = succeed(&scenario, "backup/cut");
    let restored = succeed(&scenario, "restorerequest/again");
    assert_eq!(restored["status"]["jobs"], 2);

    stopped.start();
    succeed(&scenario, "backup/patient");
    scenario.wait_until("the pods that came back are gone", || {
        let pods = scenario.objects("pods", "app.kubernetes.io/name=dbbackup-runner");
        let told = pods.iter().any(|pod| pod["metadata"]["deletionTimestamp"].is_string());
        (!told).then_some(())
    });
    let found = snapshots_in_the_bucket(&scenario);
    let mut ids: Vec<_> = found.iter().map(|snapshot| snapshot["id"].clone()).collect();
    ids.sort_by_key(|id| *id != cut["status"]["snapshotId"]);
    assert_eq!(ids.len(), 2, "one of each backup: {found:?}");
    assert_eq!(ids[0], cut["status"]["snapshotId"]);
    assert_eq!(server.digest_of_items("shop_again"), digest);
    assert_eq!(server.scratch_databases(), "");
    // What was made elsewhere is whole.
    scenario.apply(&restore("proof", "cut", "shop", "shop_cut"));
    succeed(&scenario, "restorerequest/proof");
    assert_eq!(server.digest_of_items("shop_cut"), digest);
}

#[test]
fn a_node_that_is_deleted_lets_its_runs_go_on_elsewhere_without_waiting_for_it() {
    let node = SecondNode::find();
    let _operator = Operator::alone();
    let scenario = Scenario::begin("deleted-node");
    let server = prepare(&scenario);
    let lock = server.begin_held("cut", "nightly");
    assert_on(&scenario, "cut", &node);
    let stopped = node.stop();
    kubectl(&["delete", "node", node.name()]).unwrap();
    scenario.wait_until("another pod than the lost one runs", || {
        let pods = pods_of(&scenario, "cut");
        let elsewhere = |pod: &Value| pod["spec"]["nodeName"] != node.name();
        pods.iter().any(elsewhere).then_some(())
    });
    drop(lock);
    let cut = succeed(&scenario, "backup/cut");
    assert_eq!(cut["status"]["jobs"], 1, "its Job has replaced the pod");
    let found = snapshots_in_the_bucket(&scenario);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["id"], cut["status"]["snapshotId"]);
    stopped.replace();
}
