//! A restore of databases: beside what is there (`CreateNew`), or in its place (`Swap`,
//! `Overwrite`).
//!
//! gather (target, contents) → validate every database → lock → clear away what
//! others left → merge globals → carry out each journal → report → [`settle`]. Nothing is created before
//! everything was validated; one database's failure leaves the others.

mod contents;
mod dropping;
mod journal;
mod leftovers;
mod load;
mod locks;
mod memberships;
mod merge;
mod preamble;
mod prologue;
mod properties;
mod public_schema;
mod replacing;
mod scratch;
mod script;
mod statements;
mod steps;
mod target;
mod validate;

use std::collections::HashSet;
use std::time::Instant;

use dbbackup_contract::{
    DatabaseOutcome, DatabaseReport, Failure, GlobalsPolicy, GlobalsReport, ProgressPhase, Reason,
    ServerReport,
};
use dbbackup_engine::{BackupSource, ProgressSink};
use tokio_util::sync::CancellationToken;

pub use self::contents::holds_databases;
use self::contents::{Wanted, find_wanted, read_globals};
use self::leftovers::clear_away;
pub(crate) use self::leftovers::is_scratch;
use self::load::Loader;
use self::locks::lock_both;
use self::merge::{MergePlan, apply_merge, plan_merge};
use self::scratch::{Scratch, look_at, set_comment};
use self::steps::{carry_out, clean_up};
use self::target::Target;
use self::validate::validate;
use crate::backup::answers;
use crate::connection::Session;
use crate::errors::{is_server_lost, is_session_lost};
use crate::progress::Meter;
use crate::server::Server;
use crate::versions::major_of;
use crate::watch::Guard;
use crate::{PlacedDatabase, RestoreOptions, RestoreResult};

/// One database of the restore, and what is known of it so far.
struct Planned {
    wanted: Wanted,
    scratch: Scratch,
    report: DatabaseReport,
}

impl Planned {
    fn fail(&mut self, failure: Failure) {
        self.report.outcome = DatabaseOutcome::Failed;
        self.report.error = Some(failure);
    }

    fn goes_on(&self) -> bool {
        self.report.error.is_none() && self.report.outcome != DatabaseOutcome::Skipped
    }
}

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
    wanted: Vec<Wanted>,
    source: &dyn BackupSource,
    progress: &dyn ProgressSink,
    guard: &Guard<'_>,
) -> Result<RestoreResult, Failure> {
    let whole = options.databases.is_empty();
    let mut planned: Vec<_> = wanted.into_iter().map(|wanted| plan(options, wanted)).collect();
    refuse_one_name_for_two(&mut planned);

    let merge = match options.globals {
        GlobalsPolicy::Skip => None,
        GlobalsPolicy::Merge => {
            let globals = guard.wait(read_globals(source, guard.activity())).await?;
            let databases: Vec<_> = planned.iter().map(|planned| &planned.wanted).collect();
            Some(plan_merge(&globals, &target, &databases, whole))
        }
    };
    let session = &server.session;
    let validating =
        validate_all(guard, options, session, &target, &mut planned, merge.as_ref(), whole);
    guard.on(session, validating).await?;
    let clients = options.server.clients.for_archive(newest_client(&planned))?;
    guard.on(session, lock_all(guard, options, session, &planned)).await?;
    let mut left_behind = Vec::new();
    if planned.iter().any(Planned::goes_on) {
        let own: Vec<_> = planned.iter().flat_map(|planned| planned.scratch.names()).collect();
        left_behind = clear_away(guard, &options.server, &own).await?;
    }
    let globals = match &merge {
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
        clients: &clients,
        source,
        meter: &meter,
        guard,
    };
    let result = RestoreResult {
        server: ServerReport {
            version: server.version.clone(),
            identity: server.identity.clone(),
            size_bytes: bytes,
        },
        restored_bytes: 0,
        globals,
        databases: Vec::new(),
        placed: Vec::new(),
        left_behind,
    };
    restore_each(&loader, &mut planned, result).await
}

fn plan(options: &RestoreOptions, wanted: Wanted) -> Planned {
    let mut report = DatabaseReport::new(&wanted.name, DatabaseOutcome::Failed);
    report.as_name = (wanted.target != wanted.name).then(|| wanted.target.clone());
    report.bytes = wanted.layout.bytes();
    report.tables = wanted.layout.tables().count() as u64;
    report.rows = wanted.layout.rows();
    let scratch = Scratch::new(&options.request_uid, &wanted.target, &options.strategy);
    Planned { wanted, scratch, report }
}

/// Names that were cut to fit may have become the same.
fn refuse_one_name_for_two(planned: &mut [Planned]) {
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
async fn validate_all(
    guard: &Guard<'_>,
    options: &RestoreOptions,
    session: &Session,
    target: &Target,
    planned: &mut [Planned],
    merge: Option<&MergePlan>,
    whole: bool,
) -> Result<(), Failure> {
    let none = HashSet::new();
    let created_roles = merge.map_or(&none, |plan| &plan.created);
    for planned in planned.iter_mut().filter(|planned| planned.goes_on()) {
        let Planned { wanted, scratch, .. } = &*planned;
        let what = format!("the server to be asked for what database {} needs", wanted.name);
        guard.waiting_for(what);
        let validated =
            validate(session, target, wanted, scratch, options.is_continued, created_roles).await;
        match validated {
            Ok(()) => {}
            // Every server has such a database, and this one has nothing to restore.
            Err(failure)
                if failure.reason == Reason::DatabaseExists
                    && whole
                    && wanted.name == "postgres"
                    && wanted.layout.needs.objects == 0 =>
            {
                planned.report.outcome = DatabaseOutcome::Skipped;
            }
            Err(failure) if is_server_lost(failure.reason) => return Err(failure),
            Err(failure) => planned.fail(failure),
        }
    }
    Ok(())
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

async fn restore_each(
    loader: &Loader<'_>,
    planned: &mut [Planned],
    mut result: RestoreResult,
) -> Result<RestoreResult, Failure> {
    let Loader { server, meter, guard, .. } = loader;
    for planned in planned.iter_mut().filter(|planned| planned.goes_on()) {
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
                    return Err(failure);
                }
                if let Err(lost) = answers(guard, &server.session).await {
                    return Err(if is_session_lost(&failure) { failure } else { lost });
                }
                tracing::info!(database = planned.scratch.target, %failure, "database failed");
                // Hours of loading are not lost to a session that stayed connected.
                let is_loaded = failure.reason == Reason::DatabaseInUse && failure.is_retryable();
                clean_up(loader, &planned.scratch, is_loaded).await;
                planned.fail(failure);
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
pub async fn settle(options: &RestoreOptions, result: &RestoreResult) -> Result<(), Failure> {
    if result.placed.is_empty() {
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
        for placed in &result.placed {
            guard.waiting_for(format!("the server to settle database {}", placed.name));
            let scratch = Scratch::new(&options.request_uid, &placed.name, &options.strategy);
            let seen = look_at(session, &placed.name).await?;
            // Somebody may have given it another comment, or dropped it, since.
            if seen.is_some_and(|seen| seen.comment.as_ref() == Some(&scratch.marks.loaded)) {
                set_comment(session, &placed.name, placed.comment.as_deref()).await?;
            }
        }
        session.run("COMMIT", "settling the restore").await
    };
    guard.on(session, settling).await
}
