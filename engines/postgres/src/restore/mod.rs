//! A restore to databases that do not exist yet (`CreateNew`).
//!
//! gather (target, contents) → validate every database → lock → merge globals →
//! carry out each journal → report → [`settle`]. Nothing is created before
//! everything was validated; one database's failure leaves the others.

mod contents;
mod journal;
mod load;
mod memberships;
mod merge;
mod preamble;
mod properties;
mod public_schema;
mod scratch;
mod statements;
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

use self::contents::{Wanted, find_wanted, read_globals};
use self::journal::{Step, next_step};
use self::load::Loader;
use self::merge::{MergePlan, apply_merge, plan_merge};
use self::preamble::Preamble;
use self::properties::{create_options, property_statements};
use self::public_schema::prepare_public_schema;
use self::scratch::{Scratch, lock_target, look_at, set_comment};
use self::statements::{End, run_all};
use self::target::Target;
use self::validate::{create_failure, refused, validate};
use crate::backup::{answers, report};
use crate::connection::Session;
use crate::errors::is_server_lost;
use crate::progress::Meter;
use crate::server::Server;
use crate::versions::major_of;
use crate::watch::interrupted;
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
    let gathering = async {
        let server = Server::open(&options.server).await?;
        let target = Target::gather(&server).await?;
        let wanted = find_wanted(source, &options.databases).await?;
        Ok::<_, Failure>((server, target, wanted))
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(interrupted()),
        gathered = gathering => {
            let (server, target, wanted) = gathered?;
            run(options, &server, target, wanted, source, progress, cancel).await
        }
    }
}

