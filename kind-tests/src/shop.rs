//! What most scenarios need: a PostgreSQL server with databases, and a repository.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::scenario::Scenario;

/// The password of the server's superuser.
pub const SUPERUSER_PASSWORD: &str = "e2e-only";

/// The manifest of the demo's server: one description of it for both.
const DEMO_DATABASE: &str = include_str!("../../demo/1-database.yaml");

/// A PostgreSQL server in a scenario's namespace: Service, Deployment and
/// secret are called `shop-db`.
#[derive(Debug)]
pub struct Server<'a> {
    scenario: &'a Scenario,
}

impl<'a> Server<'a> {
    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(scenario: &'a Scenario) -> Self {
        let manifest = DEMO_DATABASE
            .split("\n---\n")
            .filter(|document| !document.contains("kind: Namespace"))
            .collect::<Vec<_>>()
            .join("\n---\n")
            .replace("namespace: shop", &format!("namespace: {}", scenario.namespace()))
            .replace("demo-only", SUPERUSER_PASSWORD);
        scenario.apply(&manifest);
        scenario.kubectl(&["rollout", "status", "deploy/shop-db", "--timeout=180s"]);
        Self { scenario }
    }

    /// Runs SQL as the superuser; gives bare rows, columns separated by `|`.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.scenario
            .kubectl_with_input(&psql(database), sql)
            .unwrap_or_else(|error| panic!("psql {database}: {error}"))
    }

    /// Waits until a query gives something else than nothing, and gives that.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_row(&self, until: &str, database: &str, sql: &str) -> String {
        self.scenario.wait_until(until, || {
            let found = self.sql(database, sql);
            (!found.is_empty()).then_some(found)
        })
    }

    /// Locks a table, so that whoever reads it waits until the lock is dropped.
    ///
    /// # Panics
    /// When it cannot be locked.
    #[must_use]
    pub fn lock_table(&self, database: &str, table: &str) -> TableLock {
        let mut session = Command::new("kubectl")
            .args(["--namespace", self.scenario.namespace()])
            .args(psql(database))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("kubectl does not start: {error}"));
        let mut lock = TableLock { input: session.stdin.take(), session };
        lock.say(&format!("begin; lock table {table} in access exclusive mode; select 'held';"));
        let output = lock.session.stdout.as_mut().map(BufReader::new);
        let held = output.and_then(|output| output.lines().next()).and_then(Result::ok);
        assert_eq!(held.as_deref(), Some("held"), "the table {table} cannot be locked");
        lock
    }

    /// Waits until a session waits for a lock that another one holds.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_waiter(&self) {
        let waits = "select pid from pg_locks where not granted limit 1";
        self.wait_for_row("a session waits for the lock", "postgres", waits);
    }

    /// Begins a backup of the database `shop` by a schedule, whose runner waits for a
    /// table: until the lock is dropped, it has read nothing and committed nothing.
    ///
    /// # Panics
    /// When it does not come to wait.
    #[must_use]
    pub fn begin_held(&self, name: &str, schedule: &str) -> TableLock {
        let lock = self.lock_table("shop", "items");
        self.scenario.apply(&backup(name, schedule));
        self.wait_for_waiter();
        lock
    }

    /// Makes every restore of a database take its time, and only restores: each
    /// row of a new table of 1500 waits for a hundredth of a second elsewhere.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn slow_restores_of(&self, database: &str) {
        self.sql(
            database,
            &format!(
                "create function slow(n bigint) returns boolean language plpgsql as $$
                 begin
                   perform pg_sleep(0.01) where current_database() <> '{database}';
                   return true;
                 end $$;
                 create table slow_rows (id bigint check (public.slow(id)));
                 insert into slow_rows select generate_series(1, 1500);"
            ),
        );
    }

    /// Waits until a restore is in the middle of such a table.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_slow_restore(&self) {
        let sleeps = "select pid from pg_stat_activity
                      where datname like 'dbb\\_%' and wait_event = 'PgSleep'";
        self.wait_for_row("rows are being restored", "postgres", sleeps);
    }

    /// Creates a database with `rows` rows in a table `items`.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn create_database(&self, name: &str, rows: u32) {
        self.sql("postgres", &format!("create database \"{name}\""));
        self.sql(
            name,
            &format!(
                "create table items (id bigint primary key, name text not null, price numeric(10,2));
                 insert into items select n, md5(n::text), n / 100.0 from generate_series(1, {rows}) n;"
            ),
        );
    }

    /// Changes when any row of the table `items` does.
    #[must_use]
    pub fn digest_of_items(&self, database: &str) -> String {
        self.sql(
            database,
            "select count(*) || ':' || md5(string_agg(i::text, ',' order by id)) from items i",
        )
    }

    /// Whether the server has a database of this name.
    #[must_use]
    pub fn has_database(&self, name: &str) -> bool {
        let found =
            self.sql("postgres", &format!("select 1 from pg_database where datname = '{name}'"));
        found == "1"
    }

    /// Databases whose names begin with the mark of unfinished restores.
    #[must_use]
    pub fn scratch_databases(&self) -> String {
        self.sql("postgres", "select datname from pg_database where datname like 'dbb\\_%'")
    }
}

