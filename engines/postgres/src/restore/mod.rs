//! A restore of databases: beside what is there (`CreateNew`), or in its place (`Swap`,
//! `Overwrite`).
//!
//! gather (target, contents) → validate every database → plan → lock → clear away what
//! others left → merge globals → carry out each journal → report → [`settle`]. Nothing is
//! created before everything was validated and the plan is one that was approved, if any was.

pub(crate) mod assertions;
mod choosing;
mod contents;
mod dropping;
mod extensions;
mod journal;
mod leftovers;
mod load;
mod locks;
mod memberships;
mod merge;
mod missing_names;
mod planning;
mod preamble;
mod prelude;
mod prologue;
mod properties;
mod public_schema;
mod replacing;
mod roles;
mod scratch;
mod script;
mod statements;
mod steps;
mod target;
mod validate;

use std::time::Instant;

use dbbackup_contract::{
    DatabaseOutcome, Failure, GlobalsPolicy, GlobalsReport, OnError, PlannedAction, ProgressPhase,
    Reason, RestorePlan, ServerReport, listed,
};
use dbbackup_engine::{BackupSource, ProgressSink};
use tokio_util::sync::CancellationToken;

pub use self::contents::holds_databases;
pub(crate) use self::contents::read_document;
use self::contents::{Wanted, find_wanted, look_into, read_globals};
use self::leftovers::clear_away;
pub(crate) use self::leftovers::is_scratch;
use self::load::Loader;
use self::locks::lock_both;
use self::merge::{apply_merge, plan_merge};
pub use self::planning::placed;
use self::planning::{
    Planned, not_begun, plan, refuse_one_name_for_two, stop_where_one_is_refused, tell,
    validate_all,
};
use self::roles::{changed_globals, changes_of, settle_roles};
use self::scratch::{Scratch, look_at, set_comment};
use self::steps::{carry_out, clean_up};
use self::target::Target;
use crate::backup::answers;
use crate::connection::Session;
use crate::errors::is_session_lost;
use crate::progress::Meter;
use crate::server::Server;
use crate::versions::major_of;
use crate::watch::Guard;
use crate::{PlacedDatabase, RestoreOptions, RestoreResult};

