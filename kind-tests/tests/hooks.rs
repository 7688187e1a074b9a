//! SQL before and after a backup, and as whom the pods run that have it carried out.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::runner::{name_of, pods_of};
use dbbackup_kind_tests::{
    CLAIM, FOLDER, Scenario, Server, backup, create_repository, repository, restore, schedule,
};
use serde_json::Value;

/// A server whose hooks note what they are in a table, and a repository.
fn with_log(scenario: &Scenario) -> Server<'_> {
    let server = Server::start(scenario);
    server.create_database("shop", 100);
    server.sql("shop", "create table backup_log (number serial, note text)");
    create_repository(scenario);
    server
}

/// A schedule of the database `shop` with these hooks.
fn with_hooks(credentials: &str, hooks: &str) -> String {
    schedule("nightly", credentials, "{include: [shop]}", "{}")
        .replace("  schedule:", &format!("  hooks:\n{hooks}\n  schedule:"))
}

fn note(name: &str, more: &str) -> String {
    let sql = format!("insert into backup_log (note) values ('{name}')");
    format!("    - {{name: {name}, database: shop, sql: \"{sql}\"{more}}}\n")
}

/// What the hooks have noted, in their order.
fn notes(server: &Server<'_>, database: &str) -> String {
    let all = "select coalesce(string_agg(note, ' ' order by number), '') from backup_log";
    server.sql(database, all).trim().to_owned()
}

/// `NAME OUTCOME` of the hooks that the status has.
fn told(object: &Value) -> Vec<String> {
    let hooks = object["status"]["hooks"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    hooks.iter().map(|hook| format!("{} {}", text(&hook["name"]), text(&hook["outcome"]))).collect()
}

#[test]
fn what_a_hook_writes_before_is_in_the_backup_and_one_that_fails_after_it_is_told() {
    let scenario = Scenario::begin("hooks");
    let server = with_log(&scenario);
    let hooks = [
        "    before:\n".to_owned(),
        note("before", ""),
        "    - {name: checkpoint, database: postgres, sql: CHECKPOINT, timeout: 5m}\n".to_owned(),
        "    after:\n".to_owned(),
        note("after", ", when: OnSuccess"),
        note("in-need", ", when: OnFailure"),
        "    - {name: resume, database: shop, sql: \"select resume('hunter2')\"}\n".to_owned(),
    ];
    scenario.apply(&with_hooks("shop-db", &hooks.concat()));
    scenario.apply(&backup("done", "nightly"));
    let done = scenario.wait_for_condition("backup/done", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    let outcomes =
        ["before Succeeded", "checkpoint Succeeded", "after Succeeded", "in-need Skipped"];
    assert_eq!(told(&done)[..4], outcomes);
    assert_eq!(told(&done)[4], "resume Failed");
    let error = &done["status"]["hooks"][4]["error"];
    assert_eq!((&error["reason"], &error["class"]), (&"HookFailed".into(), &"Warning".into()));
    let column = done["status"]["display"].as_str().unwrap();
    assert!(column.ends_with("; hook resume failed"), "{column}");
    let event = scenario.wait_for_warning("backup/done", "HookFailed");
    assert!(event.starts_with("hook resume: function resume"), "{event}");
    scenario.assert_exit_code("done", 0);
    scenario.wait_until("the schedule tells it, and is ready all the same", || {
        let object = scenario.object("backupschedule/nightly");
        let ready = &object["status"]["conditions"][0];
        let message = ready["message"].as_str()?;
        let column = object["status"]["display"].as_str()?;
        (ready["status"] == "True"
            && message.contains("; but hook resume: ")
            && column.starts_with("a hook failed (done), "))
        .then_some(())
    });
    assert_eq!(notes(&server, "shop"), "before after");
    scenario.apply(&restore("look", "done", "shop", "shop_then"));
    let _ = scenario.wait_for_condition("restorerequest/look", "Complete");
    assert_eq!(notes(&server, "shop_then"), "before");
    for pod in pods_of(&scenario, "done") {
        let log = scenario.kubectl(&["logs", &name_of(&pod)]);
        assert!(log.contains("resume") && !log.contains("hunter2"), "{log}");
    }
}

#[test]
fn a_hook_after_a_backup_runs_though_that_fails_or_its_pod_is_ended() {
    let scenario = Scenario::begin("hooks-after");
    let server = with_log(&scenario);
    server.sql("postgres", "create role clerk login password 'of the clerk'");
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: clerk}\nstringData: {username: clerk, password: of the clerk}\n",
    );
    // The one who reads may not write, nor read all.
    let own = "    credentialsSecretRef: {name: shop-db}\n";
    let hooks =
        format!("{own}    before:\n{}    after:\n{}", note("pause", ""), note("resume", ""));
    scenario.apply(&with_hooks("clerk", &hooks));
    scenario.apply(&backup("refused", "nightly"));
    let failed = scenario.wait_for_failure("backup/refused", "PermissionDenied", &["items"]);
    assert_eq!(told(&failed), ["pause Succeeded", "resume Succeeded"]);
    assert_eq!(notes(&server, "shop"), "pause resume");

    server.sql("postgres", "grant pg_read_all_data to clerk");
    let lock = server.begin_held("ended", "nightly");
    let pod = name_of(&pods_of(&scenario, "ended")[0]);
    scenario.kubectl(&["delete", "pod", &pod]);
    scenario.wait_until("what was switched off is on again", || {
        notes(&server, "shop").starts_with("pause resume pause resume").then_some(())
    });
    drop(lock);
    let done = scenario.wait_for_condition("backup/ended", "Complete");
    assert_eq!(told(&done), ["pause Succeeded", "resume Succeeded"]);
    assert_eq!(notes(&server, "shop"), "pause resume pause resume pause resume");
}

