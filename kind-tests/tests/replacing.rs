//! Restores that take the place of a live database: planned, approved, carried out once, and
//! undone.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, restore, schedule};
use serde_json::Value;

/// A server whose shop was backed up, and has a row more since.
fn changed_shop(scenario: &Scenario) -> Server<'_> {
    let server = Server::start(scenario);
    server.create_database("shop", 2000);
    create_repository(scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let done = scenario.wait_for_condition("backup/done", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    server.sql("shop", "insert into items values (-1, 'newer than the backup', 0)");
    server
}

/// YAML of a restore of the shop in its own place; `more` are further lines of its spec.
fn replace(name: &str, strategy: &str, more: &str) -> String {
    restore(name, "done", "shop", "shop")
        + &format!("  strategy: {strategy}\n  validUntil: \"2099-01-01T00:00:00Z\"\n{more}")
}

fn rows(server: &Server<'_>, database: &str) -> String {
    server.sql(database, "select count(*) from items")
}

fn patch(scenario: &Scenario, name: &str, spec: &str) {
    let patch = format!("{{\"spec\": {spec}}}");
    scenario.kubectl(&["patch", "restorerequest", name, "--type=merge", "--patch", &patch]);
}

/// The request once its status speaks of the present generation, and of these words.
fn wait_for_words(scenario: &Scenario, name: &str, words: &str) -> Value {
    scenario.wait_until(&format!("restorerequest/{name} says: {words}"), || {
        let object = scenario.object(&format!("restorerequest/{name}"));
        let current = object["metadata"]["generation"] == object["status"]["observedGeneration"];
        let display = object["status"]["display"].as_str().unwrap_or_default();
        (current && display.contains(words)).then_some(object)
    })
}

#[test]
fn a_swap_is_planned_approved_carried_out_once_and_undone() {
    let scenario = Scenario::begin("swap");
    let server = changed_shop(&scenario);
    let more = "  swap: {terminateSessions: true}\n  dryRun: true\n";
    scenario.apply(&replace("back", "Swap", more));
    let planned = scenario.wait_for_condition("restorerequest/back", "Ready");
    assert_eq!(planned["status"]["phase"], "AwaitingApproval");
    assert_eq!(planned["status"]["display"], "planned: replaces shop");
    let plan = &planned["status"]["plan"];
    let replaced = &plan["databases"][0];
    assert_eq!(replaced["action"], "Replace", "{plan}");
    let kept = replaced["replaces"]["keptAs"].as_str().unwrap().to_owned();
    assert_eq!((rows(&server, "shop").as_str(), server.has_database(&kept)), ("2001", false));

    // Nothing but the plan's own approval goes on, and nothing else can be changed.
    patch(&scenario, "back", "{\"dryRun\": false}");
    wait_for_words(&scenario, "back", "planned: replaces shop");
    let other = format!("{{\"approvedPlan\": \"sha256:{}\"}}", "0".repeat(64));
    patch(&scenario, "back", &other);
    let waiting = wait_for_words(&scenario, "back", "and the plan is sha256:");
    assert_eq!(waiting["status"]["error"]["reason"], "PlanChanged");
    // Git says what it said before.
    scenario.apply(&replace("back", "Swap", more));
    for change in ["{\"strategy\": \"Overwrite\"}", "{\"databases\": []}"] {
        let patch = format!("{{\"spec\": {change}}}");
        let arguments = ["patch", "restorerequest", "back", "--type=merge", "--patch", &patch];
        scenario.try_kubectl(&arguments).unwrap_err();
    }
    assert_eq!(rows(&server, "shop"), "2001");

    let approval = format!("{{\"approvedPlan\": {}}}", plan["digest"]);
    patch(&scenario, "back", &approval);
    let done = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    let database = &done["status"]["databases"][0];
    assert_eq!(database["keptAs"], kept.as_str());
    assert_eq!((rows(&server, "shop").as_str(), rows(&server, &kept).as_str()), ("2000", "2001"));
    assert_eq!(server.scratch_databases(), "");

    // Git, or a cluster that was restored, creates it once more.
    server.sql("shop", "insert into items values (-2, 'after the restore', 0)");
    scenario.kubectl(&["delete", "restorerequest", "back"]);
    scenario.apply(&replace("back", "Swap", "  swap: {terminateSessions: true}\n"));
    let again = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(again["status"]["phase"], "AlreadyCarriedOut");
    assert_eq!(rows(&server, "shop"), "2001");

    for statement in database["undo"].as_str().unwrap().split_inclusive(';') {
        let statement = statement.trim();
        if statement.starts_with("ALTER") {
            server.sql("postgres", statement);
        }
    }
    let newer = "select count(*) from items where id = -1";
    assert_eq!(server.sql("shop", newer), "1");
}

#[test]
fn a_plan_that_is_another_one_by_now_is_shown_and_not_carried_out() {
    let scenario = Scenario::begin("changed-plan");
    let server = changed_shop(&scenario);
    scenario.apply(&replace("back", "Swap", "  dryRun: true\n"));
    let planned = scenario.wait_for_condition("restorerequest/back", "Ready");
    // Somebody else was quicker: another database stands there.
    server.sql("postgres", "alter database shop rename to aside");
    server.create_database("shop", 7);
    let digest = &planned["status"]["plan"]["digest"];
    patch(&scenario, "back", &format!("{{\"approvedPlan\": {digest}}}"));
    let changed = wait_for_words(&scenario, "back", "and the plan is sha256:");
    assert_eq!(changed["status"]["error"]["reason"], "PlanChanged");
    assert_eq!(changed["status"]["phase"], "AwaitingApproval");
    let new = &changed["status"]["plan"]["digest"];
    assert_ne!(new, digest);
    assert_eq!((rows(&server, "shop").as_str(), rows(&server, "aside").as_str()), ("7", "2001"));
    patch(&scenario, "back", &format!("{{\"approvedPlan\": {new}}}"));
    let done = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(rows(&server, "shop"), "2000");
}

#[test]
fn a_swap_waits_no_longer_for_who_uses_the_database_than_it_was_told() {
    let scenario = Scenario::begin("in-use");
    let server = changed_shop(&scenario);
    let session = server.lock_table("shop", "items");
    scenario.apply(&replace("back", "Swap", "  swap: {lockTimeout: 2s}\n"));
    scenario.wait_for_failure(
        "restorerequest/back",
        "DatabaseInUse",
        &["database shop is in use", "terminateSessions"],
    );
    drop(session);
    assert_eq!(rows(&server, "shop"), "2001");
    assert_eq!(server.scratch_databases(), "");
}

#[test]
fn what_destroys_is_refused_where_it_is_late_or_was_said_but_once() {
    let scenario = Scenario::begin("late");
    let server = changed_shop(&scenario);
    let swap =
        |more: &str| restore("refused", "done", "shop", "shop") + "  strategy: Swap\n" + more;
    for (yaml, words) in [
        (swap(""), "need validUntil"),
        (replace("refused", "Overwrite", ""), "confirm repeats the name"),
        (replace("refused", "Swap", "  confirm: [shop]\n"), "confirm repeats the name"),
        (replace("refused", "CreateNew", "  swap: {}\n"), "swap is of strategy"),
    ] {
        let refused = scenario.try_apply(&yaml).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let late = swap("  validUntil: \"2020-01-01T00:00:00Z\"\n").replace("refused", "late");
    scenario.apply(&late);
    let expired = scenario.wait_for_condition("restorerequest/late", "Failed");
    assert_eq!(expired["status"]["phase"], "Expired");
    assert_eq!(expired["status"]["error"]["reason"], "RequestExpired");
    scenario.apply(&replace("unsure", "Overwrite", "  confirm: [shop_old]\n"));
    scenario.wait_for_failure("restorerequest/unsure", "InvalidSpec", &["confirm lacks shop"]);
    assert_eq!(rows(&server, "shop"), "2001");
    assert!(scenario.objects("jobs", "").iter().all(|job| {
        let owner = &job["metadata"]["ownerReferences"][0]["kind"];
        owner != "RestoreRequest"
    }));

    let asking = |query: &str| {
        let assertion = format!("{{name: rows, database: shop, query: \"{query}\"}}");
        format!("  confirm: [shop]\n  assertions: [{assertion}]\n")
    };
    let wrong = asking("select count(*) = 2001 from items");
    scenario.apply(&replace("wrong", "Overwrite", &wrong));
    scenario.wait_for_failure("restorerequest/wrong", "AssertionFailed", &["assertion rows"]);
    assert_eq!(rows(&server, "shop"), "2001");
    assert_eq!(server.scratch_databases(), "");

    let right = asking("select count(*) = 2000 from items");
    scenario.apply(&replace("sure", "Overwrite", &right));
    let done = scenario.wait_for_condition("restorerequest/sure", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(rows(&server, "shop"), "2000");
    assert_eq!(server.scratch_databases(), "");
}
