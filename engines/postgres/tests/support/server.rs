//! A PostgreSQL server of its own for each test: started from a copied
//! cluster, ended by its own id when dropped, however the test ends.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::TESTS;
use super::nasty::for_major;
use super::same::comparable;

const LIMIT: Duration = Duration::from_secs(60);
/// Settings by which every server writes the same text.
const COMPARABLE: &str = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres \
    -c bytea_output=hex -c lc_monetary=C -c array_nulls=on -c quote_all_identifiers=off";
static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct TestServer {
    pub major: u32,
    pub port: u16,
    root: PathBuf,
    /// The cluster's folder, inside the root.
    data: String,
    process: Arc<Mutex<Option<Child>>>,
}

/// The Debian system with that major's server; made where it is missing.
fn rootfs(major: u32) -> PathBuf {
    static ROOTS: OnceLock<Mutex<std::collections::BTreeMap<u32, PathBuf>>> = OnceLock::new();
    let mut roots = ROOTS.get_or_init(Default::default).lock().unwrap();
    roots
        .entry(major)
        .or_insert_with(|| {
            let script = format!("{TESTS}/support/postgres-rootfs");
            let output =
                Command::new(&script).arg(major.to_string()).stderr(Stdio::inherit()).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{script} {major} failed");
            String::from_utf8(output.stdout).unwrap().trim().into()
        })
        .clone()
}

/// Where Debian's client programs of `major` are: `<major>/bin/pg_dump` and its siblings.
pub fn debian_clients(major: u32) -> PathBuf {
    rootfs(major).join("dbbackup-clients")
}

