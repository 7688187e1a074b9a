//! What a restore will do, told before it does it.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Failure, LeftOut, MAX_REPORTED_DATABASES, RestoreDatabase};

/// What a restore is going to do. Who approves of its digest approves of just that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RestorePlan {
    /// `sha256:` and a digest of the snapshot, the server, and what becomes of which database.
    #[cfg_attr(feature = "schema", schemars(length(max = 71)))]
    pub digest: String,
    /// When it was made.
    pub time: Timestamp,
    /// Databases in all.
    pub total: u32,
    /// The databases: at most 100, those that are refused first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 100)))]
    pub databases: Vec<PlannedDatabase>,
    /// Roles that will be created: the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 100), inner(length(max = 256))))]
    pub created_roles: Vec<String>,
}

/// How a restore was asked for, beside names: the plan's digest has it, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanTerms<'a> {
    /// Whether the restoring role takes the place of the owners.
    pub no_owner: bool,
    /// Roles of the target by the roles of the backup that they stand for.
    pub role_map: Option<&'a BTreeMap<String, String>>,
    /// Databases of which only a part is restored, and which part.
    pub parts: Vec<&'a RestoreDatabase>,
}

/// What becomes of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PlannedDatabase {
    /// Its name in the snapshot.
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub name: String,
    /// Its name on the target, where it gets another one.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub as_name: Option<String>,
    /// What is done.
    pub action: PlannedAction,
    /// Bytes of its dump.
    #[serde(default)]
    pub bytes: u64,
    /// Tables with rows of their own.
    #[serde(default)]
    pub tables: u64,
    /// The database that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ReplacedDatabase>,
    /// What will not be as it was on the server: at most 8 sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(length(max = 8), inner(length(max = 256))))]
    pub warnings: Vec<String>,
    /// What is left out, where only a part of it is restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Why it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What a restore does about one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PlannedAction {
    /// It cannot be restored.
    Refuse,
    /// It takes the place of one that exists.
    Replace,
    /// It is created.
    Create,
    /// It is in place: an attempt before this one has done it.
    Done,
    /// Nothing: it exists on the server, and holds nothing in the backup.
    Skip,
}

/// A database that gives way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReplacedDatabase {
    /// What the server knows it by: another one of the same name has another.
    #[cfg_attr(feature = "schema", schemars(with = "i64"))]
    pub oid: u32,
    /// The name under which it is kept; absent, it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 256)))]
    pub kept_as: Option<String>,
    /// Its size, in bytes.
    #[serde(default)]
    pub size_bytes: u64,
    /// Sessions that are connected to it.
    #[serde(default)]
    pub sessions: u32,
}

impl RestorePlan {
    /// The plan of a restore of `snapshot` to `server`, which is that server's own identity.
    #[must_use]
    pub fn new(
        snapshot: &str,
        server: &str,
        terms: &PlanTerms<'_>,
        mut databases: Vec<PlannedDatabase>,
        mut created_roles: Vec<String>,
    ) -> Self {
        databases.sort_by(|a, b| (a.action, &a.name).cmp(&(b.action, &b.name)));
        created_roles.sort_unstable();
        let decisive: Vec<_> = databases.iter().map(PlannedDatabase::decisive).collect();
        // Names and numbers always become JSON.
        let json = match *terms == PlanTerms::default() {
            true => serde_json::to_vec(&(snapshot, server, decisive)),
            false => serde_json::to_vec(&(snapshot, server, decisive, terms)),
        };
        let digest = HEXLOWER.encode(&Sha256::digest(json.unwrap_or_default()));
        let total = u32::try_from(databases.len()).unwrap_or(u32::MAX);
        databases.truncate(MAX_REPORTED_DATABASES);
        created_roles.truncate(MAX_REPORTED_DATABASES);
        Self {
            digest: format!("sha256:{digest}"),
            time: Timestamp::now(),
            total,
            databases,
            created_roles,
        }
    }
}

