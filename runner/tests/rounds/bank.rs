//! A bank: clients that move money between accounts, and write down what was acknowledged.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::chance::Chance;
use crate::checker::Lsn;
use crate::server::TestServer;

pub(crate) const DATABASE: &str = "bank";
pub(crate) const ACCOUNTS: u64 = 300;
/// What each account begins with.
pub(crate) const START: i64 = 1000;
const CLIENTS: u32 = 3;
const BETWEEN_MOVES: Duration = Duration::from_millis(3);

/// A move: which client's, and which of it.
pub(crate) type Move = (u32, u32);

pub(crate) struct Bank {
    acknowledged: Arc<Mutex<BTreeSet<Move>>>,
    /// Held by whoever wants no moves; read by each client for as long as a move takes.
    gate: Arc<RwLock<()>>,
    paused: Arc<AtomicBool>,
    names: Vec<(String, Lsn)>,
    ended: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Bank {
    pub(crate) fn open(server: &TestServer) -> Self {
        server.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
        server.sql(
            DATABASE,
            &format!(
                "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint, filler text);
                 INSERT INTO accounts SELECT g, {START}, repeat(md5(g::text), 20) FROM generate_series(1, {ACCOUNTS}) g;
                 CREATE TABLE moves (client int, number int, a int, b int, amount int,
                     xid text DEFAULT pg_current_xact_id()::text, PRIMARY KEY (client, number))"
            ),
        );
        let mut bank = Self {
            acknowledged: Arc::default(),
            gate: Arc::default(),
            paused: Arc::default(),
            names: Vec::new(),
            ended: Arc::default(),
            clients: Vec::new(),
        };
        for number in 0..CLIENTS {
            let mut psql = server.client("psql", DATABASE);
            // What is sent behind a statement that failed shall not be carried out.
            psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
            psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut client = Client {
                number,
                moves: 0,
                chance: Chance::of(u64::from(number) + 1),
                session: None,
                psql,
            };
            let (acknowledged, gate) = (Arc::clone(&bank.acknowledged), Arc::clone(&bank.gate));
            let (paused, ended) = (Arc::clone(&bank.paused), Arc::clone(&bank.ended));
            bank.clients.push(std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    std::thread::sleep(BETWEEN_MOVES);
                    if paused.load(Ordering::Relaxed) {
                        continue;
                    }
                    let _open = gate.read().unwrap();
                    if let Some(done) = client.make_move() {
                        acknowledged.lock().unwrap().insert(done);
                    }
                }
            }));
        }
        bank
    }

    /// How many moves were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    pub(crate) fn all_acknowledged(&self) -> BTreeSet<Move> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Names the moment.
    pub(crate) fn name(&mut self, server: &TestServer, name: &str) {
        let lsn = server.sql("postgres", &format!("SELECT pg_create_restore_point('{name}')"));
        self.names.push((name.to_owned(), lsn.parse().unwrap()));
    }

    pub(crate) fn names(&self) -> &[(String, Lsn)] {
        &self.names
    }

    /// Returns when no move is under way.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        drop(self.gate.write().unwrap());
    }

    pub(crate) fn go_on(&self) {
        self.paused.store(false, Ordering::Relaxed);
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

struct Client {
    number: u32,
    moves: u32,
    chance: Chance,
    session: Option<Session>,
    psql: Command,
}

struct Session {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Client {
    /// Tries one; `None` where nobody knows what became of it.
    fn make_move(&mut self) -> Option<Move> {
        self.moves += 1;
        let (client, number) = (self.number, self.moves);
        let a = 1 + self.chance.below(ACCOUNTS - 1);
        let b = a + 1 + self.chance.below(ACCOUNTS - a);
        let amount = self.chance.below(100) as i64 - 50;
        // Always the lower account first: nobody waits for each other for ever.
        let sql = format!(
            "BEGIN; UPDATE accounts SET balance = balance - {amount} WHERE id = {a}; \
             UPDATE accounts SET balance = balance + {amount} WHERE id = {b}; \
             INSERT INTO moves VALUES ({client}, {number}, {a}, {b}, {amount}); COMMIT; SELECT 'done {number}';\n"
        );
        let said = self.session()?.ask(&sql);
        if said.as_deref() == Some(&format!("done {number}")) {
            return Some((client, number));
        }
        self.session = None;
        None
    }

    fn session(&mut self) -> Option<&mut Session> {
        if self.session.is_none() {
            let mut child = self.psql.spawn().ok()?;
            let (to, from) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
            self.session = Some(Session { child, to, from });
        }
        self.session.as_mut()
    }
}

impl Session {
    /// The last line that it says; `None` where it has ended.
    fn ask(&mut self, sql: &str) -> Option<String> {
        self.to.write_all(sql.as_bytes()).ok()?;
        self.to.flush().ok()?;
        let mut line = String::new();
        (self.from.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
