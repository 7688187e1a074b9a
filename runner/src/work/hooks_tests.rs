//! Hooks of a run, on a server of its own.

use dbbackup_contract::{
    AfterHook, BackupAction, BeforeHook, CredentialFiles, DatabaseSelection, MadeBy, Origin,
    PostgresqlAccess, RepositoryAccess, SecretFile, SqlText, TlsAccess, TlsMode, UserName,
};
use dbbackup_repository::CommitInfo;
use serde_json::json;

use super::super::backup::{SNAPSHOT_KIND, back_up};
use super::super::fixtures::{Place, SERIES};
use super::super::postgres_server::TestServer;
use super::*;

const SLOT: &str = "2026-11-20T01:15:00Z";

/// A server with a table that hooks write to.
struct Shop {
    server: TestServer,
    secrets: tempfile::TempDir,
}

impl Shop {
    fn start() -> Self {
        let server = TestServer::start(17, &[]);
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("shop", "CREATE TABLE notes (number serial, note text)");
        Self { server, secrets: tempfile::tempdir().unwrap() }
    }

    fn credentials(&self, user: &str, password: &str) -> CredentialFiles {
        std::fs::write(self.secrets.path().join(user), password).unwrap();
        let dir = self.secrets.path().display().to_string();
        CredentialFiles {
            username: UserName::Literal(user.to_owned()),
            password: Some(SecretFile::local(dir, user.to_owned())),
        }
    }

    /// All of the server, or the databases of these names.
    fn source(&self, include: &[&str]) -> Source {
        let include = include.iter().map(|name| (*name).to_owned()).collect();
        Source::Postgresql {
            access: PostgresqlAccess {
                host: "127.0.0.1".to_owned(),
                port: self.server.port,
                credentials: self.credentials("postgres", "secret"),
                tls: TlsAccess { mode: TlsMode::Prefer, ..TlsAccess::default() },
            },
            databases: DatabaseSelection { include, exclude: Vec::new() },
        }
    }

    /// What the hooks have noted, in their order.
    fn notes(&self) -> String {
        let notes = "SELECT string_agg(note, ' ' ORDER BY number) FROM notes";
        let noted = self.server.sql("shop", notes);
        self.server.sql("shop", "TRUNCATE notes");
        noted
    }
}

fn hook(name: &str, sql: &str) -> Hook {
    let (name, database) = (name.to_owned(), "shop".to_owned());
    Hook { name, database, sql: SqlText(sql.to_owned()), timeout_seconds: 60 }
}

/// One that notes its name.
fn note(name: &str) -> Hook {
    hook(name, &format!("INSERT INTO notes (note) VALUES ('{name}')"))
}

fn before(hook: Hook, on_error: HookOnError) -> BeforeHook {
    BeforeHook { hook, on_error }
}

/// One hook after each end of a backup.
fn after() -> Vec<AfterHook> {
    let all = [HookWhen::Always, HookWhen::OnSuccess, HookWhen::OnFailure];
    let after = |when| AfterHook { hook: note(&format!("{when:?}")), when };
    all.map(after).into()
}

fn outcomes(reports: &[HookReport]) -> Vec<HookOutcome> {
    reports.iter().map(|report| report.outcome).collect()
}

use HookOutcome::{Failed, Skipped, Succeeded};

#[tokio::test]
async fn hooks_run_in_their_order_and_one_that_is_needed_and_fails_ends_it() {
    let (shop, place) = (Shop::start(), Place::new().await);
    let source = shop.source(&[]);
    let broken = |name| hook(name, "INSERT INTO nosuch VALUES ('hunter2')");
    let hooks = Hooks {
        before: vec![
            before(note("one"), HookOnError::Fail),
            before(broken("two"), HookOnError::Continue),
            before(note("three"), HookOnError::Fail),
            before(broken("four"), HookOnError::Fail),
            before(note("five"), HookOnError::Fail),
        ],
        ..Hooks::default()
    };
    let told = place.order(async |order| {
        let mut run = HookRun::new(order, &source, &hooks);
        (run.before().await.unwrap_err(), run.told())
    });
    let (failure, told) = told.await;
    assert_eq!(shop.notes(), "one three");
    assert_eq!(outcomes(&told), [Succeeded, Failed, Succeeded, Failed, Skipped]);
    assert_eq!((failure.reason, failure.class), (Reason::HookFailed, ErrorClass::Fatal));
    let message = "hook four: relation \"nosuch\" does not exist, at character 13 of it \
                   (SQLSTATE 42P01)";
    assert_eq!(failure.message, message);
    let class = |index: usize| told[index].error.as_ref().unwrap().class;
    assert_eq!((class(1), class(3)), (ErrorClass::Warning, ErrorClass::Fatal));
    assert!(!format!("{told:?}").contains("hunter2"));
}

