//! By schedule a server comes back into storage that goes again, and is asked: what holds is told
//! with its times, what does not hold is told, and backups go on either way.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::{Operator, Scenario, Server, backup, create_repository, schedule};
use serde_json::Value;

/// A schedule `nightly` of bases with a drill each minute; `drill` is what it does.
fn drilling(drill: &str) -> String {
    let yaml = schedule("nightly", "shop-db", "{}", "{}").replace("      databases: {}\n", "");
    let wanted = format!(
        "  method: Physical\n  pointInTimeRecovery: {{enabled: true, maxLag: 1s}}\n  \
         verification: {{drill: {{schedule: '* * * * *', image: 'localhost/postgres:17', \
         storage: {{size: 2Gi}}, {drill}}}}}\n  schedule:"
    );
    yaml.replace("  schedule:", &wanted)
}

/// An assertion of the database `shop`.
fn asked(name: &str, query: &str) -> String {
    format!("{{name: {name}, database: shop, query: \"{query}\"}}")
}

/// A server whose schedule has a base.
fn with_base<'a>(scenario: &'a Scenario, drill: &str) -> Server<'a> {
    let server = Server::start(scenario);
    server.create_database("shop", 1000);
    create_repository(scenario);
    scenario.apply(&drilling(drill));
    let _ = scenario.wait_for_condition("backupschedule/nightly", "LogArchived");
    scenario.apply(&backup("base", "nightly"));
    let _ = scenario.wait_for_condition("backup/base", "Complete");
    server
}

/// The last drill, as soon as one has come to this outcome.
fn wait_for_drill(scenario: &Scenario, outcome: &str) -> Value {
    scenario.wait_patiently(&format!("a drill has {outcome}"), || {
        let status = scenario.object("backupschedule/nightly")["status"].clone();
        (status["lastDrill"]["outcome"] == outcome).then_some(status)
    })
}

fn proved(status: &Value) -> &Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|it| it["type"] == "RestoreProved").unwrap()
}

/// Claims of drills.
fn scratch(scenario: &Scenario) -> usize {
    let is_scratch = |claim: &&Value| {
        let owners = claim["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| owners.iter().any(|owner| owner["kind"] == "Pod"))
    };
    scenario.objects("pvc", "").iter().filter(is_scratch).count()
}

#[test]
fn what_was_written_last_is_recovered_and_asked_and_nothing_of_it_is_left() {
    let scenario = Scenario::begin("drill");
    let newest = asked("the-newest", "select count(*) = 1001 from items");
    let drill = format!("pointInTime: true, assertions: [{newest}]");
    let server = with_base(&scenario, &drill);
    server.sql("shop", "insert into items values (-1, 'newer than the base', 0)");

    // One that ran before may not have seen it.
    let status = wait_for_drill(&scenario, "Passed");
    let last = &status["lastDrill"];
    assert_eq!(last["base"]["snapshotId"], scenario.object("backup/base")["status"]["snapshotId"]);
    assert_eq!(last["assertions"][0]["outcome"], "Passed", "{last}");
    assert_eq!(last["reached"]["timeline"], 2);
    assert!(last["databases"].as_u64().unwrap() >= 3, "{last}");
    assert!(last["recoveryMilliseconds"].as_u64().unwrap() > 0, "{last}");
    let age = last["recoveryPointMilliseconds"].as_u64().unwrap();
    assert!(age < 10 * 60 * 1000, "the log's end and not the base is drilled: {age} ms");
    let proof = proved(&status);
    assert_eq!((&proof["status"], &proof["reason"]), (&"True".into(), &"DrillPassed".into()));
    assert!(proof["message"].as_str().unwrap().contains("1 assertion holds"), "{proof}");
    let metric = format!(
        "dbbackup_drill_last_passed{{namespace=\"{}\",schedule=\"nightly\"}} 1",
        scenario.namespace()
    );
    scenario
        .wait_until("the metric says so", || Operator::metrics().contains(&metric).then_some(()));

    // Switched off, also in the middle of one: all storage is given back.
    scenario.kubectl(&[
        "patch",
        "dbbs/nightly",
        "--type=json",
        "--patch=[{\"op\": \"remove\", \"path\": \"/spec/verification\"}]",
    ]);
    scenario.wait_until("no scratch storage is left", || (scratch(&scenario) == 0).then_some(()));
    let status = scenario.object("backupschedule/nightly")["status"].clone();
    assert_eq!(status["nextDrillTime"], Value::Null);
}

#[test]
fn a_false_answer_fails_the_drill_and_no_backup() {
    let scenario = Scenario::begin("drill-fails");
    let holds = asked("has-items", "select count(*) > 0 from items");
    let fails = asked("has-millions", "select count(*) > 1000000 from items");
    let nowhere = "{name: elsewhere, database: nowhere, query: 'select true'}";
    let _server = with_base(&scenario, &format!("assertions: [{fails}, {holds}, {nowhere}]"));

    let status = wait_for_drill(&scenario, "Failed");
    let last = &status["lastDrill"];
    assert_eq!(last["error"]["reason"], "AssertionFailed", "{last}");
    let outcomes: Vec<_> =
        last["assertions"].as_array().unwrap().iter().map(|it| &it["outcome"]).collect();
    assert_eq!(outcomes, ["Failed", "Passed", "Failed"], "{last}");
    let proof = proved(&status);
    assert_eq!((&proof["status"], &proof["reason"]), (&"False".into(), &"AssertionFailed".into()));
    let message = proof["message"].as_str().unwrap();
    assert!(message.contains("has-millions") && message.contains("nor do elsewhere"), "{message}");
    assert!(status["display"].as_str().unwrap().contains("drill failed: AssertionFailed"));
    let warned = scenario.wait_for_warning("backupschedule/nightly", "DrillFailed");
    assert!(warned.contains("has-millions"), "{warned}");
    scenario.apply(&backup("another", "nightly"));
    let _ = scenario.wait_for_condition("backup/another", "Complete");
}

#[test]
fn what_no_drill_can_be_of_is_refused_at_the_door_and_an_image_that_is_none_is_told() {
    let scenario = Scenario::begin("drill-refused");
    let logical = drilling("assertions: []").replace("method: Physical", "method: Logical");
    let logical = logical.replace("  pointInTimeRecovery: {enabled: true, maxLag: 1s}\n", "");
    let refused = scenario.try_apply(&logical).unwrap_err().to_string();
    assert!(refused.contains("verification.drill needs method: Physical"), "{refused}");
    let without_log = drilling("pointInTime: true").replace("enabled: true", "enabled: false");
    let refused = scenario.try_apply(&without_log).unwrap_err().to_string();
    assert!(refused.contains("pointInTime replays the archived log"), "{refused}");

    let _server = with_base(&scenario, "pointInTime: true");
    scenario.apply(
        &drilling("pointInTime: true")
            .replace("localhost/postgres:17", "localhost/dbbackup-runner:dev"),
    );
    let status = scenario.wait_patiently("the image is refused", || {
        let status = scenario.object("backupschedule/nightly")["status"].clone();
        let error = &status["lastDrill"]["error"]["reason"];
        (*error == "ServerImageUnsuitable").then_some(status)
    });
    let error = &status["lastDrill"]["error"];
    assert!(error.to_string().contains("verification.drill.image"), "{error}");
}
