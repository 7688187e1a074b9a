//! A server with a history in a repository, and a container with a server's image beside the
//! runner: a Debian system that is its root, in which the real program runs the real server.
//!
//! PostgreSQL refuses to run as root, as who the tests run: the `postgres` that the program finds
//! makes all files the server's own and becomes its user. In a pod both containers have one user.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use dbbackup_contract::{
    BackupAction, CredentialFiles, DatabaseSelection, DrillAction, DrillReport, Hooks, MadeBy,
    Method, Origin, Outcome, PostgresqlAccess, RecoverAction, RecoverReport, RecoveryPoint,
    RecoveryTimeline, SecretFile, Source, TlsAccess, TlsMode, UserName,
};
use dbbackup_postgres::{ArchiveState, ArchiveWatcher};
use jiff::Timestamp;

use super::super::super::archive::{Archiving, archive};
use super::super::super::backup::back_up;
use super::super::super::fixtures::{Place, SERIES};
use super::super::super::postgres_server::TestServer;
use super::super::drill::drill_at;
use super::super::{Places, recover_at};

/// A server, and what of it is in a repository.
pub(super) struct History {
    pub(super) server: TestServer,
    pub(super) place: Place,
    secrets: tempfile::TempDir,
    runs: AtomicU32,
}

impl History {
    /// Of a server with a database `shop`, that has a table `events`.
    pub(super) async fn begin(major: u32) -> Self {
        Self::begin_with(major, &["wal_level = replica"]).await
    }

    /// The same of a server that keeps little log.
    pub(super) async fn forgetful(major: u32) -> Self {
        let little =
            ["max_slot_wal_keep_size = 16MB", "max_wal_size = 32MB", "min_wal_size = 32MB"];
        Self::begin_with(major, &little).await
    }

    async fn begin_with(major: u32, settings: &[&str]) -> Self {
        let server = TestServer::start(major, settings);
        server.sql("postgres", "CREATE DATABASE shop");
        server.sql("shop", "CREATE TABLE events (id int PRIMARY KEY)");
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(secrets.path().join("password"), "secret").unwrap();
        Self { server, place: Place::new().await, secrets, runs: AtomicU32::new(0) }
    }

    fn access(&self) -> PostgresqlAccess {
        let dir = self.secrets.path().display().to_string();
        PostgresqlAccess {
            host: "127.0.0.1".to_owned(),
            port: self.server.port,
            credentials: CredentialFiles {
                username: UserName::Literal("postgres".to_owned()),
                password: Some(SecretFile::local(dir, "password".to_owned())),
            },
            tls: TlsAccess { mode: TlsMode::Prefer, ..TlsAccess::default() },
        }
    }

    /// Makes a base; its snapshot.
    pub(super) async fn base(&self) -> String {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let action = BackupAction {
            method: Method::Physical,
            series: SERIES.to_owned(),
            run_id: format!("6f1c-{run}"),
            slot_time: format!("2026-11-{:02}T01:15:00Z", 10 + run).parse().unwrap(),
            origin: Origin {
                cluster: String::new(),
                namespace: String::new(),
                backup: "test".to_owned(),
                schedule: None,
            },
            made_by: MadeBy::Schedule,
            source: Source::Postgresql {
                access: self.access(),
                databases: DatabaseSelection::default(),
            },
            hooks: Hooks::default(),
        };
        let report = Box::pin(self.place.order(async |order| back_up(order, &action).await)).await;
        assert_eq!(report.outcome, Outcome::Succeeded, "{report:?}");
        report.snapshot_id.unwrap()
    }

    /// Archives the log while the work goes on, and until all that it has written is kept.
    pub(super) async fn archived<T>(&self, work: impl AsyncFnOnce() -> T) -> T {
        self.archived_over(false, work).await
    }

    /// The same where log was lost, which the archiver has to say.
    async fn archived_over<T>(&self, is_lost: bool, work: impl AsyncFnOnce() -> T) -> T {
        let (access, heard) = (self.access(), Heard { is_lost, ..Heard::default() });
        let what = Archiving {
            server: &access,
            series: SERIES,
            slot: "dbbackup_test",
            max_lag: Duration::from_millis(200),
        };
        let both = self.place.order(async |order| {
            let working = async {
                let done = work().await;
                let written = self.server.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
                while !self.is_kept(&heard, &written) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                order.cancel.cancel();
                done
            };
            tokio::join!(Box::pin(archive(order, &what, &heard)), Box::pin(working))
        });
        let (ended, done) = both.await;
        ended.unwrap();
        done
    }

    fn is_kept(&self, heard: &Heard, written: &str) -> bool {
        let kept = heard.kept.lock().unwrap().clone();
        let has = format!("SELECT '{kept}'::pg_lsn >= '{written}'");
        !kept.is_empty() && self.server.sql("postgres", &has) == "t"
    }

    /// Commits a row; the server's clock behind that.
    pub(super) fn event(&self, id: u32) -> Timestamp {
        self.server.sql("shop", &format!("INSERT INTO events VALUES ({id})"));
        self.now()
    }

    pub(super) fn now(&self) -> Timestamp {
        let format = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";
        let sql = format!("SELECT to_char(clock_timestamp(), '{format}')");
        self.server.sql("postgres", &sql).parse().unwrap()
    }

    /// Recovers on a container's volume.
    pub(super) async fn recover(&self, to: &Container, action: &RecoverAction) -> RecoverReport {
        let places = to.places();
        Box::pin(self.place.order(async |order| recover_at(order, action, &places).await)).await
    }
}

