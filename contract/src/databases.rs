//! The databases of a run: how each of them ended.

use serde::{Deserialize, Serialize};

use crate::{BackupReport, Failure, Outcome};

/// Most databases that a report lists; failures come first.
pub const MAX_REPORTED_DATABASES: usize = 100;

/// How one database ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum DatabaseOutcome {
    /// It is not in the snapshot, or was not put in place.
    Failed,
    /// It was left out by the server's own rule (it allows no connections).
    Skipped,
    /// It is done.
    Succeeded,
}

/// Most warnings of a database, or of the globals; where there were more, the last one says so.
pub const MAX_WARNINGS: usize = 8;
/// Longest warning, in bytes.
pub const MAX_WARNING_BYTES: usize = 256;

/// Most names that [`LeftOut`] has.
pub const MAX_LEFT_OUT: usize = 10;
/// Longest of these names, in bytes.
pub const MAX_LEFT_OUT_BYTES: usize = 128;

/// What a restore of a part of a database leaves out, though it belongs to that part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// How many.
    pub total: u32,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 10), inner(length(max = 128))))]
    pub first: Vec<String>,
}

impl LeftOut {
    /// Of what has these names, cut to the lengths that a status has room for; `None` of nothing.
    #[must_use]
    pub fn of(mut names: Vec<String>) -> Option<Self> {
        let total = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.truncate(MAX_LEFT_OUT);
        for name in &mut names {
            name.truncate(name.floor_char_boundary(MAX_LEFT_OUT_BYTES));
        }
        (total > 0).then_some(Self { total, first: names })
    }
}

/// For people: the names, and how many more there are.
impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.total as usize - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// One database of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DatabaseReport {
    /// Its name.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub name: String,
    /// Its name on the target, where a restore gave it another one.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub as_name: Option<String>,
    /// The name under which a restore has kept the database that it replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub kept_as: Option<String>,
    /// Statements that put the replaced database back in its place, and the restored one aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 1024)))]
    pub undo: Option<String>,
    /// How it ended.
    pub outcome: DatabaseOutcome,
    /// Bytes of its dump.
    #[serde(default)]
    pub bytes: u64,
    /// Tables with rows of their own.
    #[serde(default)]
    pub tables: u64,
    /// Rows of these tables.
    #[serde(default)]
    pub rows: u64,
    /// How long it took.
    #[serde(default)]
    pub duration_milliseconds: u64,
    /// What is done, but not as it was on the server: at most 8 sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 8), inner(length(max = 256))))]
    pub warnings: Vec<String>,
    /// What a restore of a part of it has left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl DatabaseReport {
    /// Of a database of which nothing else is known yet.
    #[must_use]
    pub fn new(name: impl Into<String>, outcome: DatabaseOutcome) -> Self {
        Self {
            name: name.into(),
            as_name: None,
            kept_as: None,
            undo: None,
            outcome,
            bytes: 0,
            tables: 0,
            rows: 0,
            duration_milliseconds: 0,
            warnings: Vec::new(),
            left_out: None,
            error: None,
        }
    }

    /// Adds a warning, cut to the length that a status has room for.
    pub fn warn(&mut self, warning: impl Into<String>) {
        add_warning(&mut self.warnings, warning.into());
    }
}

/// Adds a warning, cut to the length that a status has room for.
pub(crate) fn add_warning(warnings: &mut Vec<String>, mut warning: String) {
    warning.truncate(warning.floor_char_boundary(MAX_WARNING_BYTES));
    match warnings.len() {
        0..MAX_WARNINGS => warnings.push(warning),
        _ => warnings[MAX_WARNINGS - 1] = "and more; see the run's log".to_owned(),
    }
}

/// How many databases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DatabaseCount {
    /// All that were asked for.
    pub total: u32,
    /// Done.
    pub succeeded: u32,
    /// Not done.
    pub failed: u32,
}