/// Makes new databases from the streams of a backup. They still bear the
/// request's mark: report the outcome first, then call [`settle`].
///
/// # Errors
/// When nothing can be done at all, or the server, the source or the run itself is lost.
pub async fn restore(
    options: &RestoreOptions,
    source: &dyn BackupSource,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<RestoreResult, Failure> {
    let guard = Guard::new(&options.server, cancel);
    guard.waiting_for("the server to say who it is");
    let server = guard.wait(Server::open(&options.server)).await?;
    guard.waiting_for("the repository to say whether the restore is wanted");
    guard.wait(options.permission.ask(&server.identity)).await?;
    guard.waiting_for("the server to list what it has");
    let target = guard.on(&server.session, Target::gather(&server)).await?;
    let contents = find_wanted(source, &options.databases, guard.activity());
    let wanted = guard.wait(contents).await?;
    run(options, &server, target, wanted, source, progress, &guard).await
}

async fn run(
    options: &RestoreOptions,
    server: &Server,
    target: Target,
    mut wanted: Vec<Wanted>,
    source: &dyn BackupSource,
    progress: &dyn ProgressSink,
    guard: &Guard<'_>,
) -> Result<RestoreResult, Failure> {
    let mut roles = changes_of(options, &target);
    for wanted in &mut wanted {
        guard.wait(look_into(source, wanted, &options.databases, &roles, guard.activity())).await?;
    }
    let mut planned: Vec<_> = wanted.into_iter().map(|wanted| plan(options, wanted)).collect();
    refuse_one_name_for_two(&mut planned);
    assertions::check(&options.assertions, &planned)?;

    let merge = match options.globals {
        GlobalsPolicy::Skip => None,
        GlobalsPolicy::Merge => {
            let globals = guard.wait(read_globals(source, guard.activity())).await?;
            let databases: Vec<_> = planned.iter().map(|planned| &planned.wanted).collect();
            let globals = changed_globals(globals, &roles.map);
            Some(plan_merge(&globals, &target, &databases, options.is_of_all()))
        }
    };
    settle_roles(&mut roles, merge.as_ref(), &target, &mut planned);
    let session = &server.session;
    let validating =
        validate_all(guard, options, session, &target, &mut planned, merge.as_ref(), &roles);
    guard.on(session, validating).await?;
    let plan = tell(options, server, &planned, merge.as_ref());
    let mut result = nothing_yet(plan, server, &planned);
    // What an attempt before this one has put in place was approved then, and looks different now.
    let has_begun = planned.iter().any(|planned| planned.action == PlannedAction::Done);
    let is_approved = |digest: &String| has_begun || *digest == result.plan.digest;
    if options.dry_run || !options.approved_plan.as_ref().is_none_or(is_approved) {
        return Ok(result);
    }
    result.is_carried_out = true;
    if options.on_error == OnError::Stop {
        stop_where_one_is_refused(&mut planned);
    }
    let clients = options.server.clients.for_archive(newest_client(&planned))?;
    guard.on(session, lock_all(guard, options, session, &planned)).await?;
    guard.waiting_for("the repository to say whether the restore is still wanted");
    guard.wait(options.permission.ask(&server.identity)).await?;
    if planned.iter().any(Planned::goes_on) {
        let own: Vec<_> = planned.iter().flat_map(|planned| planned.scratch.names()).collect();
        result.left_behind = clear_away(guard, &options.server, &own).await?;
    }
    result.globals = match &merge {
        Some(plan) if planned.iter().any(Planned::goes_on) => {
            guard.waiting_for("the server to create roles");
            Some(guard.on(session, apply_merge(session, plan)).await?)
        }
        Some(plan) => Some(GlobalsReport { kept: plan.kept, ..GlobalsReport::default() }),
        None => None,
    };
    let expected = planned.iter().filter(|planned| planned.goes_on());
    let (databases, bytes) =
        expected.fold((0, 0), |(count, bytes), planned| (count + 1, bytes + planned.report.bytes));
    let meter = Meter::new(progress, databases, bytes);
    let loader = Loader {
        connection: &options.server,
        server,
        target: &target,
        roles: &roles,
        clients: &clients,
        source,
        meter: &meter,
        guard,
    };
    result.server.size_bytes = bytes;
    let mut result = restore_each(&loader, options.on_error, &mut planned, result).await?;
    result.databases.extend(options.missing.iter().cloned());
    Ok(result)
}

/// What there is to tell before anything is done.
fn nothing_yet(plan: RestorePlan, server: &Server, planned: &[Planned]) -> RestoreResult {
    RestoreResult {
        plan,
        is_carried_out: false,
        refused: planned.iter().find_map(Planned::refused),
        server: ServerReport {
            version: server.version.clone(),
            identity: server.identity.clone(),
            size_bytes: 0,
        },
        restored_bytes: 0,
        globals: None,
        databases: Vec::new(),
        placed: Vec::new(),
        left_behind: Vec::new(),
    }
}

/// Takes the locks of all targets, in the order of their names, so that two
/// restores never wait for each other: all of them, or none. Whoever holds one may
/// be an earlier attempt that the server has yet to miss, and holds the others too.
async fn lock_all(
    guard: &Guard<'_>,
    options: &RestoreOptions,
    session: &Session,
    planned: &[Planned],
) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + options.lock_timeout;
    let going_on = planned.iter().filter(|planned| planned.goes_on());
    let mut order: Vec<_> = going_on.map(|planned| &planned.scratch).collect();
    order.sort_by(|a, b| a.target.cmp(&b.target));
    for scratch in order {
        guard.waiting_for(format!("the server to lock the name {}", scratch.target));
        lock_both(session, &scratch.target, &scratch.name, until).await?;
    }
    Ok(())
}

/// A failure that ends all says what is in place nevertheless.
fn so_far(result: &RestoreResult, failure: Failure) -> Failure {
    if result.placed.is_empty() {
        return failure;
    }
    let names: Vec<_> = result.placed.iter().map(|placed| placed.name.as_str()).collect();
    let message = format!("{}; in place already: {}", failure.message, listed(&names, 5));
    Failure { message, ..failure }
}

