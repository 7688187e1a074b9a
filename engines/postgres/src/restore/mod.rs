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
mod target;
mod validate;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use dbbackup_contract::{
    DatabaseOutcome, DatabaseReport, Failure, GlobalsPolicy, GlobalsReport, ProgressPhase, Reason,
    ServerReport,
};
use dbbackup_engine::{BackupSource, ProgressSink};
use tokio_util::sync::CancellationToken;

pub use self::contents::holds_databases;
use self::contents::{Wanted, find_wanted, read_globals};
use self::dropping::drop_database;
use self::journal::{Existing, Step, next_step};
use self::leftovers::clear_away;
pub(crate) use self::leftovers::is_scratch;
use self::load::Loader;
use self::locks::lock_both;
use self::merge::{MergePlan, apply_merge, plan_merge};
use self::prologue::plan_prologue;
use self::properties::{create_options, property_statements};
use self::public_schema::prepare_public_schema;
use self::scratch::{Looked, Scratch, look_at, set_comment};
use self::statements::{End, run_all};
use self::target::Target;
use self::validate::{create_failure, refused, validate};
use crate::backup::answers;
use crate::connection::Session;
use crate::errors::{is_server_lost, is_session_lost};
use crate::progress::Meter;
use crate::server::Server;
use crate::versions::major_of;
use crate::watch::{Guard, interrupted};
use crate::{PlacedDatabase, RestoreOptions, RestoreResult};

/// How long cleaning up may take: a run that was told to stop has no more.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(10);

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

/// A database in its place.
struct Done {
    /// What the target does not take.
    left_out: Vec<String>,
    /// Whether what it has replaced is there under another name.
    is_kept: bool,
}

/// Takes one database from what is seen to its place, step by step.
async fn carry_out(loader: &Loader<'_>, planned: &Planned) -> Result<Done, Failure> {
    let Loader { guard, server, target, .. } = loader;
    let session = &server.session;
    let Planned { wanted, scratch, .. } = planned;
    let (mut created, mut placed) = (false, false);
    let (prologue, mut left_out) = plan_prologue(wanted, target);
    loop {
        if guard.is_stopped() {
            return Err(interrupted());
        }
        guard.waiting_for(format!("the server to show the state of database {}", scratch.target));
        let looked = guard.on(session, scratch.look(session)).await?;
        let (seen, existing) = (looked.situation(), scratch.existing());
        let step = next_step(seen, existing, &scratch.marks, created)
            .map_err(|refusal| refused(refusal, scratch))?;
        tracing::info!(database = scratch.target, scratch = scratch.name, ?step, "restore");
        if step == Step::Load {
            left_out.extend(prepare_load(loader, planned).await?);
            loader.load(&wanted.layout, &scratch.name, &prologue).await?;
        }
        match guard.on(session, take_step(loader, planned, step)).await {
            Ok(lacking) => left_out.extend(lacking),
            // What was asked for is in place; only the disk has less room than it could.
            Err(failure) if step == Step::DropReplaced && !is_session_lost(&failure) => {
                let name = scratch.replacing.as_ref().map_or("", |replacing| &replacing.name);
                left_out.push(format!("what was replaced stays as {name}; drop it: {failure}"));
                return Ok(Done { left_out, is_kept: false });
            }
            Err(failure) => return Err(failure),
        }
        match step {
            Step::Create => created = true,
            Step::Place | Step::Replace => placed = true,
            Step::Done => {
                let is_kept = looked.replaced.is_some() && existing == Existing::IsKept;
                if placed {
                    return Ok(Done { left_out, is_kept });
                }
                // An earlier attempt put it in place and could not tell.
                let looked = set_properties(loader, wanted, &scratch.target, End::Rollback);
                match guard.on(session, looked).await {
                    Ok(lacking) => left_out.extend(lacking),
                    // It may still be at it: nothing else can be done on the session.
                    Err(failure) if is_session_lost(&failure) => return Err(failure),
                    Err(failure) => tracing::warn!(%failure, "what was left out is not known"),
                }
                return Ok(Done { left_out, is_kept });
            }
            _ => {}
        }
    }
}

/// What comes before the data: what the target refuses of the properties is
/// known before hours are spent; gives what was left out.
async fn prepare_load(loader: &Loader<'_>, planned: &Planned) -> Result<Vec<String>, Failure> {
    let Planned { wanted, scratch, .. } = planned;
    let Loader { guard, server, .. } = loader;
    guard.waiting_for(format!("the server to prepare the scratch database of {}", scratch.target));
    let preparing = async {
        set_properties(loader, wanted, &scratch.name, End::Rollback).await?;
        prepare_public_schema(loader, wanted, scratch).await
    };
    guard.on(&server.session, preparing).await
}

