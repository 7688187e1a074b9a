//! Drills by real servers: what passes, and what must not.

use dbbackup_contract::{
    Assertion, DrillAction, DrillOutcome, DrillReport, Failure, Outcome, Reason, RecoveryPoint,
};

use super::stage::{Container, History, request};

fn assertion(name: &str, database: &str, query: &str) -> Assertion {
    Assertion { name: name.to_owned(), database: database.to_owned(), query: query.to_owned() }
}

fn drill(point: RecoveryPoint, assertions: Vec<Assertion>) -> DrillAction {
    DrillAction { recovery: request(point), assertions }
}

fn passed(report: &DrillReport) {
    assert_eq!((report.outcome, &report.error), (Outcome::Succeeded, &None), "{report:?}");
}

fn failed(report: &DrillReport) -> &Failure {
    assert_eq!(report.outcome, Outcome::Failed, "{report:?}");
    report.error.as_ref().unwrap()
}

const LATEST: RecoveryPoint = RecoveryPoint::Latest {};
const BASE: RecoveryPoint = RecoveryPoint::Immediate {};

/// A base, and an event behind it.
async fn with_an_event(major: u32) -> (History, String) {
    let history = History::begin(major).await;
    let base = history.base().await;
    history.archived(async || _ = history.event(1)).await;
    (history, base)
}

async fn passes_with_all_that_was_archived(major: u32) {
    let (history, base) = with_an_event(major).await;
    let container = Container::of(major);
    let action = drill(
        LATEST,
        vec![
            assertion("has-the-event", "shop", "SELECT count(*) = 1 FROM events"),
            assertion(
                "writes-nothing",
                "shop",
                "SELECT current_setting('transaction_read_only') = 'on'",
            ),
        ],
    );
    let report = history.drill(container.start(), &action).await;
    passed(&report);
    assert_eq!(report.recovery.base.as_ref().unwrap().snapshot_id, base);
    assert_eq!(report.recovery.reached.as_ref().unwrap().timeline, 2);
    assert!(report.databases >= 3, "{report:?}");
    let outcomes: Vec<_> = report.assertions.iter().map(|it| (&*it.name, it.outcome)).collect();
    let held = DrillOutcome::Passed;
    assert_eq!(outcomes, [("has-the-event", held), ("writes-nothing", held)]);
    let times = report.durations;
    assert!(times.restoring_milliseconds > 0 && times.recovering_milliseconds > 0, "{times:?}");
    assert!(times.starting_milliseconds > 0 && times.asserting_milliseconds > 0, "{times:?}");
    assert_eq!(report.recovery_milliseconds, Some(times.until_open()));
    // The test's own clock is the server's.
    assert!(report.recovery_point_milliseconds.is_some_and(|age| age < 120_000), "{report:?}");
    assert!(!container.has_server());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_17_passes_with_all_that_was_archived() {
    passes_with_all_that_was_archived(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_13_passes_with_all_that_was_archived() {
    passes_with_all_that_was_archived(13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_the_base_alone_needs_no_log() {
    let (history, _) = with_an_event(17).await;
    let container = Container::of(17);
    let empty = assertion("not-yet", "shop", "SELECT count(*) = 0 FROM events");
    let report = history.drill(container.start(), &drill(BASE, vec![empty])).await;
    passed(&report);
    let (point, base) = (report.recovery_point_milliseconds, report.recovery.base.as_ref());
    let age = report.recovery.start_time.duration_since(base.unwrap().time.unwrap());
    assert_eq!(point, u64::try_from(age.as_millis()).ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_of_any_name_is_found() {
    let history = History::begin(17).await;
    history.server.sql("postgres", "CREATE ROLE boss SUPERUSER LOGIN");
    history.base().await;
    // At that point the role that made the base cannot log in any more.
    let locked = "ALTER ROLE postgres NOLOGIN; SELECT pg_create_restore_point('locked'); \
                  ALTER ROLE postgres LOGIN;";
    history.archived(async || _ = history.server.sql_stdin("postgres", locked)).await;
    let container = Container::of(17);
    let who = assertion("who", "shop", "SELECT current_user = 'boss'");
    let action = drill(RecoveryPoint::Name("locked".to_owned()), vec![who]);
    passed(&history.drill(container.start(), &action).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_fails_the_drill_and_the_other_assertions_are_asked_all_the_same() {
    let (history, _) = with_an_event(17).await;
    let container = Container::of(17);
    let action = drill(
        LATEST,
        vec![
            assertion("many", "shop", "SELECT count(*) > 5 FROM events"),
            assertion("no-such-table", "shop", "SELECT true FROM nothing"),
            assertion("elsewhere", "crm", "SELECT true"),
            assertion(
                "no-changes",
                "shop",
                "WITH gone AS (DELETE FROM events RETURNING 1) SELECT true FROM gone",
            ),
            assertion("one", "shop", "SELECT count(*) = 1 FROM events"),
        ],
    );
    let report = history.drill(container.start(), &action).await;
    let failure = failed(&report);
    assert_eq!(failure.reason, Reason::AssertionFailed);
    let words =
        "assertion many does not hold: it is false; nor do no-such-table, elsewhere, no-changes";
    assert_eq!(failure.message, words);
    assert!(failure.hint.contains("verification.drill.assertions"), "{failure}");
    let outcomes: Vec<_> = report.assertions.iter().map(|it| it.outcome).collect();
    let no = DrillOutcome::Failed;
    assert_eq!(outcomes, [no, no, no, no, DrillOutcome::Passed]);
    // It was recovered all the same, and how long that took is known.
    assert!(report.recovery_milliseconds.is_some());
    assert!(!container.has_server());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_of_a_damaged_backup_fails() {
    let (history, _) = with_an_event(17).await;
    for pack in files(&history.place.path().join("packs")) {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bytes).unwrap();
    }
    let container = Container::of(17);
    let report = history.drill(container.start(), &drill(LATEST, Vec::new())).await;
    assert_eq!(failed(&report).reason, Reason::RepositoryDamaged);
    assert_eq!(report.recovery_milliseconds, None);
    assert!(report.recovery.base.is_some() && !container.has_server());
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_the_log_fails_the_drill_until_there_is_a_base_behind_it() {
    let history = History::forgetful(17).await;
    history
        .archived(async || {
            history.base().await;
            history.event(1);
        })
        .await;
    history.loses_log().await;
    let container = Container::of(17);
    let action = drill(LATEST, Vec::new());
    let report = history.drill(container.start(), &action).await;
    let failure = failed(&report);
    assert_eq!(failure.reason, Reason::LogMissing, "{failure}");
    assert!(failure.message.contains("behind the newest base"), "{failure}");
    assert!(container.names().is_empty(), "nothing was written for what is of no use");

    // The base alone is there all the same.
    passed(&history.drill(&container, &drill(BASE, Vec::new())).await);
    let base = history
        .archived(async || {
            let base = history.base().await;
            history.event(104);
            base
        })
        .await;
    let report = history.drill(Container::of(17).start(), &action).await;
    passed(&report);
    assert_eq!(report.recovery.base.as_ref().unwrap().snapshot_id, base);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_image_lacks_a_library_fails_the_drill() {
    let history = History::begin(17).await;
    history.server.sql("postgres", "ALTER SYSTEM SET shared_preload_libraries = 'no_such_library'");
    history.base().await;
    let container = Container::of(17);
    let report = history.drill(container.start(), &drill(BASE, Vec::new())).await;
    let failure = failed(&report);
    assert_eq!(failure.reason, Reason::ServerImageUnsuitable, "{failure}");
    assert!(failure.hint.contains("verification.drill.image"), "{failure}");
}
