//! `BackupSchedule`: each slot becomes a `Backup` with the slot's name.

mod attempt;
mod preflight;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{DatabaseOutcome, Failure, Reason};
use dbbackup_crds::{
    Backup, BackupPhase, BackupRepository, BackupSchedule, BackupScheduleStatus, BackupSpec,
    BackupStatus, ConcurrencyPolicy, LocalRef, SlotBaseline,
};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

pub use attempt::AttemptTrouble;
pub use status::{Outlook, stalled, standing};

use super::one_shot::until;
use super::{copies, notifications};
use crate::cluster::{is_conflict, rejection, write_status};
use crate::context::{Context, Identity, ReconcileError};
use crate::events::{publish, warn};
use crate::labels;
use crate::names::{backup_name, schedule_series};
use crate::reasons;
use crate::slots::{SlotDecision, Slots, delay_of};

/// What a schedule's backups tell of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Children {
    /// Those that have not ended, by name.
    pub active: Vec<String>,
    /// When one last succeeded.
    pub last_success: Option<Timestamp>,
    /// Of those that succeeded, when the one that began last began, and when it ended.
    pub proof: Option<(Timestamp, Timestamp)>,
    /// The newest one: slot or creation, name, phase.
    pub newest: Option<(Timestamp, String, BackupPhase)>,
    /// The one that ended last, by hand or not.
    pub last_ended: Option<Ended>,
    /// How far they are copied to each place.
    pub copies: Vec<copies::Outlook>,
    /// What became of telling each who is told of them.
    pub told: Vec<notifications::Outlook>,
}

/// A backup that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it began, or was created if it never did.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub time: Timestamp,
    /// Its name.
    pub name: String,
    /// How.
    pub phase: BackupPhase,
    /// Why it did not do all; `None` where it has succeeded.
    pub failure: Option<Failure>,
    /// The databases that are not in its snapshot, by name.
    pub left_out: Vec<String>,
    /// What went wrong with hooks of it, where it is not what it failed by.
    pub of_hooks: Option<Failure>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create the `Backup` of this slot.
    Create(Timestamp),
    /// The slot waits for the backups that run.
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
    let identity = Identity::of(schedule)?;
    let mut status = schedule.status.clone().unwrap_or_default();
    let generation = schedule.metadata.generation;
    let slots = match slots(schedule, context) {
        Ok(slots) => slots,
        Err(error) => {
            let failure = Failure::new(Reason::InvalidSpec, error).with_hint("");
            let status = stalled(status, &failure, generation, now);
            if schedule.status.as_ref() != Some(&status) {
                warn(context, schedule, "Read", &failure).await;
            }
            write_status(context, schedule, status).await?;
            return Ok(Action::await_change());
        }
    };
    let repository = repository(context, &identity.namespace, schedule);
    let children = children(context, &identity, schedule);
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
    };
    let status = standing(status, schedule, &children, &outlook, now);
    write_status(context, schedule, status).await?;
    let next = match rejected {
        Some(_) => TRY_AGAIN,
        None => next_look(&decision, &children, now),
    };
    Ok(Action::requeue(ahead.map_or(next, |ahead| next.min(ahead))))
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
    let since = status.slots_since.as_ref().map_or(now, |baseline| baseline.time);
    // A time in the future (somebody's clock was wrong) would silence the schedule.
    status.last_schedule_time.filter(|last| *last <= now).map_or(since, |last| last.max(since))
}

/// Plans the next step.
#[must_use]
pub fn plan(schedule: &BackupSchedule, decision: &SlotDecision, children: &Children) -> Step {
    if schedule.spec.suspend {
        return Step::Rest;
    }
    if let Some(first) = first_at_once(schedule, children) {
        return Step::Create(first);
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

/// What the watch knows of the schedule's backups, those by hand included.
fn children(context: &Context, identity: &Identity, schedule: &BackupSchedule) -> Children {
    let known = context.backups_of.get(&identity.namespace, &identity.name);
    let ours: Vec<&Backup> = known.iter().filter_map(|backup| backup.0.as_ref().ok()).collect();
    let mut children = Children {
        copies: copies::outlook(schedule, &ours),
        told: notifications::outlook(schedule, &ours),
        ..Children::default()
    };
    ours.iter().for_each(|backup| children.add(backup));
    children.active.sort();
    children
}

impl Children {
    fn add(&mut self, backup: &Backup) {
        let status = backup.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        if !phase.is_terminal() {
            self.active.push(backup.name_any());
        }
        if phase == BackupPhase::Succeeded {
            self.last_success = self.last_success.max(status.completion_time);
            self.proof = self.proof.max(status.start_time.zip(status.completion_time));
        }
        let is_scheduled = labels::slot_of(backup).is_some();
        let created = backup.creation_timestamp().map(|time| time.0);
        if let Some(created) = created.filter(|_| is_scheduled)
            && self.newest.as_ref().is_none_or(|(time, ..)| *time < created)
        {
            self.newest = Some((created, backup.name_any(), phase));
        }
        if phase.is_terminal()
            && let Some(time) = status.completion_time.or(created)
            && self.last_ended.as_ref().is_none_or(|last| last.time < time)
        {
            let began = status.start_time.or(created);
            self.last_ended = Some(Ended::of(backup.name_any(), began, time, phase, status));
        }
    }
}

impl Ended {
    fn of(
        name: String,
        began: Option<Timestamp>,
        time: Timestamp,
        phase: BackupPhase,
        status: BackupStatus,
    ) -> Self {
        let unexplained = || match phase {
            BackupPhase::PartiallyFailed => {
                Failure::new(Reason::DatabaseFailed, "some databases failed")
            }
            _ => Failure::new(Reason::Internal, "no reason is known"),
        };
        // What was let go is told of no more.
        let has_failed = !matches!(phase, BackupPhase::Succeeded | BackupPhase::Expired);
        let failure = has_failed.then(|| status.error.unwrap_or_else(unexplained));
        let of_hooks = super::backup::hooks::trouble(&status.hooks);
        let failed = |outcome| outcome == DatabaseOutcome::Failed;
        let left_out = status.databases.into_iter().filter(|database| failed(database.outcome));
        let left_out = left_out.map(|database| database.name).collect();
        Self { began, time, name, phase, failure, left_out, of_hooks }
    }
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
