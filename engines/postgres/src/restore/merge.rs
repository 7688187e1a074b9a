//! Roles of the backup that the target lacks: planned, then created in one
//! transaction. What exists is neither changed nor dropped.

use std::collections::{BTreeSet, HashSet};

use dbbackup_contract::{Failure, GlobalsReport};

use super::contents::Wanted;
use super::memberships::plan_memberships;
use super::statements::{End, Statement, run_all};
use super::target::Target;
use crate::connection::Session;
use crate::globals::{Globals, ParameterPrivilege, Role};
use crate::sql::{ident, literal, set_clause};

/// What a merge does.
#[derive(Debug, Default)]
pub(super) struct MergePlan {
    /// Roles that are created.
    pub(super) created: HashSet<String>,
    /// Roles that exist and were meant.
    pub(super) kept: u32,
    /// What the created roles had and the target's major has no place for.
    left_out: Vec<String>,
    statements: Vec<Statement>,
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
            meant.extend(database.roles.all());
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
    let mut left_out = Vec::new();
    statements.extend(plan_memberships(globals, &created, target, &mut left_out));
    statements.extend(plan_parameters(globals, &created, target, &mut left_out));
    let kept = u32::try_from(existing.len()).unwrap_or(u32::MAX);
    MergePlan { created, kept, left_out, statements }
}

/// Roles that `meant` are members of and that are not meant yet.
fn groups_of<'a>(globals: &'a Globals, meant: &BTreeSet<&str>) -> Vec<&'a str> {
    let of = globals.memberships.iter().filter(|m| meant.contains(m.member.as_str()));
    of.map(|m| m.role.as_str()).filter(|role| !meant.contains(role)).collect()
}

fn create_role(role: &Role) -> Vec<Statement> {
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
    let mut statements: Vec<Statement> = vec![create.into()];
    if let Some(comment) = &role.comment {
        statements.push(format!("COMMENT ON ROLE {name} IS {}", literal(comment)).into());
    }
    for (setting, clause) in role.settings.iter().filter_map(|setting| set_clause(setting)) {
        let what = format!("setting {setting} of role {}", role.name);
        statements.push(Statement::setting(format!("ALTER ROLE {name} {clause}"), what));
    }
    statements
}

/// Rights of the created roles to set parameters.
fn plan_parameters(
    globals: &Globals,
    created: &HashSet<String>,
    target: &Target,
    left_out: &mut Vec<String>,
) -> Vec<Statement> {
    let mut statements = Vec::new();
    for ParameterPrivilege { parameter, grantee, privilege, grantable, .. } in &globals.parameters {
        // The server knows two, by these names; anything else is not pasted.
        let privilege = match privilege.as_str() {
            "SET" => "SET",
            "ALTER SYSTEM" => "ALTER SYSTEM",
            _ => continue,
        };
        let Some(grantee) = grantee else {
            left_out.push(format!(
                "{privilege} on parameter {parameter} for PUBLIC is left out: it would concern \
                 roles of the target that are not restored"
            ));
            continue;
        };
        if !created.contains(grantee) {
            continue;
        }
        let what = format!("{privilege} on parameter {parameter} for role {grantee}");
        if target.major < 15 {
            left_out.push(target.lacks(&what));
            continue;
        }
        let name: Vec<_> = parameter.split('.').map(ident).collect();
        let option = if *grantable { " WITH GRANT OPTION" } else { "" };
        let grant = format!(
            "GRANT {privilege} ON PARAMETER {} TO {}{option}",
            name.join("."),
            ident(grantee)
        );
        statements.push(Statement::setting(grant, what));
    }
    statements
}

/// Carries a merge out: all of it, or nothing. What was left out is a warning.
pub(super) async fn apply_merge(
    session: &Session,
    plan: &MergePlan,
) -> Result<GlobalsReport, Failure> {
    let doing = "creating the roles of the backup";
    let not_taken = run_all(session, &plan.statements, End::Commit, doing).await?;
    let created = u32::try_from(plan.created.len()).unwrap_or(u32::MAX);
    let mut report = GlobalsReport { created, kept: plan.kept, ..GlobalsReport::default() };
    for warning in plan.left_out.iter().cloned().chain(not_taken) {
        tracing::warn!("{warning}");
        report.warn(warning);
    }
    Ok(report)
}