impl TestServer {
    /// Starts a server of PostgreSQL `major`; `settings` are lines of `postgresql.conf`.
    pub fn start(major: u32, settings: &[&str]) -> Self {
        let root = rootfs(major);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let data = format!("/var/tmp/dbbackup-{}-{number}", std::process::id());
        let server = Self { major, port: free_port(), root, data, process: Arc::default() };
        server.chroot("cp", &["-a", "/var/lib/dbbackup/template", &server.data]);
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            "unix_socket_directories = ''".to_owned(),
            "dynamic_shared_memory_type = mmap".to_owned(),
            "fsync = off".to_owned(),
            "shared_buffers = 32MB".to_owned(),
            "max_connections = 40".to_owned(),
            "timezone = 'UTC'".to_owned(),
        ];
        lines.extend(settings.iter().map(|line| (*line).to_owned()));
        server.append("postgresql.conf", &(lines.join("\n") + "\n"));
        server.boot();
        server
    }

    /// A server of which the data folder is yet to come, to [`TestServer::path`].
    pub fn unborn(major: u32) -> Self {
        let root = rootfs(major);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let data = format!("/var/tmp/dbbackup-{}-{number}", std::process::id());
        Self { major, port: free_port(), root, data, process: Arc::default() }
    }

    /// Makes all files its own.
    pub fn give_to_postgres(&self) {
        self.chroot("chown", &["-R", "postgres:", &self.data]);
    }

    /// A folder beside the data, inside of the root, with its name there.
    pub fn make_folder(&self, name: &str) -> String {
        let path = self.beside(name);
        self.chroot("mkdir", &[&path]);
        self.chroot("chown", &["postgres:", &path]);
        path
    }

    /// Moves a tablespace that lies outside of the root to a place beside the data.
    pub fn adopt_tablespace(&self, oid: &str, from: &Path) {
        let place = self.make_folder(oid);
        let inside = self.root.join(place.trim_start_matches('/'));
        let entries = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
        let copied = Command::new("cp").arg("-a").args(entries).arg(&inside).status().unwrap();
        assert!(copied.success());
        self.chroot("chown", &["-R", "postgres:", &place]);
        let link = self.path(&format!("pg_tblspc/{oid}"));
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(place, link).unwrap();
    }

    /// Runs one of its programs on the data folder.
    pub fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new("chroot");
        let (bin, as_postgres) = (self.bin(), ["setpriv", "--reuid=postgres", "--regid=postgres"]);
        command.arg(&self.root).args(as_postgres).arg("--clear-groups");
        let (fine, out) =
            output_of(command.arg(format!("{bin}/{program}")).args(arguments).arg(&self.data));
        assert!(fine, "{program}: {out}");
    }

    /// The name of a folder that [`TestServer::make_folder`] made, inside of the root.
    pub fn beside(&self, name: &str) -> String {
        format!("{}-{name}", self.data)
    }

    /// Where a path inside of the root is, seen from outside.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What its `pg_waldump` says, with times in UTC.
    pub fn waldump(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["env", "TZ=UTC", "LC_ALL=C"]);
        command.arg(format!("{}/pg_waldump", self.bin())).args(arguments);
        // It ends with an error where the log does.
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Receives its log by a slot, with its own program, until dropped.
    pub fn receive_log(&self, slot: &str) -> Held {
        let folder = self.make_folder("received");
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["env", "PGPASSWORD=secret"]);
        command.arg(format!("{}/pg_receivewal", self.bin()));
        let port = self.port.to_string();
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-D", &folder, "-S", slot]);
        Held(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// What one of its programs says of the data folder.
    pub fn told(&self, program: &str) -> String {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["env", "LC_ALL=C"]);
        command.arg(format!("{}/{program}", self.bin())).arg(&self.data);
        let (fine, out) = output_of(&mut command);
        assert!(fine, "{program}: {out}");
        out
    }

    /// Runs one of its client programs against it.
    pub fn ask(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new("chroot");
        command
            .arg(&self.root)
            .args(["env", "PGPASSWORD=secret"])
            .arg(format!("{}/{program}", self.bin()));
        let port = self.port.to_string();
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port]);
        let (fine, out) = output_of(command.args(arguments));
        assert!(fine, "{program}: {out}");
    }

    fn bin(&self) -> String {
        format!("/usr/lib/postgresql/{}/bin", self.major)
    }

    /// Whether its pages have checksums.
    pub fn has_checksums(&self) -> bool {
        self.sql("postgres", "SHOW data_checksums") == "on"
    }

    /// Ends it in order: its files are consistent then.
    pub fn end(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _ = Command::new("kill").args(["-INT", &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }

    /// Starts it again after [`TestServer::stop`].
    pub fn boot(&self) {
        let programs = format!("/usr/lib/postgresql/{}", self.major);
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new("chroot")
            .arg(&self.root)
            .args(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"])
            // A test that is killed takes its server along.
            .arg("--pdeathsig=INT")
            // Where an embedded build has its libraries; the root has no /proc to find them by.
            .args(["env", &format!("LD_LIBRARY_PATH={programs}/lib")])
            .args([&format!("{programs}/bin/postgres"), "-D", &self.data])
            .args(["-p", &self.port.to_string()])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(child);
        let started = Instant::now();
        while !self.try_sql("postgres", "SELECT 1").0 {
            let ended = self.process.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            let fine = ended.is_none() && started.elapsed() < LIMIT;
            assert!(fine, "the server does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&self) {
        self.stopper()();
    }

    /// The same, for whoever outlives a reference to it.
    pub fn stopper(&self) -> impl FnOnce() + Send + use<> {
        let process = Arc::clone(&self.process);
        move || {
            if let Some(mut process) = process.lock().unwrap().take() {
                let pid = process.id().to_string();
                let _ = Command::new("kill").args(["-QUIT", &pid]).status();
                let _ = process.wait();
            }
        }
    }

    /// Stops all its processes where they are: it answers nobody, and closes nothing.
    pub fn freeze(&self) {
        self.freezer()();
    }

    /// The same, for whoever outlives a reference to it.
    pub fn freezer(&self) -> impl FnOnce() + Send + use<> {
        let process = Arc::clone(&self.process);
        move || signal_all(&process, "-STOP")
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        signal_all(&self.process, "-CONT");
    }

    /// Makes the server read its settings and `pg_hba.conf` again.
    pub fn reload(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_reload_conf()"), "t");
    }

    /// A call of `psql`, for whoever outlives a reference to the server.
    pub fn later(&self, database: &str, sql: &str) -> impl FnOnce() + Send + use<> {
        let mut command = self.command("psql", database);
        command.args(["-X", "-q", "-A", "-t", "-c", sql]);
        move || assert!(command.status().unwrap().success())
    }

    /// Starts PgBouncer before it, lending sessions by transaction; its port.
    pub fn pooler(&self, mode: &str) -> (u16, Held) {
        let port = free_port();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres password=secret\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n",
            self.port
        );
        self.write("pgbouncer.ini", &config);
        let child = Command::new("chroot")
            .arg(&self.root)
            .args(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .args(["--pdeathsig=INT", "pgbouncer", "-q"])
            .arg(format!("{}/pgbouncer.ini", self.data))
            .spawn()
            .unwrap();
        let held = Held(child);
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < LIMIT, "pgbouncer does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        (port, held)
    }

    /// A session that carries out `sql` and stays until it is dropped.
    pub fn hold(&self, database: &str, sql: &str) -> Held {
        let mut child = self
            .command("psql", database)
            .args(["-X", "-q", "-A", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{sql}; SELECT 'held';").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "held"));
        Held(child)
    }

    /// A session that carries out `sql` until it is dropped, or that has ended.
    pub fn hold_running(&self, database: &str, sql: &str) -> Held {
        let mut command = self.command("psql", database);
        command.args(["-X", "-q", "-c", sql]).stdout(Stdio::null()).stderr(Stdio::null());
        Held(command.spawn().unwrap())
    }

    /// Where its client programs are.
    pub fn clients(&self) -> PathBuf {
        self.root.join("dbbackup-clients")
    }

    /// Their major: the server's own, or the next one that there is.
    pub fn client_major(&self) -> u32 {
        let entries = std::fs::read_dir(self.clients()).unwrap();
        let majors = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse());
        majors.map(Result::unwrap).filter(|major| *major >= self.major).min().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(self.data.trim_start_matches('/')).join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Writes a file of the cluster, owned by the server.
    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
        let inside = format!("{}/{name}", self.data);
        self.chroot("chown", &["postgres:", &inside]);
        self.chroot("chmod", &["600", &inside]);
    }

    fn append(&self, name: &str, content: &str) {
        let old = std::fs::read_to_string(self.path(name)).unwrap();
        self.write(name, &(old + "\n" + content));
    }

    /// Runs `sql` by `psql`; panics where it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let (fine, out) = self.try_sql(database, sql);
        assert!(fine, "{sql}\n{out}");
        out
    }

    /// Runs `sql` by `psql`: whether it went well, and what was said.
    pub fn try_sql(&self, database: &str, sql: &str) -> (bool, String) {
        let mut command = self.command("psql", database);
        output_of(command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// Runs a file of statements by `psql`, but for the sections that a server of
    /// major `level` lacks.
    pub fn sql_file(&self, database: &str, file: &str, level: u32) {
        let path = format!("{TESTS}/{file}");
        let text = for_major(&std::fs::read_to_string(path).unwrap(), level, self.major);
        self.fed(database, file, &text);
    }

    /// Runs `sql`, too long for an argument; gives what it says.
    pub fn sql_stdin(&self, database: &str, sql: &str) -> String {
        self.fed(database, "stdin", sql)
    }

    /// Runs a statement with no settings of the session but these (`-c name=value`).
    pub fn sql_with(&self, database: &str, settings: &str, sql: &str) -> String {
        let mut command = self.command("psql", database);
        command.env("PGOPTIONS", settings).args(["-X", "-q", "-A", "-t", "-c", sql]);
        let (fine, out) = output_of(&mut command);
        assert!(fine, "{sql}\n{out}");
        out
    }

    fn fed(&self, database: &str, what: &str, text: &str) -> String {
        let mut child = self
            .command("psql", database)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut statements = child.stdin.take().unwrap();
        let text = text.to_owned();
        // psql stops reading where a statement fails, and says which.
        let feeding = std::thread::spawn(move || {
            let _ = statements.write_all(text.as_bytes());
        });
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Lays an extension of ours beside the server's own: one with tables whose rows are dumped.
    pub fn install_extension(&self) {
        let share = self.sql("postgres", "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'");
        let to = self.root.join(share.trim_start_matches('/')).join("extension");
        let from = format!("{TESTS}/support/extension");
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let draft = to.join(format!(".draft-{}-{number}", std::process::id()));
            std::fs::copy(entry.path(), &draft).unwrap();
            // At once: another test's server may be reading it, and the folder's files are shared.
            std::fs::rename(&draft, to.join(entry.file_name())).unwrap();
        }
    }

    /// The whole database as `pg_dump -C` tells it, rows included.
    pub fn dump(&self, database: &str) -> String {
        self.dump_by(&self.programs(), database)
    }

    /// The same, as the `pg_dump` in `programs` tells it.
    pub fn dump_by(&self, programs: &Path, database: &str) -> String {
        let mut command = self.command_at(&programs.join("pg_dump"), database);
        let (fine, out) = output_of(command.arg("-C"));
        assert!(fine, "{out}");
        comparable(&out)
    }

    /// Roles as `pg_dumpall` tells them, hashes of passwords included.
    pub fn roles(&self) -> String {
        self.roles_by(&self.programs())
    }

    /// The same, as the `pg_dumpall` in `programs` tells them.
    pub fn roles_by(&self, programs: &Path) -> String {
        let mut command = self.command_at(&programs.join("pg_dumpall"), "postgres");
        let (fine, out) = output_of(command.arg("--roles-only"));
        assert!(fine, "{out}");
        comparable(&out)
    }

    /// Names of databases, sorted.
    pub fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1";
        self.sql("postgres", sql).lines().map(str::to_owned).collect()
    }

    /// Where the clients lie that are used to look at it.
    fn programs(&self) -> PathBuf {
        self.clients().join(format!("{}/bin", self.client_major()))
    }

    /// One of the clients, told how to reach it.
    pub fn client(&self, program: &str, database: &str) -> Command {
        self.command(program, database)
    }

    fn command(&self, program: &str, database: &str) -> Command {
        self.command_at(&self.programs().join(program), database)
    }

    fn command_at(&self, program: &Path, database: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", "secret")
            .env("PGDATABASE", database)
            .env("PGSSLMODE", "prefer")
            // A server's own settings change nothing of what is compared.
            .env("PGOPTIONS", COMPARABLE);
        command
    }

    fn chroot(&self, program: &str, arguments: &[&str]) {
        let status =
            Command::new("chroot").arg(&self.root).arg(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?} failed");
    }
}

/// Whether a program went well, and what it said.
fn output_of(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    (output.status.success(), text.trim_end().to_owned())
}

/// A session that somebody else holds.
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal to the server and to all its sessions.
fn signal_all(process: &Mutex<Option<Child>>, signal: &str) {
    let Some(first) = process.lock().unwrap().as_ref().map(Child::id) else { return };
    let kill = |pids: &[u32]| {
        let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
        let _ = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
    };
    // It first: it begins no more of them then.
    kill(&[first]);
    kill(&children(first));
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // "pid (name) state parent …"; a name may hold anything.
        let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
        behind.split_whitespace().nth(1) == Some(parent.to_string().as_str())
    })
    .collect()
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.thaw();
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            for line in tail.iter().rev() {
                eprintln!("server: {line}");
            }
        }
        // And what lies beside it.
        let own = self.root.join(self.data.trim_start_matches('/'));
        let name = own.file_name().unwrap_or_default().to_str().unwrap_or_default();
        for entry in
            std::fs::read_dir(own.parent().unwrap_or(&self.root)).into_iter().flatten().flatten()
        {
            let found = entry.file_name();
            if found
                .to_str()
                .and_then(|found| found.strip_prefix(name))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
