//! What a restore is going to do, before it does it: each database is validated, and what becomes
//! of it is told; and what an earlier attempt has done.

use std::collections::HashSet;

use dbbackup_contract::{
    Assertion, DatabaseOutcome, DatabaseReport, Failure, LeftOut, PlanTerms, PlannedAction,
    PlannedDatabase, Reason, ReplacedDatabase, RestorePlan, listed,
};
use dbbackup_engine::BackupSource;
use tokio_util::sync::CancellationToken;

use super::contents::{Part, Wanted, find_wanted};
use super::merge::MergePlan;
use super::scratch::Scratch;
use super::target::Target;
use super::validate::validate;
use crate::archive::RoleChanges;
use crate::connection::Session;
use crate::errors::is_server_lost;
use crate::server::Server;
use crate::watch::Guard;
use crate::{PlacedDatabase, RestoreOptions, Strategy};

/// Names that a warning lists; the rest is a number.
const NAMED: usize = 5;

/// One database of the restore, and what is known of it so far.
pub(super) struct Planned {
    pub(super) wanted: Wanted,
    pub(super) scratch: Scratch,
    pub(super) action: PlannedAction,
    pub(super) replaces: Option<ReplacedDatabase>,
    pub(super) assertions: Vec<Assertion>,
    pub(super) report: DatabaseReport,
}

impl Planned {
    pub(super) fn fail(&mut self, failure: Failure) {
        self.action = PlannedAction::Refuse;
        self.report.outcome = DatabaseOutcome::Failed;
        self.report.error = Some(failure);
    }

    pub(super) fn refused(&self) -> Option<(String, Failure)> {
        let error = self.report.error.as_ref().filter(|_| self.action == PlannedAction::Refuse);
        Some((self.wanted.name.clone(), error?.clone()))
    }

    pub(super) fn goes_on(&self) -> bool {
        self.report.error.is_none() && self.report.outcome != DatabaseOutcome::Skipped
    }
}

/// A database that was not looked at yet.
pub(super) fn plan(options: &RestoreOptions, wanted: Wanted) -> Planned {
    let mut report = DatabaseReport::new(&wanted.name, DatabaseOutcome::Failed);
    report.as_name = (wanted.target != wanted.name).then(|| wanted.target.clone());
    report.bytes = wanted.layout.bytes();
    report.tables = wanted.layout.tables().count() as u64;
    report.rows = wanted.layout.rows();
    let scratch = Scratch::new(&options.request_uid, &wanted.target, &options.strategy);
    if let Some(Part { left_out, without_rows, .. }) = &wanted.part {
        report.left_out = LeftOut::of(left_out.clone());
        if !without_rows.is_empty() {
            let names = listed(without_rows, NAMED);
            report.warn(format!(
                "without their rows, because what comes back is made of them: {names}"
            ));
        }
    }
    let ours = options.assertions.iter().filter(|it| it.database == wanted.name);
    let refusal = wanted.refusal.clone().or_else(|| part_in_place(options, &wanted));
    let mut planned = Planned {
        assertions: ours.cloned().collect(),
        wanted,
        scratch,
        action: PlannedAction::Refuse,
        replaces: None,
        report,
    };
    if let Some(refusal) = refusal {
        planned.fail(refusal);
    }
    planned
}

/// A part of a database must not take the place of the whole.
fn part_in_place(options: &RestoreOptions, wanted: &Wanted) -> Option<Failure> {
    wanted.part.as_ref()?;
    match options.strategy {
        Strategy::CreateNew => return None,
        Strategy::Overwrite(_) if wanted.target != wanted.name => return None,
        Strategy::Swap(_) | Strategy::Overwrite(_) => {}
    }
    let message = format!(
        "only a part of {} would take the place of database {}",
        wanted.name, wanted.target
    );
    Some(Failure::new(Reason::InvalidSpec, message).with_hint(
        "Restore schemas and tables beside the live database, under another name (`as`), with \
         CreateNew; then copy the rows back.",
    ))
}

/// Before anything is created: one that is refused keeps all others from being begun.
pub(super) fn stop_where_one_is_refused(planned: &mut [Planned]) {
    let Some(refused) = planned.iter().find(|planned| planned.report.error.is_some()) else {
        return;
    };
    let name = refused.wanted.name.clone();
    // What an attempt before this one has put in place is there.
    let not_done = |it: &&mut Planned| it.goes_on() && it.action != PlannedAction::Done;
    planned.iter_mut().filter(not_done).for_each(|planned| planned.fail(not_begun(&name)));
}

pub(super) fn not_begun(failed: &str) -> Failure {
    Failure::new(Reason::NotBegun, format!("it was not begun, since {failed} has failed"))
}

/// Whether it is the database that every server has, and of which the backup holds nothing.
fn is_the_servers_own(wanted: &Wanted) -> bool {
    wanted.name == "postgres" && wanted.layout.needs.objects == 0
}

