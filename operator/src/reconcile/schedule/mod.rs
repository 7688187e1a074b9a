//! `BackupSchedule`: each slot becomes a `Backup` with the slot's name.

mod archiver;
mod attempt;
mod children;
mod drill;
mod preflight;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{
    Backup, BackupRepository, BackupSchedule, BackupScheduleStatus, BackupSpec, ConcurrencyPolicy,
    LocalRef, SlotBaseline,
};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

pub(crate) use archiver::lag as log_lag;
pub use archiver::{Base, LogOutlook};
pub use attempt::AttemptTrouble;
pub use children::{Children, Ended};
pub use drill::DrillOutlook;
pub use status::{Outlook, stalled, standing};

use super::one_shot::until;
use crate::cluster::{is_conflict, rejection, write_status};
use crate::context::{Context, Identity, ReconcileError};
use crate::events::{publish, warn};
use crate::labels;
use crate::names::{backup_name, schedule_series};
use crate::reasons;
use crate::slots::{SlotDecision, Slots, delay_of};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the `Backup` of this slot.
    Create(Timestamp),
    /// The slot waits for the backups that run, or a first one for the archiver of the log.
    Hold(Timestamp),
    /// The slot is too long ago.
    Skip(Timestamp),
    /// Nothing is due.
    Rest,
}

/// Brings one `BackupSchedule` forward.
///
/// # Errors
/// The API server refuses something; it is tried again.
pub async fn reconcile(
    schedule: &BackupSchedule,
    context: &Arc<Context>,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    if schedule.metadata.deletion_timestamp.is_some() {
        return archiver::let_go(schedule, context, now).await;
    }
    let identity = Identity::of(schedule)?;
    let (held, barred) = archiver::hold(schedule, &identity, context).await?;
    let schedule = held.as_deref().unwrap_or(schedule);
    let mut status = schedule.status.clone().unwrap_or_default();
    let generation = schedule.metadata.generation;
    let repository = repository(context, &identity.namespace, schedule);
    let mut children = children::of(context, &identity, schedule, repository.as_ref());
    let archiver = archiver::Archiver {
        schedule,
        identity: &identity,
        repository: repository.as_ref(),
        barred,
        context,
        now,
    };
    let log = archiver.go_on(&mut status, &children.bases).await?;
    children.awaits_log = archiver::is_about_to_begin(schedule, &status, now);
    let drills = drill::Drills {
        schedule,
        identity: &identity,
        repository: repository.as_ref(),
        context,
        now,
    };
    let (drill_again, drill) = drills.go_on(&mut status, &children).await?;
    let slots = match slots(schedule, context) {
        Ok(slots) => slots,
        Err(error) => {
            let failure = Failure::new(Reason::InvalidSpec, error).with_hint("");
            let mut status = stalled(status, &failure, generation, now);
            status.conditions =
                archiver::condition(status.conditions, log.outlook.as_ref(), generation, now);
            status.conditions =
                drill::condition(status.conditions.clone(), schedule, &status, Some(&drill), now);
            if schedule.status.as_ref().map(|old| &old.display) != Some(&status.display) {
                warn(context, schedule, "Read", &failure).await;
            }
            let object = write_status(context, schedule, status.clone()).await?;
            drills.tell(&status).await;
            let again = archiver.finish(&object, status, log).await?;
            let again = again.into_iter().chain(drill_again).min();
            return Ok(again.map_or_else(Action::await_change, Action::requeue));
        }
    };
    status.slots_since = baseline(schedule, &status, now);
    let last = last_slot(&status, now);
    let deadline = schedule.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let decision = slots.decide(last, now, deadline);
    let step = plan(schedule, &decision, &children);
    let rejected = apply(schedule, &identity, &step, &mut status, context).await?;
    status.generation_time = preflight::generation_time(schedule, &status, now);
    let trouble =
        super::backup::writing_trouble(&schedule.spec.repository_ref.name, repository.as_ref());
    let (ahead, ahead_trouble) = if matches!(step, Step::Create(_)) && status.preflight.is_none() {
        (None, None)
    } else {
        let (identity, usable) = (&identity, trouble.is_none());
        let repository = repository.as_ref().filter(|_| usable);
        let ahead = preflight::Ahead { schedule, identity, repository, context, now };
        ahead.go_on(&mut status, &children).await?
    };
    let outlook = Outlook {
        next: decision.next,
        zone: slots.zone(),
        held: if let Step::Hold(slot) = step { Some(slot) } else { None },
        trouble: rejected.clone().or(trouble),
        ahead: ahead_trouble,
        log: log.outlook.as_ref(),
        drill: Some(&drill),
    };
    let status = standing(status, schedule, &children, &outlook, now);
    let object = write_status(context, schedule, status.clone()).await?;
    if let Some(note) = preflight::passed(schedule, &status) {
        publish(context, schedule, reasons::PREFLIGHT_PASSED, "Preflight", note);
    }
    drills.tell(&status).await;
    let log = archiver.finish(&object, status, log).await?;
    let next = match rejected {
        Some(_) => TRY_AGAIN,
        None => next_look(&decision, &children, now),
    };
    let further = [ahead, log, drill_again].into_iter().flatten();
    Ok(Action::requeue(further.fold(next, Duration::min)))
}

