//! Looking whether a backup would work, before one is due: what is asked for, and what came
//! of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    DatabaseCount, DatabaseReport, Failure, HookReport, Hooks, Method, Outcome, ServerReport,
    Source,
};

/// Look whether a backup of this would work: open the repository, and ask the server for all
/// that it would be asked for. Nothing is written, and no row is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreflightAction {
    /// What would be backed up.
    pub source: Source,
    /// How it would be read.
    #[serde(default)]
    pub method: Method,
    /// Whether the server's log would be archived, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archives_log: bool,
    /// What the server would carry out before and after.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

/// What would become of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightReport {
    /// What would become of it.
    pub outcome: Outcome,
    /// When the look began.
    pub start_time: Timestamp,
    /// When it ended.
    pub completion_time: Timestamp,
    /// The server, if it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// How many databases would be backed up, and how many could not.
    #[serde(default)]
    pub database_count: DatabaseCount,
    /// Those that could not: at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatabaseReport>,
    /// The hooks whose database cannot be opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookReport>,
    /// Why it would fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}
