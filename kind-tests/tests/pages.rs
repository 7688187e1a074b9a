//! What a person sees with `kubectl` in typical situations: docs/kubectl.md, written from a
//! real cluster by `make kubectl-page`, and compared with it here.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

mod page;

use dbbackup_kind_tests::{
    CLAIM, FOLDER, Scenario, Server, backup, create_repository, repository, restore, schedule,
};
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

use page::{Page, conditions_and_events};

/// The file, in the project.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubectl.md");

#[test]
fn the_page_shows_what_kubectl_shows() {
    let mut page = Page::default();
    let fine = Scenario::begin("page-fine");
    let server = Server::start(&fine);
    server.create_database("shop", 2000);
    server.create_database("crm", 100);
    create_repository(&fine);
    all_is_well(&mut page, &fine);
    a_backup_waits_and_runs(&mut page, &fine, &server);
    databases_are_left_out(&mut page, &fine, &server);
    a_secret_is_missing(&mut page, &fine);
    a_restore_is_refused(&mut page, &fine);
    a_swap_from_plan_to_undo(&mut page, &fine);
    a_schedule_that_would_fail(&mut page, &fine);
    a_repository_with_another_key(&mut page, &fine);
    a_claim_that_is_not_there(&mut page);
    maintenance_asks_first(&mut page);
    explained(&mut page, &fine);
    page.compare_or_write(FILE, "DBBACKUP_WRITE_PAGE");
}

/// YAML of a schedule of the given databases in the file's scenarios.
fn nightly(databases: &str) -> String {
    schedule("nightly", "shop-db", databases, "{}").replace("0 0 1 1 *", "15 3 * * *")
}

fn wait_for_display(scenario: &Scenario, what: &str, words: &str) -> Value {
    scenario.wait_until(&format!("{what} says {words}"), || {
        let object = scenario.object(what);
        let current = object["metadata"]["generation"] == object["status"]["observedGeneration"];
        let display = object["status"]["display"].as_str().unwrap_or_default();
        (current && display.contains(words)).then_some(object)
    })
}

fn all_is_well(page: &mut Page, scenario: &Scenario) {
    scenario.apply(&nightly("{include: [shop, crm]}"));
    let _ = scenario.wait_for_condition("backupschedule/nightly", "Ready");
    scenario.apply(&backup("first", "nightly"));
    let _ = scenario.wait_for_condition("backup/first", "Complete");
    scenario.apply(&restore("look", "first", "shop", "shop_as_it_was"));
    let _ = scenario.wait_for_condition("restorerequest/look", "Complete");
    wait_for_display(scenario, "backupschedule/nightly", "last ok");
    page.section(
        "All is well",
        "One line for each object; `STATUS` says in words whether it is fine.",
    );
    page.kubectl(scenario, &["get", "dbbackup"]);
    page.text("A backup, its databases, and what happened:");
    page.describe(scenario, "dbb/first", "Status:");
    page.text("A schedule that is `Ready` has been tried: a backup would work.");
    page.shown(scenario, &["describe", "dbbs/nightly"], conditions_and_events);
}

fn a_backup_waits_and_runs(page: &mut Page, scenario: &Scenario, server: &Server<'_>) {
    let limit = |limit: &str| {
        let patch = format!("{{\"spec\": {{\"maxConcurrentJobs\": {limit}}}}}");
        scenario.kubectl(&["patch", "dbbr", "main", "--type=merge", "--patch", &patch]);
    };
    limit("1");
    let lock = server.begin_held("running", "nightly");
    scenario.apply(&backup("waiting", "nightly"));
    wait_for_display(scenario, "backup/waiting", "maxConcurrentJobs");
    wait_for_display(scenario, "backup/running", " of ");
    page.section("A backup runs, another one waits for its turn", "");
    page.kubectl(scenario, &["get", "dbb/running", "dbb/waiting"]);
    drop(lock);
    for name in ["running", "waiting"] {
        let _ = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
    }
    limit("null");
}