/// How soon the `Backup` of a slot is tried again that the API server did not let in.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// Longest `jitter`: what starts a day later belongs to the next day.
const LONGEST_JITTER: Duration = Duration::from_secs(24 * 3600);

/// The schedule's slots, or what is wrong with its line, zone or jitter.
fn slots(schedule: &BackupSchedule, context: &Context) -> Result<Slots, String> {
    let spec = &schedule.spec;
    let slots = Slots::parse(&spec.schedule, &spec.time_zone).map_err(|error| error.to_string())?;
    let Some(jitter) = &spec.jitter else { return Ok(slots) };
    let jitter = jitter.parse().map_err(|error| format!("spec.jitter: {error}"))?;
    if jitter > LONGEST_JITTER {
        return Err("spec.jitter is longer than a day: write 24h at most".to_owned());
    }
    let namespace = schedule.namespace().unwrap_or_default();
    let series = schedule_series(&context.cluster, &namespace, &schedule.name_any());
    Ok(slots.delayed(delay_of(&series, jitter)))
}

/// From when on slots count: since this schedule in this zone is in effect, and
/// not suspended. So a changed line or the end of a suspension starts nothing
/// that lies in the past.
fn baseline(
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
    now: Timestamp,
) -> Option<SlotBaseline> {
    if schedule.spec.suspend {
        return None;
    }
    let is_same = |known: &&SlotBaseline| {
        known.schedule == schedule.spec.schedule && known.time_zone == schedule.spec.time_zone
    };
    if let Some(known) = status.slots_since.as_ref().filter(is_same) {
        return Some(known.clone());
    }
    // Nothing was ever looked at: an operator that was away when the object was
    // created must not lose the first slot.
    let is_new = status.slots_since.is_none() && status.conditions.is_empty();
    let created = schedule.creation_timestamp().map_or(now, |time| time.0);
    Some(SlotBaseline {
        schedule: schedule.spec.schedule.clone(),
        time_zone: schedule.spec.time_zone.clone(),
        time: if is_new { created } else { now },
    })
}

/// Slots up to here are done with.
fn last_slot(status: &BackupScheduleStatus, now: Timestamp) -> Timestamp {
    done_until(status.slots_since.as_ref(), status.last_schedule_time, now)
}

/// Until when slots are done with that count since a baseline, of which `last` was the newest.
fn done_until(since: Option<&SlotBaseline>, last: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let since = since.map_or(now, |baseline| baseline.time);
    // A time in the future (somebody's clock was wrong) would silence the schedule.
    last.filter(|last| *last <= now).map_or(since, |last| last.max(since))
}

/// Plans the next step.
#[must_use]
pub fn plan(schedule: &BackupSchedule, decision: &SlotDecision, children: &Children) -> Step {
    if schedule.spec.suspend {
        return Step::Rest;
    }
    if let Some(first) = first_at_once(schedule, children) {
        return if children.awaits_log { Step::Hold(first) } else { Step::Create(first) };
    }
    if let Some(slot) = decision.missed {
        return Step::Skip(slot);
    }
    let Some(slot) = decision.due else { return Step::Rest };
    let forbids = schedule.spec.concurrency_policy == ConcurrencyPolicy::Forbid;
    if forbids && !children.active.is_empty() { Step::Hold(slot) } else { Step::Create(slot) }
}

