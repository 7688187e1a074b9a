//! What callers ask of the engine and what they get.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{
    Assertion, DatabaseReport, DatabaseSelection, Failure, GlobalsPolicy, GlobalsReport,
    LogPosition, MethodChoice, OnError, PostgresqlAccess, RestoreDatabase, RestorePlan,
    ServerReport,
};
use jiff::Timestamp;

use crate::ClientFolders;

/// How a server and its client programs are reached.
#[derive(Clone, Debug)]
pub struct ServerConnection {
    /// Address and secret files.
    pub access: PostgresqlAccess,
    /// An empty folder in memory for the files that clients need
    /// ([`dbbackup_contract::SCRATCH_DIR`]); they are removed afterwards.
    pub scratch_dir: PathBuf,
    /// Where the client programs are.
    pub clients: ClientFolders,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// No byte for so long, without visible work of the server, is a stall.
    pub stall_timeout: Duration,
}

/// A backup to make.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The server.
    pub server: ServerConnection,
    /// Its databases.
    pub databases: DatabaseSelection,
    /// How long `pg_dump` may wait for a lock.
    pub lock_timeout: Duration,
}

/// A backup that was made, perhaps without some of its databases.
#[derive(Clone, Debug)]
pub struct BackupResult {
    /// The server.
    pub server: ServerReport,
    /// Position in its log when the first database was consistent.
    pub position: Option<LogPosition>,
    /// From where on its log is needed to bring the files forward; `None` of what is no files.
    pub log_start: Option<LogPosition>,
    /// When it was consistent, by the server's clock.
    pub consistent_time: Option<Timestamp>,
    /// How it was read, and why so.
    pub method: MethodChoice,
    /// Bytes that the server gave.
    pub bytes_read: u64,
    /// Every database that was asked for, in the order of the work.
    pub databases: Vec<DatabaseReport>,
}

/// What would become of a backup.
#[derive(Clone, Debug)]
pub struct PreflightResult {
    /// The server.
    pub server: ServerReport,
    /// Every database that would be backed up.
    pub databases: Vec<DatabaseReport>,
}

/// A restore to carry out.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The target.
    pub server: ServerConnection,
    /// Which databases of the backup; all where empty.
    pub databases: Vec<RestoreDatabase>,
    /// Roles and other globals.
    pub globals: GlobalsPolicy,
    /// The restoring role takes the place of the owners; what concerns a role that the target
    /// lacks is left out.
    pub no_owner: bool,
    /// Roles of the target that stand for roles of the backup, all at once.
    pub role_map: BTreeMap<String, String>,
    /// What becomes of databases that stand under the names of restored ones.
    pub strategy: Strategy,
    /// UID of the request: the mark of its scratch databases. A retry has the same.
    pub request_uid: String,
    /// Whether an earlier attempt is known to have begun. Where databases are replaced, one of
    /// which nothing is left is done then, and is not done again.
    pub is_continued: bool,
    /// How long an earlier attempt, or another request, may hold the lock on a target's name.
    pub lock_timeout: Duration,
    /// The snapshot's id, which the plan's digest has.
    pub snapshot: String,
    /// Only the plan is wanted: nothing is created, changed or dropped.
    pub dry_run: bool,
    /// The digest of the plan that was approved; another one is not carried out.
    pub approved_plan: Option<String>,
    /// What becomes of the other databases when one has failed.
    pub on_error: OnError,
    /// What restored databases must answer with true before they are put in place.
    pub assertions: Vec<Assertion>,
    /// Databases that a restore of all should bring back, and that the backup lacks: they are
    /// told in the plan and in the result, and keep no other from being restored.
    pub missing: Vec<DatabaseReport>,
    /// Whether the restore is still wanted.
    pub permission: Permission,
}

impl RestoreOptions {
    /// Whether all databases of the backup are asked for.
    pub(crate) const fn is_of_all(&self) -> bool {
        self.databases.is_empty()
    }
}

/// The answer of a [`Permission`].
pub type Permitted = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Asked with the server's identity before anything is looked at, and once more when nobody
/// else can restore to the same names any more: whoever was quicker has ended by then.
#[derive(Clone)]
pub struct Permission(Arc<dyn Fn(String) -> Permitted + Send + Sync>);

impl Permission {
    /// One that `ask` gives.
    pub fn new(ask: impl Fn(String) -> Permitted + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// One that is always there.
    #[must_use]
    pub fn given() -> Self {
        Self::new(|_| Box::pin(std::future::ready(Ok(()))))
    }

    pub(crate) async fn ask(&self, server: &str) -> Result<(), Failure> {
        (self.0)(server.to_owned()).await
    }
}

impl std::fmt::Debug for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permission")
    }
}

/// What becomes of a database that stands under the name of a restored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// It stays, and the restore of that one is refused.
    CreateNew,
    /// It gets another name when the restored one is loaded and compared, and is kept.
    Swap(Replace),
    /// It is dropped once the restored one has its name.
    Overwrite(Replace),
}

/// How a database is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace {
    /// Sessions on it are ended; otherwise the restore is refused while there are any.
    pub terminate_sessions: bool,
    /// How long the renames may wait for sessions to end and for other transactions.
    pub lock_timeout: Duration,
    /// A time for the name of what is kept, such as `20261120t081200z`: without capitals, so
    /// that the name needs no quotes in SQL. The same in every attempt.
    pub stamp: String,
}

/// A restore that was carried out, perhaps without some of its databases; or its plan alone.
#[derive(Clone, Debug)]
pub struct RestoreResult {
    /// What was going to be done.
    pub plan: RestorePlan,
    /// Whether it was done: nothing was, where only the plan was wanted, or another one was
    /// approved.
    pub is_carried_out: bool,
    /// The first database that cannot be restored, if there is one, and why; not one that is
    /// only in use now.
    pub refused: Option<(String, Failure)>,
    /// The target.
    pub server: ServerReport,
    /// Bytes that were given to the server.
    pub restored_bytes: u64,
    /// Roles and other globals; absent where they were skipped.
    pub globals: Option<GlobalsReport>,
    /// Every database that was asked for, in the order of the work.
    pub databases: Vec<DatabaseReport>,
    /// Databases in place that still bear the request's mark: for [`crate::settle`].
    pub placed: Vec<PlacedDatabase>,
    /// Scratch databases of other restores that were found; the log has them, too.
    pub left_behind: Vec<LeftBehind>,
}

/// A scratch database that another restore left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub leftover: Leftover,
}

/// What became of a scratch database that another restore left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// It was dropped. It was half loaded, by this request.
    Dropped(String),
    /// It stays, for this reason.
    Stays(String),
}

/// A restored database under its final name, with the request's mark as its comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedDatabase {
    /// Its name.
    pub name: String,
    /// The comment that takes the mark's place.
    pub comment: Option<String>,
}
