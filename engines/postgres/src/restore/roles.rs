//! Other roles than those of the backup: what a database needs of roles then, and its own
//! properties with them. In the archive itself they are changed as it streams
//! ([`RoleChanges`]).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use dbbackup_contract::listed;

use super::Planned;
use super::merge::MergePlan;
use super::target::Target;
use crate::RestoreOptions;
use crate::archive::{NewOwner, RoleChanges, TocEntry};
use crate::database::{DatabaseProperties, Privilege, Setting};
use crate::globals::Globals;

/// Names that a warning lists; the rest is a number.
const NAMED: usize = 5;

/// Roles of the target that a database needs.
#[derive(Clone, Debug, Default)]
pub(super) struct NeededRoles {
    /// They own something; none where the restoring role does.
    pub(super) owners: BTreeSet<String>,
    /// They are named by privileges, policies, user mappings and settings.
    pub(super) named: BTreeSet<String>,
    /// Roles of the backup whose views, rules and functions act with the rights of the restoring role
    /// instead of theirs.
    lent: BTreeSet<String>,
    /// Roles of the backup whose default privileges do not become the restoring role's.
    defaults: BTreeSet<String>,
}

impl NeededRoles {
    pub(super) fn all(&self) -> BTreeSet<&str> {
        self.owners.iter().chain(&self.named).map(String::as_str).collect()
    }
}

/// The changes that are asked for; of the roles that there will be only those that there are.
pub(super) fn changes_of(options: &RestoreOptions, target: &Target) -> RoleChanges {
    let new_owner = || NewOwner { name: target.role.clone(), known: target.roles.clone() };
    RoleChanges { map: options.role_map.clone(), owner: options.no_owner.then(new_owner) }
}

/// What a database needs by its documents, and by its table of contents where that was read.
///
/// `owners` are those of its objects; a whole database needs every role that its contents refer to.
pub(super) fn needed_roles(
    properties: &DatabaseProperties,
    owners: &[String],
    entries: Option<&[&TocEntry]>,
    is_whole: bool,
    changes: &RoleChanges,
) -> NeededRoles {
    let of = |role: &str| changes.of(role, &properties.owner);
    let mut needed = NeededRoles::default();
    needed.named.extend(properties.granted_roles().map(of));
    needed
        .named
        .extend(entries.into_iter().flatten().flat_map(|entry| entry.roles.iter().cloned()));
    if let Some(new) = &changes.owner {
        for entry in entries.into_iter().flatten() {
            let Some(owner) = &entry.owner else { continue };
            if entry.acts_as_owner && *owner != new.name {
                needed.lent.insert(owner.clone());
            }
            if entry.description == "DEFAULT ACL"
                && !changes.take_defaults(owner, &properties.owner)
            {
                needed.defaults.insert(owner.clone());
            }
        }
        return needed;
    }
    if is_whole {
        needed.named.extend(properties.roles.iter().map(|role| of(role)));
    }
    needed.owners.extend(owners.iter().map(|role| of(role)));
    needed.owners.insert(of(&properties.owner));
    needed
}

/// The database's properties as the target gets them; what is left out is added to `left_out`.
fn changed_properties(
    properties: &DatabaseProperties,
    changes: &RoleChanges,
    target: &Target,
    left_out: &mut Vec<String>,
) -> DatabaseProperties {
    if !changes.any() {
        return properties.clone();
    }
    let old_owner = properties.owner.as_str();
    let owner = changes.of(old_owner, old_owner);
    let privileges = properties.privileges.as_ref().map(|privileges| {
        let changed = privileges.iter().filter_map(|privilege| {
            let grantee = privilege.grantee.as_ref().map(|role| changes.of(role, old_owner));
            let grantor = match &changes.owner {
                Some(new) => new.name.clone(),
                None => changes.of(&privilege.grantor, old_owner),
            };
            let is_known = grantee.as_ref().is_none_or(|role| changes.keeps(role));
            // Two roles may have become one: it has what it would give itself.
            let to_itself = grantee.as_ref() == Some(&grantor) && grantor != owner;
            (is_known && !to_itself).then(|| Privilege { grantee, grantor, ..privilege.clone() })
        });
        changed.collect()
    });
    let settings = properties.settings.iter().filter_map(|setting| {
        let role = setting.role.as_ref().map(|role| changes.of(role, old_owner));
        if role.as_ref().is_some_and(|role| !changes.keeps(role)) {
            return None;
        }
        // Whoever may own objects for nobody else may hardly set something for them.
        let foreign = changes.owner.is_some() && !target.superuser;
        if let Some(role) = role.as_ref().filter(|role| foreign && **role != target.role) {
            left_out.push(format!(
                "settings of role {role} in the database are left out: our role is no superuser"
            ));
            return None;
        }
        Some(Setting { role, ..setting.clone() })
    });
    let settings = settings.collect();
    DatabaseProperties { owner, privileges, settings, ..properties.clone() }
}

