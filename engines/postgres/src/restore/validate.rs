//! Whether a database can be restored, before anything is created.

use std::collections::HashSet;

use dbbackup_contract::{Failure, PlannedAction, Reason, listed};

use super::contents::Wanted;
use super::extensions::check_extensions;
use super::journal::{Refusal, Step, next_step};
use super::properties::create_options;
use super::roles::NeededRoles;
use super::scratch::Scratch;
use super::target::Target;
use crate::RestoreOptions;
use crate::archive::RoleChanges;
use crate::connection::Session;
use crate::errors::{failure_of_code, is_server_lost, query_failure};
use crate::sql::literal;
use crate::versions::{KNOWN_MAJORS, major_of};

/// Names that are shown in a message; the rest is a number.
pub(super) const NAMED: usize = 5;

/// Everything that could make the restore of `wanted` fail and can be known now; says what it
/// will do.
///
/// `created_roles` are those that the merge of globals will create.
pub(super) async fn validate(
    session: &Session,
    target: &Target,
    wanted: &Wanted,
    scratch: &Scratch,
    options: &RestoreOptions,
    changes: &RoleChanges,
    created_roles: &HashSet<String>,
) -> Result<PlannedAction, Failure> {
    check_versions(wanted)?;
    let looked = scratch.look(session).await?;
    let step = next_step(&looked, scratch.replaces(), &scratch.marks, false)
        .map_err(|refusal| refused(refusal, scratch))?;
    let is_placed = matches!(step, Step::Done | Step::DropReplaced);
    if let Some(replacing) = scratch.replacing.as_ref().filter(|_| !is_placed) {
        if options.is_continued && step == Step::Create && looked.target.is_some() {
            let message = format!(
                "nothing of this restore of {} is left on the server: it never began, or it is done",
                scratch.target
            );
            return Err(Failure::new(Reason::DatabaseExists, message).with_hint(
                "Look at the database; to replace it all the same, make another request.",
            ));
        }
        replacing.validate(session).await?;
    }
    check_new_roles(target, changes, created_roles)?;
    check_roles(target, &wanted.roles, changes, created_roles)?;
    check_tablespaces(target, wanted)?;
    check_extensions(session, target, wanted).await?;
    create_options(&wanted.document.properties, target.major)?;
    check_locale(session, wanted).await?;
    Ok(match looked.target {
        _ if is_placed => PlannedAction::Done,
        Some(_) => PlannedAction::Replace,
        None => PlannedAction::Create,
    })
}

/// What a refusal of the journal means.
pub(super) fn refused(refusal: Refusal, scratch: &Scratch) -> Failure {
    match refusal {
        Refusal::TargetExists => Failure::new(
            Reason::DatabaseExists,
            format!("database {} exists on the target", scratch.target),
        ),
        Refusal::KeptNameTaken => {
            let kept = scratch.replaced_name();
            let message = format!(
                "database {kept} exists on the target: it is the name under which the present {} would be kept",
                scratch.target
            );
            Failure::new(Reason::DatabaseExists, message)
                .with_hint("Rename or drop it, or make another request.")
        }
        Refusal::ScratchNotOurs => Failure::new(
            Reason::ScratchNotOurs,
            format!(
                "database {} stands in the way of the restore of {}, and was not made by it",
                scratch.name, scratch.target
            ),
        ),
    }
}

/// What wrote the backup must be known. That the target is older is no reason
/// to refuse: most of what is in a database is the same on every major.
fn check_versions(wanted: &Wanted) -> Result<(), Failure> {
    let newest = KNOWN_MAJORS.end();
    let layout = &wanted.layout;
    for version in [&layout.server_version, &layout.client_version] {
        match major_of(version) {
            Some(major) if major <= *newest => {}
            Some(major) => {
                let message = format!(
                    "the backup is of PostgreSQL {major}, this release knows up to {newest}"
                );
                return Err(Failure::new(Reason::VersionUnsupported, message)
                    .with_hint("Use the release that wrote the backup, or a newer one."));
            }
            None => {
                let message = format!("the archive names {version:?} as a version of PostgreSQL");
                return Err(Failure::new(Reason::ArchiveUnsupported, message));
            }
        }
    }
    Ok(())
}

