//! Restoring databases: what is asked for, and what came of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::databases::add_warning;
use crate::{
    DatabaseCount, DatabaseReport, Failure, Outcome, PostgresqlAccess, RestorePlan, ServerReport,
};

/// What happens to roles and other globals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum GlobalsPolicy {
    /// They are left alone; what is missing is refused before anything is created.
    #[default]
    Skip,
    /// What is missing is created; what exists stays as it is.
    Merge,
}

/// What happens to a database that stands under the name of a restored one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RestoreStrategy {
    /// It stays, and the restore is refused.
    #[default]
    CreateNew,
    /// The restored one takes its place once it is loaded and compared; it is kept as NAME_before_TIME, the time at which the request was created.
    Swap,
    /// The restored one takes its place once it is loaded and compared; it is dropped.
    Overwrite,
}

/// What becomes of the other databases when one has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnError {
    /// Where one is refused, none is created; after one that fails, no other is begun.
    #[default]
    Stop,
    /// They are restored.
    Continue,
}

/// One database of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreDatabase {
    /// Its name in the snapshot.
    pub name: String,
    /// Its name on the target; the same where absent.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub as_name: Option<String>,
    /// Only these schemas, and what they need; with `tables`, those as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// Only these tables, and what they need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableName>,
}

impl RestoreDatabase {
    /// Its name on the target.
    #[must_use]
    pub fn target_name(&self) -> &str {
        self.as_name.as_deref().unwrap_or(&self.name)
    }

    /// Whether only a part of it is asked for.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        !self.schemas.is_empty() || !self.tables.is_empty()
    }
}

/// A table of a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableName {
    /// Its schema, as the catalogue has it: without quotes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256)))]
    pub schema: String,
    /// Its name, as the catalogue has it: without quotes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256)))]
    pub name: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What a restored database must answer with true before it is put in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assertion {
    /// What it is called in messages.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 63)))]
    pub name: String,
    /// The database's name in the backup.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 256)))]
    pub database: String,
    /// One SQL statement that gives one row, whose first column is a boolean: select count(*) > 1000 from orders. It is asked in a transaction that changes nothing.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 4096)))]
    pub query: String,
}

/// Restore databases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreAction {
    /// UID of the request: the mark of its scratch databases.
    pub request_uid: String,
    /// From which snapshot: its id, or a prefix of it that fits no other.
    pub snapshot: String,
    /// To which server.
    pub target: PostgresqlAccess,
    /// Which databases; all of the snapshot where empty.
    #[serde(default)]
    pub databases: Vec<RestoreDatabase>,
    /// Roles and other globals.
    #[serde(default)]
    pub globals: GlobalsPolicy,
    /// Whether the restoring role takes the place of the owners.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_owner: bool,
    /// Roles of the target that stand for roles of the backup, all at once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub role_map: BTreeMap<String, String>,
    /// How databases are replaced that stand under the names of restored ones; absent, the
    /// restore of those is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<ReplaceAction>,
    /// What the repository's ledger knows the request by: it is carried out once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<RequestKey>,
    /// What becomes of the other databases when one has failed.
    #[serde(default)]
    pub on_error: OnError,
    /// What restored databases must answer with true before they are put in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assertions: Vec<Assertion>,
    /// Only the plan is wanted: nothing is created, changed or dropped.
    #[serde(default)]
    pub dry_run: bool,
    /// The digest of the plan that was approved: another one is not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_plan: Option<String>,
}

/// What a request is, whoever creates its object anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestKey {
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// A digest of what it asks for.
    pub spec_digest: String,
}

/// How databases are replaced that stand under the names of restored ones, once those are
/// loaded and compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceAction {
    /// Whether they are kept, under a name that says since when; otherwise they are dropped.
    pub keep: bool,
    /// Sessions on them are ended; otherwise the restore is refused while there are any.
    #[serde(default)]
    pub terminate_sessions: bool,
    /// How long the renames may wait for sessions to end and for other transactions.
    pub lock_timeout_seconds: u64,
    /// The time in the names of those that are kept; the same in every attempt.
    pub time: Timestamp,
    /// Whether an earlier attempt is known to have begun: one of which nothing is left is done.
    #[serde(default)]
    pub is_continued: bool,
}

/// What happened to roles and other globals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalsReport {
    /// Roles that were created.
    pub created: u32,
    /// Roles that existed and stayed as they were.
    pub kept: u32,
    /// What the created roles had and could not be given: at most 8 sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 8), inner(length(max = 256))))]
    pub warnings: Vec<String>,
}

impl GlobalsReport {
    /// Adds a warning, cut to the length that a status has room for.
    pub fn warn(&mut self, warning: impl Into<String>) {
        add_warning(&mut self.warnings, warning.into());
    }
}

/// How a restore ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RestoreReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The snapshot that was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 128)))]
    pub snapshot_id: Option<String>,
    /// When the attempt began.
    pub start_time: Timestamp,
    /// When it ended.
    pub completion_time: Timestamp,
    /// The server that was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// Bytes that were given to the server.
    #[serde(default)]
    pub restored_bytes: u64,
    /// Roles and other globals; absent where they were skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub globals: Option<GlobalsReport>,
    /// How many databases.
    #[serde(default)]
    pub database_count: DatabaseCount,
    /// The databases: at most 100, failures first.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    pub databases: Vec<DatabaseReport>,
    /// What would be done. Where it is said, nothing was done: only the plan was wanted, or
    /// another one was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlan>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}
