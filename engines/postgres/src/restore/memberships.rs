//! Memberships of created roles, by the rules of the target's major.
//!
//! From 16 on a membership has options of its own (INHERIT, SET) and a grantor
//! that must hold ADMIN; before, it always lets the member act as the role, and
//! the member's own INHERIT decides. What an older target cannot say is left
//! out and told: saying it in part would give the member more than it had.

use std::collections::{HashMap, HashSet};

use super::statements::Statement;
use super::target::Target;
use crate::globals::{Globals, Membership};
use crate::sql::ident;

/// Statements that give `created` roles their memberships, in an order that works.
pub(super) fn plan_memberships(
    globals: &Globals,
    created: &HashSet<String>,
    target: &Target,
    left_out: &mut Vec<String>,
) -> Vec<Statement> {
    let inherits: HashMap<_, _> =
        globals.roles.iter().map(|role| (role.name.as_str(), role.inherit)).collect();
    let mut pending = Vec::new();
    for membership in globals.memberships.iter().filter(|m| created.contains(&m.member)) {
        let Membership { role, member, .. } = membership;
        let what = format!("membership of role {member} in {role}");
        if !created.contains(role) && !target.roles.contains(role) {
            left_out.push(target.lacks(&what));
        } else if target.major < 16 && has_options(membership, inherits.get(member.as_str())) {
            left_out.push(target.lacks(&format!("{what} with INHERIT and SET of its own")));
        } else {
            pending.push(membership);
        }
    }
    let by_admins = target.major >= 16 && target.superuser;
    let admins: HashSet<_> = pending.iter().filter(|m| m.admin).map(|m| held(m)).collect();
    let mut given: HashSet<(&str, &str)> = HashSet::new();
    let mut statements = Vec::new();
    while !pending.is_empty() {
        let before = pending.len();
        let mut waiting = Vec::new();
        for membership in pending {
            // Who granted it, where that one's right to do so is granted here, too.
            // Elsewhere the target's superuser stands for the source's.
            let grantor = membership.grantor.as_deref().filter(|grantor| {
                by_admins
                    && membership.set.is_some()
                    && admins.contains(&(&membership.role, *grantor))
            });
            if grantor.is_some_and(|grantor| !given.contains(&(&membership.role, grantor))) {
                waiting.push(membership);
                continue;
            }
            statements.push(grant(membership, target.major, grantor).into());
            if membership.admin {
                given.insert(held(membership));
            }
        }
        if waiting.len() == before {
            // A circle, which no server has: better granted by us than not at all.
            statements.extend(waiting.iter().map(|m| grant(m, target.major, None).into()));
            break;
        }
        pending = waiting;
    }
    statements
}

fn held(membership: &Membership) -> (&str, &str) {
    (&membership.role, &membership.member)
}

/// Whether it says what a membership before 16 cannot.
fn has_options(membership: &Membership, member_inherits: Option<&bool>) -> bool {
    let inherits = membership.inherit.is_none_or(|inherit| Some(&inherit) == member_inherits);
    !inherits || membership.set == Some(false)
}

fn grant(membership: &Membership, target_major: u32, grantor: Option<&str>) -> String {
    let mut sql = format!("GRANT {} TO {}", ident(&membership.role), ident(&membership.member));
    if target_major >= 16 {
        let mut options = vec![format!("ADMIN {}", membership.admin)];
        options.extend(membership.inherit.map(|inherit| format!("INHERIT {inherit}")));
        options.extend(membership.set.map(|set| format!("SET {set}")));
        sql.push_str(&format!(" WITH {}", options.join(", ")));
    } else if membership.admin {
        sql.push_str(" WITH ADMIN OPTION");
    }
    if let Some(grantor) = grantor {
        sql.push_str(&format!(" GRANTED BY {}", ident(grantor)));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::globals::Role;

    fn role(name: &str, inherit: bool) -> Role {
        Role {
            name: name.into(),
            superuser: false,
            inherit,
            create_role: false,
            create_database: false,
            login: false,
            replication: false,
            bypass_row_security: false,
            connection_limit: -1,
            valid_until: None,
            password: None,
            comment: None,
            settings: vec![],
        }
    }

    /// `role member grantor`, and options: `admin`, `inherit`, `set` (of 16 and later).
    fn membership(text: &str) -> Membership {
        let words: Vec<_> = text.split(' ').collect();
        let option = |name: &str| words[3..].contains(&name);
        Membership {
            role: words[0].into(),
            member: words[1].into(),
            grantor: Some(words[2].into()),
            admin: option("admin"),
            inherit: Some(option("inherit")),
            set: Some(option("set")),
        }
    }

    fn target(major: u32) -> Target {
        let roles = ["postgres", "pg_monitor"].map(str::to_owned).into();
        Target { major, superuser: true, roles, ..Target::default() }
    }

    fn plan(memberships: &[Membership], major: u32) -> (Vec<String>, Vec<String>) {
        let globals = Globals {
            roles: vec![role("a", true), role("b", true), role("c", false), role("staff", true)],
            memberships: memberships.to_vec(),
            ..Globals::default()
        };
        let created = globals.roles.iter().map(|role| role.name.clone()).collect();
        let mut left_out = Vec::new();
        let statements = plan_memberships(&globals, &created, &target(major), &mut left_out);
        (statements.into_iter().map(|statement| statement.sql).collect(), left_out)
    }

    #[test]
    fn a_grantor_is_given_its_right_first() {
        let memberships =
            ["staff a b inherit set", "staff b c admin inherit set", "staff c postgres admin"]
                .map(membership);
        let (statements, left_out) = plan(&memberships, 16);
        assert_eq!(
            statements,
            [
                "GRANT \"staff\" TO \"c\" WITH ADMIN true, INHERIT false, SET false",
                "GRANT \"staff\" TO \"b\" WITH ADMIN true, INHERIT true, SET true GRANTED BY \"c\"",
                "GRANT \"staff\" TO \"a\" WITH ADMIN false, INHERIT true, SET true GRANTED BY \"b\"",
            ]
        );
        assert!(left_out.is_empty());
    }

    #[test]
    fn an_older_target_gives_no_member_more_than_it_had() {
        let memberships = [
            "staff a postgres inherit set",
            "staff b postgres set",
            "staff c postgres admin set",
            "a b postgres inherit",
            "pg_monitor a postgres inherit set",
            "pg_maintain a postgres inherit set",
        ]
        .map(membership);
        let (statements, left_out) = plan(&memberships, 15);
        assert_eq!(
            statements,
            [
                "GRANT \"staff\" TO \"a\"",
                "GRANT \"staff\" TO \"c\" WITH ADMIN OPTION",
                "GRANT \"pg_monitor\" TO \"a\"",
            ]
        );
        assert_eq!(
            left_out,
            [
                "membership of role b in staff with INHERIT and SET of its own is left out: \
                 PostgreSQL 15 has no such thing",
                "membership of role b in a with INHERIT and SET of its own is left out: \
                 PostgreSQL 15 has no such thing",
                "membership of role a in pg_maintain is left out: PostgreSQL 15 has no such thing",
            ]
        );
        // What an older server wrote has no options, and the newer one's defaults are the same.
        let old = Membership { inherit: None, set: None, ..membership("staff a b admin") };
        let (statements, _) = plan(&[old], 17);
        assert_eq!(statements, ["GRANT \"staff\" TO \"a\" WITH ADMIN true"]);
    }
}
