//! One database of a restore, step by step from what is seen to its place; and what is
//! cleaned up where that fails.

use std::time::Duration;

use dbbackup_contract::Failure;

use super::contents::Wanted;
use super::dropping::drop_database;
use super::journal::{Situation, Step, next_step};
use super::load::Loader;
use super::prologue::plan_prologue;
use super::properties::{create_options, property_statements};
use super::public_schema::prepare_public_schema;
use super::scratch::Scratch;
use super::statements::{End, run_all};
use super::validate::{create_failure, refused};
use super::{Planned, assertions};
use crate::errors::is_session_lost;
use crate::watch::interrupted;

/// How long cleaning up may take: a run that was told to stop has no more.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(10);

/// A database in its place.
pub(super) struct Done {
    /// What the target does not take.
    pub(super) left_out: Vec<String>,
    /// Whether what it has replaced is there under another name.
    pub(super) is_kept: bool,
}

/// Takes one database from what is seen to its place, step by step.
pub(super) async fn carry_out(loader: &Loader<'_>, planned: &Planned) -> Result<Done, Failure> {
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
        let step = next_step(&looked, scratch.replaces(), &scratch.marks, created)
            .map_err(|refusal| refused(refusal, scratch))?;
        tracing::info!(database = scratch.target, scratch = scratch.name, ?step, "restore");
        if step == Step::Load {
            left_out.extend(prepare_load(loader, planned).await?);
            loader.load(wanted, &scratch.name, &prologue).await?;
        }
        // Also of what an earlier attempt has loaded.
        if matches!(step, Step::Place | Step::Replace) {
            assertions::hold(loader, planned).await?;
        }
        match guard.on(session, take_step(loader, planned, step)).await {
            Ok(lacking) => left_out.extend(lacking),
            // What was asked for is in place; only the disk has less room than it could.
            Err(failure) if step == Step::DropReplaced && !is_session_lost(&failure) => {
                let name = scratch.replaced_name();
                left_out.push(format!("what was replaced stays as {name}; drop it: {failure}"));
                return Ok(Done { left_out, is_kept: false });
            }
            Err(failure) => return Err(failure),
        }
        match step {
            Step::Create => created = true,
            Step::Place | Step::Replace => placed = true,
            Step::Done => {
                let is_kept = looked.replaced.is_some()
                    && scratch.replacing.as_ref().is_some_and(|replacing| replacing.is_kept);
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
            let options = create_options(&wanted.properties, target.major)?;
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
            let Some(replacing) = &scratch.replacing else { return Ok(Vec::new()) };
            waiting_for("show what it has under the name");
            replacing.validate_database(session).await?;
            waiting_for("set the properties of database");
            let lacking = set_properties(loader, wanted, &scratch.name, End::Commit).await?;
            waiting_for("swap the names of the scratch database and");
            let oid = planned.replaces.as_ref().map(|replaced| replaced.oid);
            replacing.carry_out(session, loader.connection, scratch, oid).await?;
            return Ok(lacking);
        }
        Step::DropReplaced => {
            waiting_for("drop what was replaced by");
            let name = scratch.replaced_name();
            drop_database(session, loader.connection, name, "WITH (FORCE)").await?;
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
    let statements = property_statements(&wanted.properties, name);
    let doing = "setting the database's properties";
    run_all(&loader.server.session, &statements, end, doing).await
}

/// Drops what a database's failure leaves behind, if it is ours.
pub(super) async fn clean_up(loader: &Loader<'_>, scratch: &Scratch, keep_loaded: bool) {
    let session = &loader.server.session;
    let dropped = async {
        // A stop may have come in the middle of a transaction of ours, and no
        // database is dropped in one; where none is open, this is a warning.
        session.run("ROLLBACK", "ending what was begun").await?;
        let seen = Situation { target: None, replaced: None, ..scratch.look(session).await? };
        // As the next attempt would: what it would drop, and nothing else.
        match next_step(&seen, scratch.replaces(), &scratch.marks, false) {
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