async fn restore_each(
    loader: &Loader<'_>,
    on_error: OnError,
    planned: &mut [Planned],
    mut result: RestoreResult,
) -> Result<RestoreResult, Failure> {
    let Loader { server, meter, guard, .. } = loader;
    let mut failed: Option<String> = None;
    for planned in planned.iter_mut().filter(|planned| planned.goes_on()) {
        let is_done = planned.action == PlannedAction::Done;
        if let Some(failed) = failed.as_ref().filter(|_| on_error == OnError::Stop && !is_done) {
            planned.fail(not_begun(failed));
            continue;
        }
        let started = Instant::now();
        meter.begin(&planned.scratch.target);
        let outcome = carry_out(loader, planned).await;
        planned.report.duration_milliseconds =
            u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Ok(done) => {
                for warning in done.left_out {
                    tracing::warn!(database = planned.scratch.target, "{warning}");
                    planned.report.warn(warning);
                }
                if let Some(replacing) = planned.scratch.replacing.as_ref().filter(|_| done.is_kept)
                {
                    planned.report.kept_as = Some(replacing.name.clone());
                    planned.report.undo = Some(replacing.undo());
                }
                planned.report.outcome = DatabaseOutcome::Succeeded;
                result.restored_bytes += planned.report.bytes;
                result.placed.push(PlacedDatabase {
                    name: planned.scratch.target.clone(),
                    comment: planned.wanted.document.properties.comment.clone(),
                });
            }
            Err(failure) => {
                if guard.is_stopped() {
                    // What is loaded stays for a retry; the rest would be dropped by it.
                    clean_up(loader, &planned.scratch, true).await;
                    return Err(so_far(&result, failure));
                }
                if let Err(lost) = answers(guard, &server.session).await {
                    let lost = if is_session_lost(&failure) { failure } else { lost };
                    return Err(so_far(&result, lost));
                }
                tracing::info!(database = planned.scratch.target, %failure, "database failed");
                // Hours of loading are not lost to a session that stayed connected.
                let is_loaded = failure.reason == Reason::DatabaseInUse && failure.is_retryable();
                clean_up(loader, &planned.scratch, is_loaded).await;
                planned.fail(failure);
                failed = Some(planned.wanted.name.clone());
            }
        }
        meter.end(planned.report.bytes);
    }
    meter.phase(ProgressPhase::Finishing);
    result.databases = planned.iter().map(|planned| planned.report.clone()).collect();
    Ok(result)
}

/// The newest `pg_dump` that wrote one of the archives.
fn newest_client(planned: &[Planned]) -> u32 {
    let going_on = planned.iter().filter(|planned| planned.goes_on());
    let majors = going_on.filter_map(|planned| major_of(&planned.wanted.layout.client_version));
    majors.max().unwrap_or(0)
}

/// Takes the request's mark from restored databases; their own comments take its place.
///
/// Call it when the outcome is stored where a retry would find it: the mark is
/// how a retry knows that the work is done already. After it, a retry sees
/// databases that are not its own, and refuses to touch them; where databases are replaced,
/// a retry that says so ([`RestoreOptions::is_continued`]).
///
/// # Errors
/// When the server cannot be reached. The databases are in place all the same.
pub async fn settle(options: &RestoreOptions, placed: &[PlacedDatabase]) -> Result<(), Failure> {
    if placed.is_empty() {
        return Ok(());
    }
    // Whoever does not want to wait drops the call.
    let never = CancellationToken::new();
    let guard = Guard::new(&options.server, &never);
    guard.waiting_for("the server to say who it is");
    let server = guard.wait(Server::open(&options.server)).await?;
    let session = &server.session;
    let settling = async {
        // All or none: a run that is killed here leaves nothing half settled.
        session.run("BEGIN", "settling the restore").await?;
        for placed in placed {
            guard.waiting_for(format!("the server to settle database {}", placed.name));
            let scratch = Scratch::new(&options.request_uid, &placed.name, &options.strategy);
            let seen = look_at(session, &placed.name).await?;
            // Somebody may have given it another comment, or dropped it, since.
            if seen.is_some_and(|seen| scratch.marks.is_placed(&seen)) {
                set_comment(session, &placed.name, placed.comment.as_deref()).await?;
            }
        }
        session.run("COMMIT", "settling the restore").await
    };
    guard.on(session, settling).await
}
