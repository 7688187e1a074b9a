//! Roles of the backup that the target lacks: planned, then created in one
//! transaction. What exists is neither changed nor dropped.

use std::collections::{BTreeSet, HashSet};

use dbbackup_contract::{Failure, GlobalsReport};

use super::contents::Wanted;
use super::target::Target;
use crate::connection::Session;
use crate::globals::{Globals, Membership, Role};
use crate::sql::{ident, literal, set_clause};

/// What a merge does.
#[derive(Debug, Default)]
pub(super) struct MergePlan {
    /// Roles that are created.
    pub(super) created: HashSet<String>,
    /// Roles that exist and were meant.
    pub(super) kept: u32,
    statements: Vec<String>,
}

/// Plans the merge of the roles that `wanted` need, and of the roles that these
/// are members of; of all roles where the whole backup is restored.
pub(super) fn plan_merge(
    globals: &Globals,
    target: &Target,
    wanted: &[&Wanted],
    whole: bool,
) -> MergePlan {
    let mut meant: BTreeSet<&str> = BTreeSet::new();
    if whole {
        meant.extend(globals.roles.iter().map(|role| role.name.as_str()));
    } else {
        for database in wanted {
            meant.extend(database.layout.needs.owners.iter().map(String::as_str));
            meant.extend(database.document.properties.needed_roles());
        }
        while let more @ [_, ..] = &groups_of(globals, &meant)[..] {
            meant.extend(more);
        }
    }
    let roles = globals.roles.iter().filter(|role| meant.contains(role.name.as_str()));
    let (existing, missing): (Vec<&Role>, Vec<&Role>) =
        roles.partition(|role| target.roles.contains(&role.name));
    let created: HashSet<String> = missing.iter().map(|role| role.name.clone()).collect();
    let mut statements: Vec<_> = missing.iter().flat_map(|role| create_role(role)).collect();
    let exists = |role: &str| created.contains(role) || target.roles.contains(role);
    for membership in &globals.memberships {
        if created.contains(&membership.member) && exists(&membership.role) {
            statements.push(grant_membership(membership, target.major));
        }
    }
    let kept = u32::try_from(existing.len()).unwrap_or(u32::MAX);
    MergePlan { created, kept, statements }
}

/// Roles that `meant` are members of and that are not meant yet.
fn groups_of<'a>(globals: &'a Globals, meant: &BTreeSet<&str>) -> Vec<&'a str> {
    let of = globals.memberships.iter().filter(|m| meant.contains(m.member.as_str()));
    of.map(|m| m.role.as_str()).filter(|role| !meant.contains(role)).collect()
}

fn create_role(role: &Role) -> Vec<String> {
    let name = ident(&role.name);
    let flag = |set: bool, word: &str| format!(" {}{word}", if set { "" } else { "NO" });
    let mut create = format!("CREATE ROLE {name} WITH");
    create.push_str(&flag(role.superuser, "SUPERUSER"));
    create.push_str(&flag(role.inherit, "INHERIT"));
    create.push_str(&flag(role.create_role, "CREATEROLE"));
    create.push_str(&flag(role.create_database, "CREATEDB"));
    create.push_str(&flag(role.login, "LOGIN"));
    create.push_str(&flag(role.replication, "REPLICATION"));
    create.push_str(&flag(role.bypass_row_security, "BYPASSRLS"));
    create.push_str(&format!(" CONNECTION LIMIT {}", role.connection_limit));
    if let Some(password) = &role.password {
        create.push_str(&format!(" PASSWORD {}", literal(password)));
    }
    if let Some(until) = &role.valid_until {
        create.push_str(&format!(" VALID UNTIL {}", literal(until)));
    }
    let mut statements = vec![create];
    if let Some(comment) = &role.comment {
        statements.push(format!("COMMENT ON ROLE {name} IS {}", literal(comment)));
    }
    let clauses = role.settings.iter().filter_map(|setting| set_clause(setting));
    statements.extend(clauses.map(|clause| format!("ALTER ROLE {name} {clause}")));
    statements
}

fn grant_membership(membership: &Membership, target_major: u32) -> String {
    let mut sql = format!("GRANT {} TO {}", ident(&membership.role), ident(&membership.member));
    if target_major >= 16 {
        let mut options = vec![format!("ADMIN {}", membership.admin)];
        options.extend(membership.inherit.map(|inherit| format!("INHERIT {inherit}")));
        options.extend(membership.set.map(|set| format!("SET {set}")));
        sql.push_str(&format!(" WITH {}", options.join(", ")));
    } else if membership.admin {
        sql.push_str(" WITH ADMIN OPTION");
    }
    sql
}

/// Carries a merge out: all of it, or nothing.
pub(super) async fn apply_merge(
    session: &Session,
    plan: &MergePlan,
) -> Result<GlobalsReport, Failure> {
    let doing = "creating the roles of the backup";
    session.run("BEGIN", doing).await?;
    for statement in &plan.statements {
        if let Err(failure) = session.run(statement, doing).await {
            // The first failure is the one that counts.
            let _ = session.run("ROLLBACK", doing).await;
            return Err(failure);
        }
    }
    session.run("COMMIT", doing).await?;
    let created = u32::try_from(plan.created.len()).unwrap_or(u32::MAX);
    Ok(GlobalsReport { created, kept: plan.kept })
}