/// Names that were cut to fit may have become the same.
pub(super) fn refuse_one_name_for_two(planned: &mut [Planned]) {
    let mut names = HashSet::new();
    for planned in planned {
        let Some(replacing) = &planned.scratch.replacing else { continue };
        if !names.insert(replacing.name.clone()) {
            let message = format!("two databases would be kept under the name {}", replacing.name);
            let failure = Failure::new(Reason::DatabaseExists, message);
            planned.fail(failure.with_hint("Restore them by two requests."));
        }
    }
}

/// Validates every database before the first is created.
pub(super) async fn validate_all(
    guard: &Guard<'_>,
    options: &RestoreOptions,
    session: &Session,
    target: &Target,
    planned: &mut [Planned],
    merge: Option<&MergePlan>,
    changes: &RoleChanges,
) -> Result<(), Failure> {
    let none = HashSet::new();
    let created_roles = merge.map_or(&none, |plan| &plan.created);
    for planned in planned.iter_mut().filter(|planned| planned.goes_on()) {
        let what =
            format!("the server to be asked for what database {} needs", planned.wanted.name);
        guard.waiting_for(what);
        if let Some(replacing) = &mut planned.scratch.replacing {
            replacing.recognise(session).await?;
        }
        let Planned { wanted, scratch, .. } = &*planned;
        let validated =
            validate(session, target, wanted, scratch, options, changes, created_roles).await;
        let stands = match &validated {
            Ok(action) => *action == PlannedAction::Replace,
            Err(failure) => {
                matches!(failure.reason, Reason::DatabaseExists | Reason::DatabaseInUse)
            }
        };
        if stands && options.is_of_all() && is_the_servers_own(wanted) {
            planned.action = PlannedAction::Skip;
            planned.report.outcome = DatabaseOutcome::Skipped;
            continue;
        }
        match validated {
            Ok(action) => {
                if let (PlannedAction::Replace, Some(replacing)) = (action, &scratch.replacing) {
                    planned.replaces = Some(replacing.describe(session).await?);
                }
                planned.action = action;
            }
            Err(failure) if is_server_lost(failure.reason) => return Err(failure),
            Err(failure) => {
                let is_in_use = failure.reason == Reason::DatabaseInUse;
                planned.fail(failure);
                // Who is connected changes by itself, and is no part of what is approved.
                if let (true, Some(replacing)) = (is_in_use, &planned.scratch.replacing) {
                    planned.replaces = Some(replacing.describe(session).await?);
                    planned.action = PlannedAction::Replace;
                }
            }
        }
    }
    Ok(())
}

/// The plan, once every database was validated.
pub(super) fn tell(
    options: &RestoreOptions,
    server: &Server,
    planned: &[Planned],
    merge: Option<&MergePlan>,
) -> RestorePlan {
    let databases = planned.iter().map(|planned| PlannedDatabase {
        name: planned.report.name.clone(),
        as_name: planned.report.as_name.clone(),
        action: planned.action,
        bytes: planned.report.bytes,
        tables: planned.report.tables,
        replaces: planned.replaces.clone(),
        warnings: planned.report.warnings.clone(),
        left_out: planned.report.left_out.clone(),
        error: planned.report.error.clone(),
    });
    let missing = options.missing.iter().map(|missing| PlannedDatabase {
        name: missing.name.clone(),
        as_name: None,
        action: PlannedAction::Refuse,
        bytes: 0,
        tables: 0,
        replaces: None,
        warnings: Vec::new(),
        left_out: None,
        error: missing.error.clone(),
    });
    let databases = databases.chain(missing);
    let created_roles = merge.into_iter().flat_map(|plan| &plan.created).cloned();
    let identity = &server.identity;
    let terms = PlanTerms {
        no_owner: options.no_owner,
        role_map: Some(&options.role_map).filter(|map| !map.is_empty()),
        parts: options.databases.iter().filter(|database| database.is_part()).collect(),
    };
    let (databases, created_roles) = (databases.collect(), created_roles.collect());
    RestorePlan::new(&options.snapshot, identity, &terms, databases, created_roles)
}

/// What a restore of these options puts in place when nothing fails, for [`crate::settle`]: where
/// it is known that it was carried out, and nobody has settled it.
///
/// # Errors
/// What the source says.
pub async fn placed(
    options: &RestoreOptions,
    source: &dyn BackupSource,
    cancel: &CancellationToken,
) -> Result<Vec<PlacedDatabase>, Failure> {
    let guard = Guard::new(&options.server, cancel);
    let contents = find_wanted(source, &options.databases, guard.activity());
    let wanted = guard.wait(contents).await?;
    let placed = wanted.into_iter().map(|wanted| PlacedDatabase {
        name: wanted.target,
        comment: wanted.document.properties.comment,
    });
    Ok(placed.collect())
}