impl History {
    /// Drills with a container's scratch.
    pub(super) async fn drill(&self, to: &Container, action: &DrillAction) -> DrillReport {
        let places = to.places();
        Box::pin(self.place.order(async |order| drill_at(order, action, &places).await)).await
    }

    /// Lets the server throw log away that was not archived, and archives what comes behind it.
    pub(super) async fn loses_log(&self) {
        self.server.sql("shop", "CREATE TABLE filler (text text)");
        let fill = "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 20000)";
        for _ in 0..6 {
            self.server.sql("shop", fill);
            self.server.sql("shop", "SELECT pg_switch_wal(); CHECKPOINT");
        }
        let status = "SELECT wal_status FROM pg_replication_slots";
        assert_eq!(self.server.sql("postgres", status), "lost");
        self.archived_over(true, async || _ = self.event(103)).await;
    }
}

/// Hears up to where a log is kept.
#[derive(Default)]
struct Heard {
    kept: Mutex<String>,
    /// Whether log is missing.
    is_lost: bool,
}

impl ArchiveWatcher for Heard {
    fn update(&self, state: ArchiveState) {
        *self.kept.lock().unwrap() = state.kept;
    }

    fn gap(&self, start: &str, end: &str, timeline: u32) {
        assert!(self.is_lost, "log is missing from {start} to {end} of timeline {timeline}");
    }
}

impl crate::work::LogWatcher for Heard {}

/// A request for a point.
pub(super) fn request(point: RecoveryPoint) -> RecoverAction {
    RecoverAction {
        request_uid: "0b9c-1".to_owned(),
        series: SERIES.to_owned(),
        snapshot: None,
        point,
        timeline: RecoveryTimeline::Latest,
        dry_run: false,
    }
}

pub(super) fn at(time: Timestamp) -> RecoveryPoint {
    RecoveryPoint::Time { time, inclusive: true }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The server's container: a root of its own, and a folder that has the same name in it and here.
pub(super) struct Container {
    major: u32,
    root: PathBuf,
    folder: PathBuf,
    shim: Mutex<Option<Child>>,
}

impl Container {
    pub(super) fn of(major: u32) -> Self {
        let root = TestServer::unborn(major).path("").ancestors().nth(3).unwrap().to_owned();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("/var/tmp/dbbackup-recover-{}-{number}", std::process::id());
        let container = Self { major, root, folder: folder.into(), shim: Mutex::default() };
        for name in ["volume", "server", "bin"] {
            std::fs::create_dir_all(container.inside(name)).unwrap();
        }
        symlink(container.inside(""), &container.folder).unwrap();
        std::fs::copy(shim(), container.inside("bin/dbbackup-shim")).unwrap();
        container.write_server_program();
        container
    }

    /// Where a file of the folder is, seen from here.
    fn inside(&self, name: &str) -> PathBuf {
        self.root.join(self.folder.strip_prefix("/").unwrap()).join(name)
    }

    fn write_server_program(&self) {
        let (folder, major) = (self.folder.display(), self.major);
        let script = format!(
            "#!/bin/sh\nprograms=/usr/lib/postgresql/{major}\nexport LD_LIBRARY_PATH=$programs/lib\n\
             [ \"$1\" != --version ] || exec $programs/bin/postgres --version\n\
             chown -R postgres: {folder}/volume {folder}/server\n\
             exec setpriv --reuid=postgres --regid=postgres --clear-groups $programs/bin/postgres \"$@\"\n"
        );
        let path = self.inside("bin/postgres");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// Starts its program, as the kubelet does before the runner.
    pub(super) fn start(&self) -> &Self {
        let folder = self.folder.display();
        let child = Command::new("chroot")
            .arg(&self.root)
            .args(["setpriv", "--pdeathsig=TERM", "env"])
            .arg(format!("PATH={folder}/bin:/usr/bin:/bin"))
            .arg(format!("{folder}/bin/dbbackup-shim"))
            .args(["--socket", &format!("{folder}/server/shim.sock")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        *self.shim.lock().unwrap() = Some(child);
        self
    }

    pub(super) fn places(&self) -> Places {
        let server = self.folder.join("server");
        Places { volume: self.volume(), socket: server.join("shim.sock"), server }
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.folder.join("volume")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.volume().join("pgdata")
    }

    /// What lies on the volume.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.volume()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A server that somebody starts on the volume later.
    pub(super) fn server(&self) -> TestServer {
        let server = TestServer::unborn(self.major);
        std::fs::rename(self.inside("volume/pgdata"), server.path("")).unwrap();
        server.give_to_postgres();
        server.boot();
        server
    }

    /// Whether a server runs on the volume.
    pub(super) fn has_server(&self) -> bool {
        self.data().join("postmaster.pid").exists()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(mut shim) = self.shim.lock().unwrap().take() {
            let _ = Command::new("kill").arg(shim.id().to_string()).stderr(Stdio::null()).status();
            let _ = shim.wait();
        }
        let _ = std::fs::remove_dir_all(self.inside(""));
        let _ = std::fs::remove_file(&self.folder);
    }
}

/// The program beside the server, built as these tests were.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let tests = std::env::current_exe().unwrap();
        // target/debug/deps/dbbackup_runner-…
        let folder = tests.ancestors().nth(2).unwrap();
        let is_release = folder.ends_with("release");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "dbbackup-shim", "--target-dir"]);
        cargo.arg(folder.parent().unwrap()).args(is_release.then_some("--release"));
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the program beside the server does not build");
        folder.join("dbbackup-shim")
    })
}