impl DatabaseCount {
    /// Counts `databases`; those left out by the server's rule count nowhere.
    #[must_use]
    pub fn of(databases: &[DatabaseReport]) -> Self {
        let count = |outcome| {
            let matching = databases.iter().filter(|database| database.outcome == outcome).count();
            u32::try_from(matching).unwrap_or(u32::MAX)
        };
        let (succeeded, failed) =
            (count(DatabaseOutcome::Succeeded), count(DatabaseOutcome::Failed));
        Self { total: succeeded.saturating_add(failed), succeeded, failed }
    }

    /// How a run with these databases ended.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match (self.succeeded, self.failed) {
            // A run that did nothing is no success.
            (0, _) => Outcome::Failed,
            (_, 0) => Outcome::Succeeded,
            _ => Outcome::PartiallyFailed,
        }
    }
}

impl BackupReport {
    /// Orders `databases` failures first and keeps at most 100.
    #[must_use]
    pub fn listed(mut databases: Vec<DatabaseReport>) -> Vec<DatabaseReport> {
        databases.sort_by(|a, b| (a.outcome, &a.name).cmp(&(b.outcome, &b.name)));
        databases.truncate(MAX_REPORTED_DATABASES);
        databases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_databases_is_bounded_and_shows_failures_first() {
        let mut databases: Vec<_> = (0..150)
            .map(|n| DatabaseReport::new(format!("db{n:03}"), DatabaseOutcome::Succeeded))
            .collect();
        databases.push(DatabaseReport::new("zz", DatabaseOutcome::Failed));
        let listed = BackupReport::listed(databases);
        assert_eq!(listed.len(), MAX_REPORTED_DATABASES);
        assert_eq!(listed[0].name, "zz");
    }

    #[test]
    fn warnings_are_bounded_and_say_that_there_were_more() {
        let mut database = DatabaseReport::new("d", DatabaseOutcome::Succeeded);
        for n in 0..MAX_WARNINGS {
            database.warn(format!("{n} {}", "é".repeat(MAX_WARNING_BYTES)));
        }
        assert!(database.warnings.iter().all(|warning| warning.len() <= MAX_WARNING_BYTES));
        assert!(database.warnings[MAX_WARNINGS - 1].starts_with("7 é"));
        database.warn("one more");
        assert_eq!(database.warnings.len(), MAX_WARNINGS);
        assert_eq!(database.warnings[MAX_WARNINGS - 1], "and more; see the run's log");
    }

    #[test]
    fn what_is_left_out_is_bounded_and_counted() {
        assert_eq!(LeftOut::of(Vec::new()), None);
        let names = |count: usize| (0..count).map(|n| format!("view {n}")).collect::<Vec<_>>();
        assert_eq!(LeftOut::of(names(2)).unwrap().to_string(), "view 0, view 1");
        let many = LeftOut::of(vec!["é".repeat(MAX_LEFT_OUT_BYTES); 500]).unwrap();
        assert_eq!((many.total, many.first.len()), (500, MAX_LEFT_OUT));
        assert!(many.first.iter().all(|name| name.len() <= MAX_LEFT_OUT_BYTES));
        assert!(many.to_string().ends_with(" and 490 more"));
    }

    #[test]
    fn counts_decide_the_outcome() {
        use DatabaseOutcome::{Failed, Skipped, Succeeded};
        let of = |outcomes: &[DatabaseOutcome]| {
            let databases: Vec<_> = outcomes.iter().map(|o| DatabaseReport::new("d", *o)).collect();
            DatabaseCount::of(&databases).outcome()
        };
        assert_eq!(of(&[Succeeded, Skipped]), Outcome::Succeeded);
        assert_eq!(of(&[Succeeded, Failed]), Outcome::PartiallyFailed);
        assert_eq!(of(&[Failed, Skipped]), Outcome::Failed);
        assert_eq!(of(&[Skipped]), Outcome::Failed);
    }
}