#[tokio::test]
async fn hooks_after_run_by_the_outcome_once_those_before_have_begun() {
    let (shop, place) = (Shop::start(), Place::new().await);
    let source = shop.source(&[]);
    let hooks = Hooks { after: after(), ..Hooks::default() };
    for (begun, outcome, expected, notes) in [
        (false, Outcome::Failed, [Skipped, Skipped, Skipped], ""),
        (true, Outcome::Succeeded, [Succeeded, Succeeded, Skipped], "Always OnSuccess"),
        (true, Outcome::PartiallyFailed, [Succeeded, Skipped, Succeeded], "Always OnFailure"),
        (true, Outcome::Failed, [Succeeded, Skipped, Succeeded], "Always OnFailure"),
    ] {
        let told = place.order(async |order| {
            let mut run = HookRun::new(order, &source, &hooks);
            if begun {
                run.before().await.unwrap();
            }
            run.after(outcome).await
        });
        assert_eq!(outcomes(&told.await), expected, "{begun} {outcome:?}");
        assert_eq!(shop.notes(), notes, "{begun} {outcome:?}");
    }
}

#[tokio::test]
async fn what_was_switched_off_is_switched_on_again_though_the_run_is_told_to_stop() {
    let (shop, place) = (Shop::start(), Place::new().await);
    let source = shop.source(&[]);
    let waits = hook("waits", "INSERT INTO notes (note) VALUES ('waits'); SELECT pg_sleep(50)");
    let hooks = Hooks {
        before: vec![before(waits, HookOnError::Continue)],
        after: after(),
        ..Hooks::default()
    };
    let at_it = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(50)'";
    let (ended, told) = place
        .order(async |order| {
            let mut run = HookRun::new(order, &source, &hooks);
            let stop = async {
                while shop.server.sql("postgres", at_it) == "0" {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                order.cancel.cancel();
            };
            let (ended, ()) = tokio::join!(run.before(), stop);
            (ended.unwrap_err(), run.after(Outcome::Failed).await)
        })
        .await;
    assert_eq!(ended.reason, Reason::Interrupted);
    assert_eq!(outcomes(&told), [Succeeded, Skipped, Succeeded]);
    assert_eq!(shop.notes(), "Always OnFailure");
    assert_eq!(shop.server.sql("postgres", at_it), "0", "nothing of it goes on");
}

fn action(source: Source, hooks: Hooks) -> BackupAction {
    BackupAction {
        method: dbbackup_contract::Method::Logical,
        series: SERIES.to_owned(),
        run_id: format!("run {SERIES} 1"),
        slot_time: SLOT.parse().unwrap(),
        origin: Origin {
            cluster: String::new(),
            namespace: String::new(),
            backup: "test".to_owned(),
            schedule: None,
        },
        made_by: MadeBy::Schedule,
        source,
        hooks,
    }
}

#[tokio::test]
async fn a_backup_that_fails_has_its_hooks_after_it() {
    let (shop, place) = (Shop::start(), Place::new().await);
    let hooks = || Hooks {
        before: vec![before(note("before"), HookOnError::Fail)],
        after: after(),
        ..Hooks::default()
    };
    let source = shop.source(&["nosuch"]);
    let report = place.order(async |order| back_up(order, &action(source, hooks())).await).await;
    // Not every machine has a client for this server.
    let reason = report.error.unwrap().reason;
    let clients = [Reason::ClientMissing, Reason::VersionUnsupported];
    assert!(reason == Reason::DatabaseNotFound || clients.contains(&reason), "{reason}");
    assert_eq!(outcomes(&report.hooks), [Succeeded, Succeeded, Skipped, Succeeded]);
    assert_eq!(shop.notes(), "before Always OnFailure");

    // Where nothing has begun nothing is to be ended.
    let source = shop.source(&[]);
    let report = place.order(async |order| {
        let other = Some("another one".to_owned());
        let repository = RepositoryAccess { expected_id: other, ..order.repository.clone() };
        let order = Order::by_hand(&repository, order.stall_timeout, order.board, order.cancel);
        back_up(&order, &action(source, hooks())).await
    });
    let report = report.await;
    assert_eq!(report.error.unwrap().reason, Reason::RepositoryChanged);
    assert_eq!(outcomes(&report.hooks), [Skipped; 4]);
    assert_eq!(shop.notes(), "");
}

#[tokio::test]
async fn a_retry_of_a_run_that_has_committed_has_its_hooks_after_it_and_no_other() {
    let (shop, place) = (Shop::start(), Place::new().await);
    let told = HookReport::of("before", HookStage::Before, Succeeded);
    let committed = json!({
        "outcome": "Succeeded", "startTime": SLOT, "completionTime": SLOT, "hooks": [told],
    });
    let writer = place.begin(SERIES, 1, SLOT).await;
    let info = CommitInfo::new(SNAPSHOT_KIND, json!({}), committed);
    let snapshot = writer.commit(info).await.unwrap();
    let hooks = Hooks {
        before: vec![before(note("before"), HookOnError::Fail)],
        after: after(),
        ..Hooks::default()
    };
    let source = shop.source(&[]);
    let report = place.order(async |order| back_up(order, &action(source, hooks)).await).await;
    assert_eq!(report.outcome, Outcome::Succeeded, "{:?} {}", report.error, snapshot.id());
    assert_eq!(outcomes(&report.hooks), [Succeeded, Succeeded, Succeeded, Skipped]);
    assert_eq!(shop.notes(), "Always OnSuccess");
}

#[tokio::test]
async fn hooks_have_a_role_of_their_own_and_a_look_ahead_finds_what_it_cannot_open() {
    let (shop, place) = (Shop::start(), Place::new().await);
    shop.server.sql("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'clerk'");
    shop.server.sql("postgres", "CREATE DATABASE closed");
    shop.server.sql("postgres", "REVOKE CONNECT ON DATABASE closed FROM public");
    shop.server.sql(
        "shop",
        "GRANT INSERT ON notes TO clerk; GRANT ALL ON SEQUENCE notes_number_seq TO clerk",
    );
    let source = shop.source(&[]);
    let whoami = "INSERT INTO notes (note) VALUES (current_user)";
    let elsewhere = |name, database: &str| Hook { database: database.into(), ..note(name) };
    let hooks = Hooks {
        credentials: Some(shop.credentials("clerk", "clerk")),
        before: vec![
            before(hook("who", whoami), HookOnError::Fail),
            before(elsewhere("there", "closed"), HookOnError::Fail),
        ],
        after: vec![AfterHook { hook: elsewhere("gone", "nosuch"), when: HookWhen::Always }],
    };
    let (looked, ended, after) = place
        .order(async |order| {
            let looked = look(order, &source, &hooks).await.unwrap();
            assert_eq!(shop.notes(), "", "nothing is carried out ahead");
            let mut run = HookRun::new(order, &source, &hooks);
            let ended = run.before().await.unwrap_err();
            (looked, ended, run.after(Outcome::Failed).await)
        })
        .await;
    assert_eq!(shop.notes(), "clerk");
    let (reports, first) = looked;
    let names: Vec<_> = reports.iter().map(|report| report.name.as_str()).collect();
    assert_eq!(names, ["there", "gone"]);
    assert_eq!(first, Some(ended.clone()));
    assert_eq!(ended.reason, Reason::PermissionDenied, "{ended}");
    assert!(ended.message.starts_with("hook there: "), "{ended}");
    let gone = reports[1].error.clone().unwrap();
    assert_eq!((gone.reason, gone.class), (Reason::DatabaseNotFound, ErrorClass::Warning));
    assert_eq!(after[0].error, Some(gone));
}