/// Roles that are to stand for others must be there, whether anything is of those or not.
fn check_new_roles(
    target: &Target,
    changes: &RoleChanges,
    created_roles: &HashSet<String>,
) -> Result<(), Failure> {
    let new = changes.map.iter();
    let missing = new.filter(|(_, new)| !is_there(target, created_roles, new));
    let missing: Vec<_> = missing.map(|(old, new)| format!("{new} (for {old})")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message =
        format!("the target lacks roles that stand for others: {}", listed(&missing, NAMED));
    Err(Failure::new(Reason::RoleNotFound, message)
        .with_hint("Create them, or name roles that there are."))
}

fn is_there(target: &Target, created_roles: &HashSet<String>, role: &str) -> bool {
    target.roles.contains(role) || created_roles.contains(role)
}

fn check_roles(
    target: &Target,
    needed: &NeededRoles,
    changes: &RoleChanges,
    created_roles: &HashSet<String>,
) -> Result<(), Failure> {
    // What names a role that the target lacks is left out then.
    if changes.owner.is_some() {
        return Ok(());
    }
    let owners: Vec<_> = needed.owners.iter().map(String::as_str).collect();
    let missing: Vec<_> =
        needed.all().into_iter().filter(|role| !is_there(target, created_roles, role)).collect();
    // Nobody can create those: a server has them, or is too old.
    let predefined: Vec<_> =
        missing.iter().copied().filter(|role| role.starts_with("pg_")).collect();
    if !predefined.is_empty() {
        let (roles, major) = (listed(&predefined, NAMED), target.major);
        let message =
            format!("PostgreSQL {major} has no role {roles}, which the database refers to");
        return Err(Failure::new(Reason::VersionUnsupported, message).with_hint(
            "Restore to a server of the backup's own major version, or take what that role was \
             given from it and back up again.",
        ));
    }
    if !missing.is_empty() {
        let message = format!("the target lacks the roles {}", listed(&missing, NAMED));
        return Err(Failure::new(Reason::RoleNotFound, message));
    }
    if target.superuser {
        return Ok(());
    }
    let foreign: Vec<_> =
        owners.into_iter().filter(|role| !target.own_roles.contains(*role)).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let message = format!("our role may not make objects for {}", listed(&foreign, NAMED));
    Err(Failure::new(Reason::PermissionDenied, message)
        .with_hint("Make the restoring role a member of these roles, or use a superuser."))
}

fn check_tablespaces(target: &Target, wanted: &Wanted) -> Result<(), Failure> {
    let own = [&wanted.document.properties.tablespace];
    let needed = wanted.layout.needs.tablespaces.iter().chain(own);
    let missing: Vec<_> = needed
        .map(String::as_str)
        .filter(|tablespace| !target.tablespaces.contains(*tablespace))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("the target lacks the tablespaces {}", listed(&missing, NAMED));
    Err(Failure::new(Reason::TablespaceNotFound, message))
}

/// Asks the server whether it has the locales, by using them in a transaction
/// that is taken back.
async fn check_locale(session: &Session, wanted: &Wanted) -> Result<(), Failure> {
    let properties = &wanted.document.properties;
    let plain = |locale: &str| matches!(locale, "C" | "POSIX");
    if !plain(&properties.collate) || !plain(&properties.ctype) {
        let definition = format!(
            "LC_COLLATE = {}, LC_CTYPE = {}",
            literal(&properties.collate),
            literal(&properties.ctype)
        );
        let shown = format!("{} (character types {})", properties.collate, properties.ctype);
        // Undefined object: the operating system has no such locale.
        probe(session, &temporary_collation(&definition), &shown, &["42704"]).await?;
    }
    if let Some(locale) = &wanted.document.unwritten.lc_monetary {
        let setting = format!("SET LOCAL lc_monetary = {}", literal(locale));
        let shown = format!("{locale}, in which the backup's amounts of money are written");
        probe(session, &setting, &shown, &["22023"]).await?;
    }
    let provider = match properties.locale_provider.as_str() {
        "i" => "icu",
        "b" => "builtin",
        _ => return Ok(()),
    };
    let locale = properties.locale.as_deref().unwrap_or_default();
    let mut definition = format!("PROVIDER = {provider}, LOCALE = {}", literal(locale));
    if let Some(rules) = &properties.icu_rules {
        definition.push_str(&format!(", RULES = {}", literal(rules)));
    }
    let shown = format!("{locale:?} of the provider {provider}");
    // And: wrong kind of object, wrong value, a server built without the provider.
    let codes = ["42704", "42809", "22023", "0A000"];
    probe(session, &temporary_collation(&definition), &shown, &codes).await
}

fn temporary_collation(definition: &str) -> String {
    format!("CREATE COLLATION pg_temp.dbbackup_probe ({definition})")
}

/// Tries a statement; `codes` are the server's words for a locale that it has not.
///
/// What else may fail here (another encoding, no right to temporary objects)
/// says nothing about the locale.
async fn probe(session: &Session, sql: &str, shown: &str, codes: &[&str]) -> Result<(), Failure> {
    let doing = "asking the target for the locale";
    session.run("BEGIN", doing).await?;
    let probed = session.batch_execute(sql).await;
    session.run("ROLLBACK", doing).await?;
    let Err(error) = probed else { return Ok(()) };
    let lacks = error.as_db_error().is_some_and(|db| {
        codes.contains(&db.code().code()) && !db.message().to_lowercase().contains("encoding")
    });
    if lacks {
        let message = format!("the target has no locale {shown}");
        return Err(Failure::new(Reason::LocaleNotAvailable, message));
    }
    match query_failure(&error, doing) {
        lost if is_server_lost(lost.reason) => Err(lost),
        _ => Ok(()),
    }
}

/// A failure of `CREATE DATABASE`: there, every unknown object is a locale.
pub(super) fn create_failure(failure: Failure) -> Failure {
    let locale = ["LC_COLLATE", "LC_CTYPE", "locale", "ICU"];
    if failure.reason == Reason::StatementFailed
        && locale.iter().any(|word| failure.message.contains(word))
    {
        return failure_of_code("42704", "locale", failure.message);
    }
    failure
}