/// A table that is locked by a session of ours.
#[derive(Debug)]
pub struct TableLock {
    session: Child,
    input: Option<ChildStdin>,
}

impl TableLock {
    /// Lets the server drop the lock by itself after so many seconds, whatever
    /// becomes of us meanwhile.
    pub fn drop_after(&mut self, seconds: u32) {
        self.say(&format!("select pg_sleep({seconds}) \\; commit;"));
    }

    fn say(&mut self, sql: &str) {
        // A session that has ended says so where its answer is missed.
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{sql}").and_then(|()| input.flush());
        }
    }
}

impl Drop for TableLock {
    fn drop(&mut self) {
        // The session ends at the end of its input, and the lock with it.
        self.input = None;
        let _ = self.session.wait();
    }
}

/// `kubectl` arguments of a `psql` as the superuser that prints bare rows.
fn psql(database: &str) -> [&str; 14] {
    [
        "exec",
        "--stdin",
        "deploy/shop-db",
        "--",
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--host=/tmp",
        "--username=postgres",
        "--set=ON_ERROR_STOP=1",
        "--dbname",
        database,
    ]
}

/// A repository on a volume of its own in a scenario's namespace: claim
/// `backups`, key `backup-key`, object `main`.
///
/// # Panics
/// When the API server refuses one of the objects, or the repository does not
/// become ready.
pub fn create_repository(scenario: &Scenario) {
    scenario.apply(CLAIM);
    create_objects(scenario);
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
}

/// The key and the object of that repository; the claim is there or comes later.
///
/// # Panics
/// When the API server refuses one of the objects.
pub fn create_objects(scenario: &Scenario) {
    scenario.apply(&repository(FOLDER, ""));
}

/// The claim of the repository.
pub const CLAIM: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: backups}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
";

/// `storage` of a repository on [`CLAIM`].
pub const FOLDER: &str = "{volume: {claimName: backups, path: dbbackup}}";

/// YAML of the repository `main` and its key; `more` are further lines of its spec.
#[must_use]
pub fn repository(storage: &str, more: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Secret
metadata: {{name: backup-key}}
stringData: {{passphrase: correct horse battery staple}}
---
apiVersion: dbbackup.dev/v1alpha1
kind: BackupRepository
metadata: {{name: main}}
spec:
  storage: {storage}
  encryption:
    keys: [{{name: first, passphraseSecretRef: {{name: backup-key}}}}]
{more}"
    )
}

/// YAML of a further repository `second` on a claim of its own, whose key is the secret
/// `second-key`; `more` are further lines of its spec.
#[must_use]
pub fn second_repository(more: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: far-away}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: dbbackup.dev/v1alpha1
kind: BackupRepository
metadata: {{name: second}}
spec:
  storage: {{volume: {{claimName: far-away, path: copies}}}}
  encryption:
    keys: [{{name: only, passphraseSecretRef: {{name: second-key}}}}]
{more}"
    )
}

/// YAML of a schedule that never fires by itself within a test: a backup of
/// the whole server, `job` and further fields of the source as given.
#[must_use]
pub fn schedule(name: &str, credentials: &str, databases: &str, job: &str) -> String {
    format!(
        r#"
apiVersion: dbbackup.dev/v1alpha1
kind: BackupSchedule
metadata: {{name: {name}}}
spec:
  repositoryRef: {{name: main}}
  source:
    postgresql:
      host: shop-db
      credentialsSecretRef: {{name: {credentials}}}
      tls: {{mode: Prefer}}
      databases: {databases}
  schedule: "0 0 1 1 *"
  job: {job}
"#
    )
}

/// YAML of a schedule of the whole server with another line, in quotes, behind which further
/// fields may stand.
#[must_use]
pub fn schedule_at(name: &str, line: &str) -> String {
    schedule(name, "shop-db", "{}", "{}").replace("\"0 0 1 1 *\"", line)
}

/// A server, a repository and the schedule `nightly`, and a backup by it that runs until the
/// lock is dropped.
///
/// # Panics
/// When one of them does not come to be, or the backup does not come to wait.
#[must_use]
pub fn running_backup(scenario: &Scenario, name: &str) -> TableLock {
    let server = Server::start(scenario);
    server.create_database("shop", 1000);
    create_repository(scenario);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    server.begin_held(name, "nightly")
}

/// YAML of a backup by a schedule.
#[must_use]
pub fn backup(name: &str, schedule: &str) -> String {
    format!(
        "apiVersion: dbbackup.dev/v1alpha1\nkind: Backup\nmetadata: {{name: {name}}}\nspec: {{scheduleRef: {{name: {schedule}}}}}\n"
    )
}

/// YAML of a restore of one database of a backup under a new name.
#[must_use]
pub fn restore(name: &str, backup: &str, database: &str, as_name: &str) -> String {
    format!(
        r#"
apiVersion: dbbackup.dev/v1alpha1
kind: RestoreRequest
metadata: {{name: {name}}}
spec:
  from: {{backupRef: {{name: {backup}}}}}
  databases: [{{name: "{database}", as: "{as_name}"}}]
"#
    )
}