impl PlannedDatabase {
    /// Its name on the target.
    #[must_use]
    pub fn target_name(&self) -> &str {
        self.as_name.as_deref().unwrap_or(&self.name)
    }

    /// What of it the plan's digest has: nothing that changes while nobody decides anything, nor
    /// what an attempt of the restore changes. Which roles are missing is neither.
    fn decisive(&self) -> Self {
        let replaces = self.replaces.clone();
        Self {
            replaces: replaces.map(|it| ReplacedDatabase { size_bytes: 0, sessions: 0, ..it }),
            error: None,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    fn replacing(name: &str, oid: u32, sessions: u32) -> PlannedDatabase {
        let kept_as = Some(format!("{name}_before_20261120t081200z"));
        PlannedDatabase {
            name: name.to_owned(),
            as_name: None,
            action: PlannedAction::Replace,
            bytes: 1,
            tables: 1,
            replaces: Some(ReplacedDatabase { oid, kept_as, size_bytes: 5, sessions }),
            warnings: Vec::new(),
            left_out: None,
            error: None,
        }
    }

    fn digest(databases: Vec<PlannedDatabase>, roles: &[&str]) -> String {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        RestorePlan::new("s", "7", &PlanTerms::default(), databases, roles).digest
    }

    #[test]
    fn a_digest_stands_for_what_is_decided_and_for_nothing_that_changes_by_itself() {
        let one = digest(vec![replacing("a", 1, 0), replacing("b", 2, 0)], &["x", "y"]);
        assert_eq!(one.len(), "sha256:".len() + 64);
        let same = [replacing("b", 2, 9), replacing("a", 1, 3)];
        assert_eq!(one, digest(same.to_vec(), &["y"]));
        let dropped = |mut database: PlannedDatabase| {
            database.replaces.iter_mut().for_each(|replaced| replaced.kept_as = None);
            database
        };
        let refused = |database| PlannedDatabase { action: PlannedAction::Refuse, ..database };
        for (databases, roles) in [
            (vec![replacing("a", 1, 0)], vec!["x", "y"]),
            (vec![replacing("a", 1, 0), replacing("b", 3, 0)], vec!["x", "y"]),
            (vec![replacing("a", 1, 0), dropped(replacing("b", 2, 0))], vec!["x", "y"]),
            (vec![replacing("a", 1, 0), refused(replacing("b", 2, 0))], vec!["x", "y"]),
        ] {
            assert_ne!(one, digest(databases, &roles));
        }
        let map = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let none = PlanTerms::default();
        let part = RestoreDatabase {
            name: "a".to_owned(),
            as_name: None,
            schemas: vec!["b".to_owned()],
            tables: Vec::new(),
        };
        for (snapshot, server, terms) in [
            ("s", "8", &none),
            ("t", "7", &none),
            ("s", "7", &PlanTerms { no_owner: true, ..none.clone() }),
            ("s", "7", &PlanTerms { role_map: Some(&map), ..none.clone() }),
            ("s", "7", &PlanTerms { parts: vec![&part], ..none.clone() }),
        ] {
            let other = RestorePlan::new(snapshot, server, terms, vec![], vec![]).digest;
            assert_ne!(other, digest(vec![], &[]));
        }
    }

    #[test]
    fn what_is_refused_is_shown_first_and_what_has_no_room_counts_all_the_same() {
        let mut databases: Vec<_> =
            (0..150).map(|n| replacing(&format!("d{n:03}"), n, 0)).collect();
        databases.push(PlannedDatabase {
            action: PlannedAction::Refuse,
            error: Some(Failure::new(Reason::DatabaseExists, "x")),
            ..replacing("zz", 999, 0)
        });
        let plan =
            |databases| RestorePlan::new("s", "7", &PlanTerms::default(), databases, Vec::new());
        let told = plan(databases.clone());
        assert_eq!((told.total, told.databases.len()), (151, MAX_REPORTED_DATABASES));
        assert_eq!(told.databases[0].name, "zz");
        databases[149].name = "other".to_owned();
        assert_ne!(told.digest, plan(databases).digest);
    }
}