/// Once it is known which roles there will be: what of the databases' own is left out.
pub(super) fn settle_roles(
    changes: &mut RoleChanges,
    merge: Option<&MergePlan>,
    target: &Target,
    planned: &mut [Planned],
) {
    if let (Some(new), Some(merge)) = (&mut changes.owner, merge) {
        new.known.extend(merge.created.iter().cloned());
    }
    for Planned { wanted, report, .. } in planned {
        let mut left_out: Vec<_> = left_out_roles(&wanted.roles, changes).into_iter().collect();
        left_out.extend(left_out_defaults(&wanted.roles));
        left_out.extend(lent_rights(&wanted.roles, &wanted.layout.needs.owners, target));
        let properties = &wanted.document.properties;
        wanted.properties = changed_properties(properties, changes, target, &mut left_out);
        left_out.into_iter().for_each(|warning| report.warn(warning));
    }
}

/// Says of which roles nothing comes along, since the target lacks them.
fn left_out_roles(needed: &NeededRoles, changes: &RoleChanges) -> Option<String> {
    let missing = needed.named.iter().map(String::as_str);
    let missing: Vec<_> = missing.filter(|role| !changes.keeps(role)).collect();
    (!missing.is_empty()).then(|| {
        let names = listed(&missing, NAMED);
        format!("left out, because the target lacks them: what concerns the roles {names}")
    })
}

fn left_out_defaults(needed: &NeededRoles) -> Option<String> {
    let roles: Vec<_> = needed.defaults.iter().map(String::as_str).collect();
    (!roles.is_empty()).then(|| {
        let names = listed(&roles, NAMED);
        format!("left out: the default privileges of {names}, who did not own the database")
    })
}

/// Whoever may use them has rights then that nobody had by them: where all was one role's, and ours
/// is no superuser, it owns what that one owned, and no more.
fn lent_rights(needed: &NeededRoles, owners: &[String], target: &Target) -> Option<String> {
    let roles: Vec<_> = needed.lent.iter().map(String::as_str).collect();
    let is_more = target.superuser || owners.len() > 1;
    (is_more && !roles.is_empty()).then(|| {
        let names = listed(&roles, NAMED);
        let rights = if target.superuser { ", those of a superuser" } else { "" };
        format!(
            "views, rules, and functions with SECURITY DEFINER, of {names} act with the rights of role {}{rights}: \
             look who may use them before you let others in",
            target.role
        )
    })
}

/// The backup's roles without those that others stand for, and memberships in these others.
pub(super) fn changed_globals(globals: Globals, map: &BTreeMap<String, String>) -> Globals {
    let of = |role: &mut String| {
        if let Some(new) = map.get(role) {
            role.clone_from(new);
        }
    };
    let mut globals = globals;
    globals.roles.retain(|role| !map.contains_key(&role.name));
    for membership in &mut globals.memberships {
        of(&mut membership.role);
        of(&mut membership.member);
        membership.grantor.iter_mut().for_each(of);
    }
    // Two roles may have become one.
    let mut seen = HashSet::new();
    globals.memberships.retain(|it| {
        it.role != it.member
            && seen.insert((it.role.clone(), it.member.clone(), it.grantor.clone()))
    });
    globals.parameters.iter_mut().flat_map(|it| &mut it.grantee).for_each(of);
    globals
}
