//! Whoever keeps the bank's server: an archiver that is begun again whenever it ends, and backups,
//! by the program as people call it.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::MAJOR;
use crate::checker::{Lsn, Target};
use crate::s3_server::{ACCESS_KEY, Kind, SECRET_KEY, Server};
use crate::server::TestServer;
use crate::support::{Place, signal_to, write_secret};

const SERIES: &str = "bank";
const BUCKET: &str = "backups";
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Keeper {
    calls: Arc<Calls>,
    /// Where the repository is.
    pub(crate) store: Server,
    archiver: Arc<AtomicU32>,
    /// Newest position that the server heard to be durable.
    durable: Arc<Mutex<Lsn>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How the program is called.
struct Calls {
    place: Place,
    endpoint: String,
    address: String,
}

impl Calls {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.command(words);
        command.args(["--s3-endpoint", &self.endpoint, "--s3-path-style", "--s3-credentials-dir"]);
        command.arg(self.place.folder.path());
        command
    }

    /// A command that reads the server.
    fn on_server(&self, word: &str, more: &[&str]) -> Child {
        let mut command = self.command(&[word, &self.address]);
        command.args(more).args(["--series", SERIES, "--tls", "disable", "--password-file"]);
        command.arg(self.place.path("password")).stdout(Stdio::null()).spawn().unwrap()
    }

    fn well(&self, words: &[&str]) -> Vec<u8> {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Keeper {
    pub(crate) fn begin(server: &TestServer) -> Self {
        let store = Server::start(Kind::Versity);
        store.make_folder(BUCKET);
        let place = Place::at_address(tempfile::tempdir().unwrap(), format!("s3://{BUCKET}/bank"));
        for (name, secret) in
            [("password", "secret"), ("accessKeyId", ACCESS_KEY), ("secretAccessKey", SECRET_KEY)]
        {
            write_secret(&place.path(name), secret.as_bytes());
        }
        let address = format!("postgresql://postgres@127.0.0.1:{}", server.port);
        let calls = Calls { place, endpoint: store.endpoint(), address };
        calls.well(&["init"]);
        let mut keeper = Self {
            calls: Arc::new(calls),
            store,
            archiver: Arc::default(),
            durable: Arc::default(),
            ended: Arc::default(),
            threads: Vec::new(),
        };
        keeper.threads.push(keeper.archive());
        keeper.threads.push(keeper.watch(server));
        keeper
    }

    /// Begins it again as soon as it has ended, as the operator does after a pause.
    fn archive(&self) -> JoinHandle<()> {
        let calls = Arc::clone(&self.calls);
        let (ended, id) = (Arc::clone(&self.ended), Arc::clone(&self.archiver));
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let child = calls.on_server("archive", &["--max-lag", "200ms"]);
                id.store(child.id(), Ordering::Relaxed);
                let output = child.wait_with_output().unwrap();
                id.store(0, Ordering::Relaxed);
                let said = String::from_utf8_lossy(&output.stderr);
                // Where its server went it says so; nothing of its own may be wrong.
                for wrong in ["panicked", "(RepositoryDamaged)", "(DataCorrupted)", "(Internal)"] {
                    assert!(!said.contains(wrong), "{said}");
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        })
    }

    fn watch(&self, server: &TestServer) -> JoinHandle<()> {
        let (durable, ended) = (Arc::clone(&self.durable), Arc::clone(&self.ended));
        let mut psql = server.client("psql", "postgres");
        let sql = "SELECT flush_lsn FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid \
                   WHERE slot_name LIKE 'dbbackup%' AND NOT temporary";
        psql.args(["-X", "-q", "-A", "-t", "-c", sql]).stderr(Stdio::null());
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let output = psql.output().unwrap();
                if let Ok(lsn) = String::from_utf8_lossy(&output.stdout).parse::<Lsn>() {
                    let mut durable = durable.lock().unwrap();
                    *durable = lsn.max(*durable);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    }

    /// Up to where the log is durable: what was told, whatever became of who has told it.
    pub(crate) fn durable(&self) -> Lsn {
        *self.durable.lock().unwrap()
    }

    /// Waits until there is one.
    pub(crate) fn kill_archiver(&self, signal: &str) {
        let started = Instant::now();
        loop {
            match self.archiver.load(Ordering::Relaxed) {
                0 => std::thread::sleep(Duration::from_millis(20)),
                id => return signal_to(id, signal.trim_start_matches('-')),
            }
            assert!(started.elapsed() < LIMIT, "no archiver comes up");
        }
    }

    /// Begins a base.
    pub(crate) fn back_up(&self) -> Run {
        Run(Some(self.calls.on_server("backup", &["--method", "physical"])))
    }

    /// The bases and where each is consistent, oldest first.
    fn bases(&self) -> Vec<(String, Lsn)> {
        let said = self.calls.well(&["snapshots", "--json"]);
        let listed: Vec<serde_json::Value> = serde_json::from_slice(&said).unwrap();
        let base = |snapshot: &serde_json::Value| {
            let lsn = snapshot["report"]["position"]["lsn"].as_str().unwrap().parse().unwrap();
            (snapshot["id"].as_str().unwrap().to_owned(), lsn)
        };
        let mut bases: Vec<_> = listed.iter().map(base).collect();
        bases.sort_by_key(|(_, lsn)| *lsn);
        bases
    }

    pub(crate) fn oldest_base(&self) -> Lsn {
        self.bases().first().unwrap().1
    }

    /// A server that was recovered to a target, from the newest base before the last move that
    /// it has to hold.
    pub(crate) fn recover(&self, target: &Target, last: Lsn) -> TestServer {
        let base = self.bases().into_iter().rev().find(|(_, lsn)| *lsn < last).unwrap().0;
        let recovered = TestServer::unborn(MAJOR);
        let data = recovered.path("").to_str().unwrap().to_owned();
        let mut arguments = vec!["recover".to_owned(), base, "--data-dir".to_owned(), data];
        let (flag, value, inclusive) = match target {
            Target::Latest { .. } => ("--target-latest", None, true),
            Target::Time(time, inclusive) => ("--target-time", Some(time.to_string()), *inclusive),
            Target::Position(lsn, inclusive) => ("--target-lsn", Some(lsn.to_string()), *inclusive),
            Target::Transaction(xid, inclusive) => {
                ("--target-xid", Some(xid.to_string()), *inclusive)
            }
            Target::Name(name, _) => ("--target-name", Some(name.clone()), true),
        };
        arguments.push(flag.to_owned());
        arguments.extend(value);
        arguments.extend((!inclusive).then(|| "--exclusive".to_owned()));
        let words: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.calls.well(&words);
        recovered.give_to_postgres();
        recovered.boot();
        let started = Instant::now();
        while recovered.sql("postgres", "SELECT pg_is_in_recovery()") == "t" {
            assert!(started.elapsed() < LIMIT, "{target:?}: {}", recovered.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        recovered
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let id = self.archiver.load(Ordering::Relaxed);
        if id != 0 {
            signal_to(id, "KILL");
        }
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "a thread has found something wrong"
            );
        }
    }
}

/// A backup under way.
pub(crate) struct Run(Option<Child>);

impl Run {
    pub(crate) fn kill(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
        }
    }

    /// Until it has ended, however.
    pub(crate) fn wait(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.wait().unwrap();
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}