/// The statements of a step (of loading, those that say that it is done); gives
/// what was left out.
async fn take_step(
    loader: &Loader<'_>,
    planned: &Planned,
    step: Step,
) -> Result<Vec<String>, Failure> {
    let Loader { guard, server, target, .. } = loader;
    let session = &server.session;
    let Planned { wanted, scratch, .. } = planned;
    let waiting_for =
        |what: &str| guard.waiting_for(format!("the server to {what} {}", scratch.target));
    match step {
        Step::Create => {
            waiting_for("create the scratch database of");
            let options = create_options(&wanted.document.properties, target.major)?;
            scratch.create(session, &options).await.map_err(create_failure)?;
        }
        Step::MarkLoading => {
            waiting_for("mark the scratch database of");
            scratch.mark_loading(session).await?;
        }
        Step::DropScratch => {
            waiting_for("drop the scratch database of");
            scratch.drop(session, loader.connection).await?;
        }
        Step::Load => {
            waiting_for("mark the loaded scratch database of");
            scratch.mark_loaded(session).await?;
        }
        Step::Place => {
            waiting_for("set the properties of database");
            let lacking = set_properties(loader, wanted, &scratch.name, End::Commit).await?;
            waiting_for("rename the scratch database to");
            scratch.rename(session).await?;
            return Ok(lacking);
        }
        Step::Replace => {
            waiting_for("show what it has under the name");
            if let Some(replacing) = &scratch.replacing {
                replacing.validate_database(session).await?;
            }
            waiting_for("set the properties of database");
            let lacking = set_properties(loader, wanted, &scratch.name, End::Commit).await?;
            waiting_for("swap the names of the scratch database and");
            if let Some(replacing) = &scratch.replacing {
                replacing.carry_out(session, loader.connection, scratch).await?;
            }
            return Ok(lacking);
        }
        Step::DropReplaced => {
            waiting_for("drop what was replaced by");
            if let Some(replacing) = &scratch.replacing {
                drop_database(session, loader.connection, &replacing.name, "WITH (FORCE)").await?;
            }
        }
        Step::Done => {}
    }
    Ok(Vec::new())
}

/// Gives database `name` its own properties, or asks whether it could have
/// them; tells those that the target does not take.
async fn set_properties(
    loader: &Loader<'_>,
    wanted: &Wanted,
    name: &str,
    end: End,
) -> Result<Vec<String>, Failure> {
    let statements = property_statements(&wanted.document.properties, name);
    let doing = "setting the database's properties";
    run_all(&loader.server.session, &statements, end, doing).await
}

/// Drops what a database's failure leaves behind, if it is ours.
async fn clean_up(loader: &Loader<'_>, scratch: &Scratch, keep_loaded: bool) {
    let session = &loader.server.session;
    let dropped = async {
        // A stop may have come in the middle of a transaction of ours, and no
        // database is dropped in one; where none is open, this is a warning.
        session.run("ROLLBACK", "ending what was begun").await?;
        let scratch_alone = Looked { target: None, replaced: None, ..scratch.look(session).await? };
        let seen = scratch_alone.situation();
        // As the next attempt would: what it would drop, and nothing else.
        match next_step(seen, scratch.existing(), &scratch.marks, false) {
            Ok(Step::Place) if keep_loaded => Ok(()),
            Ok(step) if seen.scratch.is_some() => {
                // A drop that is cut leaves a database without its number: the
                // mark must be there before.
                if step == Step::MarkLoading {
                    scratch.mark_loading(session).await?;
                }
                scratch.drop(session, loader.connection).await
            }
            _ => Ok(()),
        }
    };
    match tokio::time::timeout(CLEAN_UP_LIMIT, dropped).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            tracing::warn!(scratch = scratch.name, %failure, "the scratch database stays behind");
        }
        Err(_) => tracing::warn!(scratch = scratch.name, "the scratch database stays behind"),
    }
}

/// Takes the request's mark from restored databases; their own comments take its place.
///
/// Call it when the outcome is stored where a retry would find it: the mark is
/// how a retry knows that the work is done already. After it, a retry sees
/// databases that are not its own, and refuses to touch them.
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