fn databases_are_left_out(page: &mut Page, scenario: &Scenario, server: &Server<'_>) {
    server.sql("postgres", "create role clerk login password 'of the clerk'");
    server.sql("shop", "grant select on all tables in schema public to clerk");
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: clerk}\nstringData: {username: clerk, password: of the clerk}\n",
    );
    let clerks = schedule("clerks", "clerk", "{include: [shop, crm]}", "{}");
    scenario.apply(&clerks.replace("0 0 1 1 *", "45 3 * * *"));
    scenario.apply(&backup("partly", "clerks"));
    let _ = scenario.wait_for_condition("backup/partly", "Failed");
    wait_for_display(scenario, "backupschedule/clerks", "(partly), a backup would fail");
    page.section(
        "A database could not be backed up",
        "The others are in the snapshot. It is no success, and nobody calls it one.",
    );
    page.kubectl(scenario, &["get", "dbb/partly"]);
    page.kubectl(scenario, &["get", "dbbs/clerks"]);
    page.shown(scenario, &["describe", "dbb/partly"], conditions_and_events);
    scenario.kubectl(&["delete", "dbbs/clerks"]);
}

fn a_secret_is_missing(page: &mut Page, scenario: &Scenario) {
    let forgotten = schedule("forgotten", "no-such-secret", "{}", "{}");
    scenario.apply(&forgotten.replace("0 0 1 1 *", "30 3 * * *"));
    scenario.apply(&backup("no-secret", "forgotten"));
    let _ = scenario.wait_for_condition("backup/no-secret", "Failed");
    page.section("A secret is missing", "Said at once; no pod hangs.");
    page.kubectl(scenario, &["get", "dbb/no-secret"]);
    page.shown(scenario, &["describe", "dbb/no-secret"], conditions_and_events);
    scenario.kubectl(&["delete", "dbbs/forgotten"]);
}

fn a_restore_is_refused(page: &mut Page, scenario: &Scenario) {
    scenario.apply(&restore("careless", "first", "shop", "shop"));
    let _ = scenario.wait_for_condition("restorerequest/careless", "Failed");
    page.section("A restore is refused, since the database exists", "Nothing was touched.");
    page.kubectl(scenario, &["get", "dbrr/careless"]);
    page.shown(scenario, &["describe", "dbrr/careless"], conditions_and_events);
}

fn a_swap_from_plan_to_undo(page: &mut Page, scenario: &Scenario) {
    let swap = |name: &str, until: &str, more: &str| {
        restore(name, "first", "shop", "shop")
            + &format!("  strategy: Swap\n  validUntil: \"{until}\"\n{more}")
    };
    let valid = "2099-01-01T00:00:00Z";
    scenario.apply(&swap("shop-back", valid, "  dryRun: true\n"));
    let planned = scenario.wait_for_condition("restorerequest/shop-back", "Ready");
    page.section("A restore in the place of a live database", "First the plan:");
    page.kubectl(scenario, &["get", "dbrr/shop-back"]);
    page.kubectl(scenario, &["get", "dbrr/shop-back", "--output=jsonpath-as-json={.status.plan}"]);
    page.text(
        "When it was approved and carried out (`approvedPlan`), the statements that undo it:",
    );
    let digest = planned["status"]["plan"]["digest"].as_str().unwrap();
    let approval = format!("{{\"spec\": {{\"approvedPlan\": \"{digest}\"}}}}");
    scenario.kubectl(&["patch", "dbrr", "shop-back", "--type=merge", "--patch", &approval]);
    let _ = scenario.wait_for_condition("restorerequest/shop-back", "Complete");
    page.kubectl(scenario, &["get", "dbrr/shop-back"]);
    page.kubectl(
        scenario,
        &["get", "dbrr/shop-back", "--output=jsonpath={.status.databases[*].undo}"],
    );
    page.text("Git creates it again, and something else that is too late:");
    scenario.kubectl(&["delete", "dbrr", "shop-back"]);
    scenario.apply(&swap("shop-back", valid, ""));
    scenario.apply(&swap("too-late", "2020-01-01T00:00:00Z", ""));
    let _ = scenario.wait_for_condition("restorerequest/shop-back", "Complete");
    let _ = scenario.wait_for_condition("restorerequest/too-late", "Failed");
    page.kubectl(scenario, &["get", "dbrr/shop-back", "dbrr/too-late"]);
}

