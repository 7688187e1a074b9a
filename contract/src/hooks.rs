//! SQL that a backup has the server carry out before it begins and when it has ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CredentialFiles, Failure};

/// The hooks of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Hooks {
    /// Who carries them out; absent, whoever reads the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialFiles>,
    /// Before anything is read, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<BeforeHook>,
    /// When the backup has ended, in this order, where those before have begun.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<AfterHook>,
}

impl Hooks {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// All of them, in their order.
    pub fn all(&self) -> impl Iterator<Item = &Hook> {
        let before = self.before.iter().map(|before| &before.hook);
        before.chain(self.after.iter().map(|after| &after.hook))
    }
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// What messages call it.
    pub name: String,
    /// The database that it is carried out in.
    pub database: String,
    /// What is carried out.
    pub sql: SqlText,
    /// It may take so long.
    pub timeout_seconds: u64,
}

/// A hook before the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BeforeHook {
    /// What is carried out.
    pub hook: Hook,
    /// What becomes of the backup when it fails.
    #[serde(default)]
    pub on_error: HookOnError,
}

/// A hook after the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AfterHook {
    /// What is carried out.
    pub hook: Hook,
    /// After which end of the backup.
    #[serde(default)]
    pub when: HookWhen,
}

/// What becomes of a backup whose hook fails before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HookOnError {
    /// It fails, and nothing is read.
    #[default]
    Fail,
    /// It is made all the same, and the failure is told.
    Continue,
}

/// After which end of a backup a hook is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HookWhen {
    /// After any.
    #[default]
    Always,
    /// When all databases are in the snapshot.
    OnSuccess,
    /// When it failed, or some databases did.
    OnFailure,
}

/// SQL of somebody else. It is no secret, but may hold what does not belong in a log: `Debug`
/// shows its length alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(inline))]
#[serde(transparent)]
pub struct SqlText(
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 8192)))] pub String,
);

impl fmt::Debug for SqlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlText({} bytes)", self.0.len())
    }
}

/// When a hook is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HookStage {
    /// Before the backup.
    Before,
    /// After it.
    After,
}

/// What became of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HookOutcome {
    /// The server has carried it out.
    Succeeded,
    /// It has not, and nothing of it stays, unless the hook's own SQL says otherwise.
    Failed,
    /// It was not its turn.
    Skipped,
    /// Nobody knows: the run was killed, or its node was lost.
    Unknown,
}

/// What became of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HookReport {
    /// The hook.
    #[cfg_attr(feature = "schema", schemars(length(max = 63)))]
    pub name: String,
    /// Before the backup, or after it.
    pub stage: HookStage,
    /// What became of it.
    pub outcome: HookOutcome,
    /// How long it took.
    #[serde(default)]
    pub duration_milliseconds: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl HookReport {
    /// One that was not carried out.
    #[must_use]
    pub fn of(name: impl Into<String>, stage: HookStage, outcome: HookOutcome) -> Self {
        Self { name: name.into(), stage, outcome, duration_milliseconds: 0, error: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_out_shows_in_no_log() {
        let hook = Hook {
            name: "note".into(),
            database: "shop".into(),
            sql: SqlText("select 'hunter2'".into()),
            timeout_seconds: 60,
        };
        let shown = format!("{hook:?}");
        assert!(shown.contains("note") && !shown.contains("hunter2"), "{shown}");
        let json = serde_json::to_string(&hook).unwrap();
        assert_eq!(serde_json::from_str::<Hook>(&json).unwrap(), hook);
    }
}
