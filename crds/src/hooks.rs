//! SQL that the server carries out before a backup and after it.

use dbbackup_contract::{HookOnError, HookWhen, SqlText};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{CredentialsRef, DurationText};

/// The task holds all of them, beside everything else that a Job has to know.
const TOGETHER: &str = "(has(self.before) ? self.before.map(hook, hook.sql.size()).sum() : 0) + (has(self.after) ? self.after.map(hook, hook.sql.size()).sum() : 0) <= 24576";

/// SQL that the server carries out before a backup and after it. A run that is tried again carries all of it out again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(TOGETHER).message("the sql of all hooks may have 24576 characters in all: put what is longer into a function of the database, and call that"))]
pub struct HooksSpec {
    /// Who carries the hooks out: a secret with user name and password (keys: username, password). Left out: whoever reads the backup, who may have no right to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsRef>,
    /// Before anything is read, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub before: Vec<BeforeHookSpec>,
    /// When the backup has ended, one after another, where those before have begun. One that fails keeps no other back, and the backup is what it was: status.hooks tells it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub after: Vec<AfterHookSpec>,
}

/// What is carried out before a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BeforeHookSpec {
    /// What messages call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The database that it is carried out in.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// What is carried out: any statement, or several, which are one transaction. Rows are thrown away. It shows in the Job: nothing secret belongs here.
    pub sql: SqlText,
    /// It may take so long, and is ended then. 24h at most.
    #[serde(default = "one_minute")]
    #[x_kube(validation = Rule::new(SOME_TIME).message(SOME_TIME_MESSAGE))]
    pub timeout: DurationText,
    /// Fail: if it fails, no backup is made. Continue: it is made all the same.
    #[serde(default)]
    pub on_error: HookOnError,
}

/// What is carried out after a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AfterHookSpec {
    /// What messages call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The database that it is carried out in.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
    /// What is carried out: any statement, or several, which are one transaction. Rows are thrown away. It shows in the Job: nothing secret belongs here.
    pub sql: SqlText,
    /// It may take so long, and is ended then. 24h at most.
    #[serde(default = "one_minute")]
    #[x_kube(validation = Rule::new(SOME_TIME).message(SOME_TIME_MESSAGE))]
    pub timeout: DurationText,
    /// Always; OnSuccess: when all databases are in the backup; OnFailure: when it failed, or some of them did.
    #[serde(default)]
    pub when: HookWhen,
}

const SOME_TIME: &str = "self.matches('[1-9]')";
const SOME_TIME_MESSAGE: &str =
    "timeout of zero lets nothing be done: write a duration such as 60s";

fn one_minute() -> DurationText {
    DurationText::new("60s")
}