fn a_schedule_that_would_fail(page: &mut Page, scenario: &Scenario) {
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: shop-db}\ntype: kubernetes.io/basic-auth\nstringData: {username: postgres, password: wrong}\n",
    );
    scenario.apply(&nightly("{include: [shop]}"));
    wait_for_display(scenario, "backupschedule/nightly", "WrongPassword");
    page.section(
        "A password was changed, and the schedule does not know",
        "Each spec is tried at once, and daily: it shows now, and not at a quarter past three.",
    );
    page.kubectl(scenario, &["get", "dbbs/nightly"]);
    page.shown(scenario, &["describe", "dbbs/nightly"], conditions_and_events);
}

fn a_repository_with_another_key(page: &mut Page, scenario: &Scenario) {
    let other = repository(FOLDER, "")
        .replace("name: main", "name: other")
        .replace("name: backup-key", "name: other-key")
        .replace("correct horse battery staple", "not this one");
    scenario.apply(&other);
    wait_for_display(scenario, "backuprepository/other", "WrongKey");
    page.section("The key does not open the repository", "");
    page.kubectl(scenario, &["get", "dbbr/other"]);
    page.shown(scenario, &["describe", "dbbr/other"], conditions_and_events);
}

fn a_claim_that_is_not_there(page: &mut Page) {
    let scenario = Scenario::begin("page-claim");
    scenario.apply(&repository(FOLDER, ""));
    wait_for_display(&scenario, "backuprepository/main", "backups");
    page.section(
        "A pod cannot start",
        "What keeps it from starting is told while it waits: a claim, an image, a quota, no room on any node.",
    );
    page.kubectl(&scenario, &["get", "dbbr"]);
    page.shown(&scenario, &["describe", "dbbr/main"], conditions_and_events);
}

fn maintenance_asks_first(page: &mut Page) {
    let scenario = Scenario::begin("page-maintenance");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    scenario.apply(CLAIM);
    let each_minute = "  maintenance: {schedule: \"* * * * *\", maxDeletePercent: 10}\n";
    scenario.apply(&repository(FOLDER, each_minute));
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    let keeping = nightly("{include: [shop]}");
    scenario.apply(&keeping.replace("  job: {}", "  retention: {keepLast: 1}\n  job: {}"));
    for (name, hours) in [("older", 2), ("newer", 1)] {
        let slot = Timestamp::now() - hours.hours();
        scenario.apply(&format!(
            "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata:\n  name: {name}\n  \
             annotations: {{dbbackup.dev/slot: \"{slot}\"}}\nspec: {{scheduleRef: {{name: nightly}}}}\n"
        ));
    }
    for name in ["older", "newer"] {
        let _ = scenario.wait_for_condition(&format!("backup/{name}"), "Complete");
    }
    wait_for_display(&scenario, "backuprepository/main", "TooMuchToDelete");
    page.section(
        "Maintenance would delete too much",
        "It deletes nothing, says how much and why, and waits for the plan's approval.",
    );
    page.kubectl(&scenario, &["get", "dbbr"]);
    page.shown(&scenario, &["describe", "dbbr/main"], conditions_and_events);
}

fn explained(page: &mut Page, scenario: &Scenario) {
    page.section("Every field explains itself", "");
    for field in [
        "backuprepository.spec.encryption",
        "backupschedule.spec.schedule",
        "backup.spec.pinned",
        "restorerequest.spec.strategy",
    ] {
        page.kubectl(scenario, &["explain", field]);
    }
}