async fn run(
    options: &RestoreOptions,
    server: &Server,
    target: Target,
    wanted: Vec<Wanted>,
    source: &dyn BackupSource,
    progress: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<RestoreResult, Failure> {
    let whole = options.databases.is_empty();
    let mut planned: Vec<_> = wanted.into_iter().map(|wanted| plan(options, wanted)).collect();

    let merge = match options.globals {
        GlobalsPolicy::Skip => None,
        GlobalsPolicy::Merge => {
            let globals = read_globals(source).await?;
            let databases: Vec<_> = planned.iter().map(|planned| &planned.wanted).collect();
            Some(plan_merge(&globals, &target, &databases, whole))
        }
    };
    validate_all(server, &target, &mut planned, merge.as_ref(), whole).await?;
    let clients = options.server.clients.for_archive(newest_client(&planned))?;
    lock_all(options, server, &mut planned, cancel).await?;
    let globals = match &merge {
        Some(plan) if planned.iter().any(Planned::goes_on) => {
            Some(apply_merge(&server.session, plan).await?)
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
        cancel,
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
    };
    restore_each(&loader, &mut planned, result).await
}

fn plan(options: &RestoreOptions, wanted: Wanted) -> Planned {
    let mut report = report(&wanted.name, DatabaseOutcome::Failed);
    report.as_name = (wanted.target != wanted.name).then(|| wanted.target.clone());
    report.bytes = wanted.layout.bytes();
    report.tables = wanted.layout.tables().count() as u64;
    report.rows = wanted.layout.rows();
    let scratch = Scratch::new(&options.request_uid, &wanted.target);
    Planned { wanted, scratch, report }
}

/// Validates every database before the first is created.
async fn validate_all(
    server: &Server,
    target: &Target,
    planned: &mut [Planned],
    merge: Option<&MergePlan>,
    whole: bool,
) -> Result<(), Failure> {
    let none = HashSet::new();
    let created_roles = merge.map_or(&none, |plan| &plan.created);
    for planned in planned {
        let Planned { wanted, scratch, .. } = &*planned;
        let validated = validate(&server.session, target, wanted, scratch, created_roles).await;
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
/// restores never wait for each other.
async fn lock_all(
    options: &RestoreOptions,
    server: &Server,
    planned: &mut [Planned],
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let mut order: Vec<_> = planned.iter_mut().filter(|planned| planned.goes_on()).collect();
    order.sort_by(|a, b| a.scratch.target.cmp(&b.scratch.target));
    for planned in order {
        let target = &planned.scratch.target;
        let locked = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(interrupted()),
            locked = lock_target(&server.session, target, options.lock_timeout) => locked,
        };
        match locked {
            Ok(()) => {}
            Err(failure) if failure.reason == Reason::RestoreInProgress => planned.fail(failure),
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn restore_each(
    loader: &Loader<'_>,
    planned: &mut [Planned],
    mut result: RestoreResult,
) -> Result<RestoreResult, Failure> {
    let Loader { server, meter, cancel, .. } = loader;
    for planned in planned.iter_mut().filter(|planned| planned.goes_on()) {
        let started = Instant::now();
        meter.begin(&planned.scratch.target);
        let outcome = carry_out(loader, planned).await;
        planned.report.duration_milliseconds =
            u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Ok(left_out) => {
                for warning in left_out {
                    tracing::warn!(database = planned.scratch.target, "{warning}");
                    planned.report.warn(warning);
                }
                planned.report.outcome = DatabaseOutcome::Succeeded;
                result.restored_bytes += planned.report.bytes;
                result.placed.push(PlacedDatabase {
                    name: planned.scratch.target.clone(),
                    comment: planned.wanted.document.properties.comment.clone(),
                });
            }
            Err(failure) => {
                if cancel.is_cancelled() {
                    // What is loaded stays for a retry; the rest would be dropped by it.
                    clean_up(&server.session, &planned.scratch, true).await;
                    return Err(failure);
                }
                if let Err(lost) = answers(&server.session).await {
                    let told = is_server_lost(failure.reason) || failure.reason == Reason::Stalled;
                    return Err(if told { failure } else { lost });
                }
                tracing::warn!(database = planned.scratch.target, %failure, "database failed");
                clean_up(&server.session, &planned.scratch, false).await;
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

/// Takes one database from what is seen to its place, step by step; gives what
/// was left out.
async fn carry_out(loader: &Loader<'_>, planned: &Planned) -> Result<Vec<String>, Failure> {
    let session = &loader.server.session;
    let target = loader.target;
    let Planned { wanted, scratch, .. } = planned;
    let properties = &wanted.document.properties;
    let (mut created, mut placed) = (false, false);
    let mut left_out = Vec::new();
    loop {
        if loader.cancel.is_cancelled() {
            return Err(interrupted());
        }
        let (seen, existing) = scratch.look(session).await?;
        let step = next_step(seen.as_ref(), existing.as_ref(), &scratch.marks, created)
            .map_err(|refusal| refused(refusal, scratch))?;
        tracing::info!(database = scratch.target, scratch = scratch.name, ?step, "restore");
        match step {
            Step::Create => {
                let options = create_options(properties, target.major)?;
                scratch.create(session, &options).await.map_err(create_failure)?;
                created = true;
            }
            Step::MarkLoading => scratch.mark_loading(session).await?,
            Step::DropScratch => scratch.drop(session).await?,
            Step::Load => {
                // What the target refuses of them is known before hours are spent.
                set_properties(loader, wanted, &scratch.name, End::Rollback).await?;
                left_out.extend(prepare_public_schema(loader, wanted, scratch).await?);
                let preamble = Preamble::new(target.settings.clone());
                loader.load(&wanted.layout, &scratch.name, preamble).await?;
                scratch.mark_loaded(session).await?;
            }
            Step::Place => {
                let lacking = set_properties(loader, wanted, &scratch.name, End::Commit).await?;
                left_out.extend(lacking);
                scratch.rename(session).await?;
                placed = true;
            }
            Step::Done => {
                if !placed
                    // An earlier attempt put it in place and could not tell.
                    && let Ok(lacking) =
                        set_properties(loader, wanted, &scratch.target, End::Rollback).await
                {
                    left_out.extend(lacking);
                }
                return Ok(left_out);
            }
        }
    }
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
async fn clean_up(session: &Session, scratch: &Scratch, keep_loaded: bool) {
    let dropped = async {
        let (seen, _) = scratch.look(session).await?;
        // As the next attempt would: what it would drop, and nothing else.
        match next_step(seen.as_ref(), None, &scratch.marks, false) {
            Ok(Step::Place) if keep_loaded => Ok(()),
            Ok(_) if seen.is_some() => scratch.drop(session).await,
            _ => Ok(()),
        }
    };
    let limit = std::time::Duration::from_secs(10);
    match tokio::time::timeout(limit, dropped).await {
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
    let server = Server::open(&options.server).await?;
    for placed in &result.placed {
        let scratch = Scratch::new(&options.request_uid, &placed.name);
        let seen = look_at(&server.session, &placed.name).await?;
        // Somebody may have given it another comment, or dropped it, since.
        if seen.is_some_and(|seen| seen.comment.as_ref() == Some(&scratch.marks.loaded)) {
            set_comment(&server.session, &placed.name, placed.comment.as_deref()).await?;
        }
    }
    Ok(())
}