/// The first backup of a schedule that wants it at once; its slot is when the schedule came.
fn first_at_once(schedule: &BackupSchedule, children: &Children) -> Option<Timestamp> {
    let was_any = schedule.status.as_ref().is_some_and(|status| {
        status.last_schedule_time.is_some() || status.last_successful_time.is_some()
    }) || children.last_success.is_some()
        || !children.active.is_empty();
    let created = schedule.creation_timestamp()?.0;
    (schedule.spec.immediate && !was_any).then_some(created)
}

/// Carries a step out. Says why not, where the API server does not let the `Backup` in.
async fn apply(
    schedule: &BackupSchedule,
    identity: &Identity,
    step: &Step,
    status: &mut BackupScheduleStatus,
    context: &Context,
) -> Result<Option<Failure>, ReconcileError> {
    match step {
        Step::Rest | Step::Hold(_) => {}
        Step::Skip(slot) => {
            let failure = Failure::new(
                Reason::DeadlineExceeded,
                format!("the slot {slot} was left out: it could not be started in time"),
            );
            warn(context, schedule, "Schedule", &failure).await;
            status.last_schedule_time = Some(*slot);
        }
        Step::Create(slot) => match create_backup(identity, *slot, context).await? {
            Ok(name) => {
                status.last_schedule_time = Some(*slot);
                let note = format!("created the Backup {name} for the slot {slot}");
                publish(context, schedule, reasons::EVENT_BACKUP_CREATED, "Schedule", note);
            }
            Err(rejected) => {
                let reason = rejected.reason.as_str();
                if !status.conditions.iter().any(|condition| condition.reason == reason) {
                    warn(context, schedule, "Schedule", &rejected).await;
                }
                return Ok(Some(rejected));
            }
        },
    }
    Ok(None)
}

/// Creates the slot's `Backup`, or says why it is not let in. One that exists is the same
/// slot's, made before a crash.
async fn create_backup(
    identity: &Identity,
    slot: Timestamp,
    context: &Context,
) -> Result<Result<String, Failure>, ReconcileError> {
    let name = backup_name(&identity.name, slot);
    let schedule_ref = Some(LocalRef { name: identity.name.clone() });
    let spec = BackupSpec { schedule_ref, ..BackupSpec::default() };
    let mut backup = Backup::new(&name, spec);
    // No owner: a schedule that is deleted leaves its backups.
    backup.meta_mut().namespace = Some(identity.namespace.clone());
    backup.meta_mut().labels = Some(BTreeMap::from([
        (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
        (labels::SCHEDULE.to_owned(), identity.name.clone()),
    ]));
    backup.meta_mut().annotations =
        Some(BTreeMap::from([(labels::SLOT.to_owned(), slot.to_string())]));
    let api: Api<Backup> = Api::namespaced(context.client.clone(), &identity.namespace);
    let params =
        PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, &backup).await {
        Ok(_) => Ok(Ok(name)),
        Err(error) if is_conflict(&error) => Ok(Ok(name)),
        Err(error) => match rejection(&error) {
            Some(why) => {
                let message =
                    format!("the Backup {name} of the slot {slot} could not be created: {why}");
                Ok(Err(Failure::new(Reason::BackupRejected, message)))
            }
            None => Err(ReconcileError::Create(format!("the Backup {name}"), Box::new(error))),
        },
    }
}

/// The repository as the watch knows it: this looks again when it changes.
fn repository(
    context: &Context,
    namespace: &str,
    schedule: &BackupSchedule,
) -> Option<BackupRepository> {
    let name = ObjectRef::new(&schedule.spec.repository_ref.name).within(namespace);
    context.repositories.get(&name)?.0.as_ref().ok().cloned()
}

/// When to look again: at the next slot, or when the words about the last success change.
fn next_look(decision: &SlotDecision, children: &Children, now: Timestamp) -> Duration {
    let mut wait = Duration::from_secs(3600);
    if let Some(next) = decision.next {
        wait = wait.min(until(next, now));
    }
    if let Some(last) = children.last_success {
        let age = now.duration_since(last).as_secs().max(0);
        let to_full_hour = u64::try_from(3600 - age % 3600).unwrap_or(3600);
        wait = wait.min(Duration::from_secs(to_full_hour + 1));
    }
    wait
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