#[test]
fn a_hook_that_fails_before_a_backup_fails_it_before_anything_is_read() {
    let scenario = Scenario::begin("hooks-before");
    let server = with_log(&scenario);
    let refuse = "do $$ begin raise exception 'hunter2'; end $$";
    let hooks = [
        "    before:\n".to_owned(),
        format!("    - {{name: optional, database: shop, sql: \"{refuse}\", onError: Continue}}\n"),
        format!("    - {{name: pause, database: shop, sql: \"{refuse}\"}}\n"),
        note("never", ""),
        "    after:\n".to_owned(),
        note("after", ", when: OnFailure"),
    ];
    scenario.apply(&with_hooks("shop-db", &hooks.concat()));
    scenario.apply(&backup("stopped", "nightly"));
    let failed = scenario.wait_for_condition("backup/stopped", "Failed");
    assert_eq!(failed["status"]["error"]["reason"], "HookFailed", "{failed}");
    let message = failed["status"]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("hook pause: "), "{message}");
    let outcomes = ["optional Failed", "pause Failed", "never Skipped", "after Succeeded"];
    assert_eq!(told(&failed), outcomes);
    assert_eq!(failed["status"]["databases"], Value::Null);
    assert!(!failed["status"]["hooks"].to_string().contains("hunter2"));
    assert_eq!(notes(&server, "shop"), "after");
    scenario.assert_exit_code("stopped", 75);
    assert_eq!(pods_of(&scenario, "stopped").len(), 1, "not tried again");

    // A database that is not there shows before the first slot.
    let elsewhere = with_hooks("shop-db", &format!("    before:\n{}", note("there", "")))
        .replace("database: shop,", "database: nosuch,");
    scenario.apply(&elsewhere.replace("name: nightly", "name: second"));
    let (column, message) = scenario.wait_for_reason("backupschedule/second", "DatabaseNotFound");
    assert!(column.starts_with("a backup would fail: DatabaseNotFound"), "{column}");
    assert!(message.contains("hook there: "), "{message}");
}

#[test]
fn pods_run_as_their_object_says() {
    let scenario = Scenario::begin("run-as");
    let server = Server::start(&scenario);
    server.create_database("shop", 1000);
    // All that write into one volume run as the same.
    let job = "{podSecurityContext: {runAsUser: 1234, fsGroup: 3000}}";
    scenario.apply(CLAIM);
    scenario.apply(&repository(FOLDER, &format!("  job: {job}\n")));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{}", job));
    scenario.apply(&backup("done", "nightly"));
    let done = scenario.wait_for_condition("backup/done", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    let pods = pods_of(&scenario, "done");
    let context = &pods[0]["spec"]["securityContext"];
    assert_eq!((&context["runAsUser"], &context["fsGroup"]), (&1234.into(), &3000.into()));
    assert_eq!((&context["runAsGroup"], &context["runAsNonRoot"]), (&65532.into(), &true.into()));
    scenario.apply(&(restore("look", "done", "shop", "shop_then") + &format!("  job: {job}\n")));
    let _ = scenario.wait_for_condition("restorerequest/look", "Complete");
    assert_eq!(server.digest_of_items("shop_then"), server.digest_of_items("shop"));
}
