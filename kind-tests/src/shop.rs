//! What most scenarios need: a PostgreSQL server with databases, and a repository.

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
        let psql = [
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
        ];
        self.scenario
            .kubectl_with_input(&psql, sql)
            .unwrap_or_else(|error| panic!("psql {database}: {error}"))
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
    scenario.apply(REPOSITORY);
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

const REPOSITORY: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: backup-key}
stringData: {passphrase: correct horse battery staple}
---
apiVersion: dbbackup.dev/v1alpha1
kind: BackupRepository
metadata: {name: main}
spec:
  storage: {volume: {claimName: backups, path: dbbackup}}
  encryption:
    keys: [{name: first, passphraseSecretRef: {name: backup-key}}]
";

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
