//! What each watch sets off.

use std::sync::Arc;

use dbbackup_crds::{Backup, BackupRepository, BackupSchedule};
use futures::StreamExt;
use kube::runtime::controller::{Config as ControllerConfig, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::{Watched, now};
use crate::context::Guarded;
use crate::index::Index;
use crate::queue::Queue;
use crate::reconcile::copies;
use crate::watch::Watch;

/// Reconciles at once, for each kind: a bound on what a restart asks of the API server.
const CONCURRENCY: u16 = 16;

/// Most changes of backups after which the line is looked at once.
const CHANGES: usize = 1000;

/// The controller of the kind that is watched.
pub(super) fn controller<K: Watched>(watch: &mut Watch<Guarded<K>>) -> Controller<Guarded<K>> {
    Controller::for_shared_stream(watch.listen(), watch.store())
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
}

/// Schedules look again when their repository changes, and when a backup of theirs does.
pub(super) fn of_schedules(
    schedules: &mut Watch<Guarded<BackupSchedule>>,
    repositories: &mut Watch<Guarded<BackupRepository>>,
    backups: &mut Watch<Guarded<Backup>>,
) -> Controller<Guarded<BackupSchedule>> {
    let known = schedules.store();
    controller(schedules)
        .watches_shared_stream(repositories.listen(), move |found| {
            waiting_for(&known.state(), &*found, |schedule: &BackupSchedule| {
                Some(schedule.spec.repository_ref.name.clone())
            })
        })
        .watches_shared_stream(backups.listen(), |backup| {
            let namespace = backup.namespace()?;
            let schedule = backup.0.as_ref().ok()?.spec.schedule_ref.as_ref()?;
            Some(ObjectRef::new(&schedule.name).within(&namespace))
        })
}

/// Backups look again when a repository changes that they wait for.
pub(super) fn with_repositories(
    controller: Controller<Guarded<Backup>>,
    backups: &Watch<Guarded<Backup>>,
    repositories: &mut Watch<Guarded<BackupRepository>>,
) -> Controller<Guarded<Backup>> {
    let known = backups.store();
    controller.watches_shared_stream(repositories.listen(), move |found| {
        waiting_for(&known.state(), &*found, |backup: &Backup| {
            let status = backup.status.as_ref();
            let phase = status.and_then(|status| status.phase).unwrap_or_default();
            let waits = !phase.is_terminal() || copies::waits_for(backup, &found.name_any());
            waits.then(|| found.name_any())
        })
    })
}

/// Backups that wait for their turn look again when it may have come.
pub(super) fn with_turns(
    controller: Controller<Guarded<Backup>>,
    backups: &mut Watch<Guarded<Backup>>,
    queue: Arc<Queue>,
) -> Controller<Guarded<Backup>> {
    // A new list tells of all backups at once: whose turn it is, is computed once for many.
    let gave_way = Arc::clone(&queue);
    let changes = backups.listen().ready_chunks(CHANGES).filter_map(move |changes| {
        let one = changes.into_iter().find(|changed| gave_way.gives_way(changed));
        std::future::ready(one)
    });
    controller.watches_shared_stream(changes, move |_| queue.next())
}

/// Backups look at their copies again when a sibling's have moved on, and when their
/// schedule wants others.
pub(super) fn with_copies(
    controller: Controller<Guarded<Backup>>,
    backups: &mut Watch<Guarded<Backup>>,
    schedules: &mut Watch<Guarded<BackupSchedule>>,
    backups_of: Index<Guarded<Backup>>,
) -> Controller<Guarded<Backup>> {
    let named = |namespace: Option<String>, names: Vec<String>| {
        let namespace = namespace.unwrap_or_default();
        names.into_iter().map(move |name| ObjectRef::new(&name).within(&namespace))
    };
    let siblings = backups.store();
    controller
        .watches_shared_stream(backups.listen(), move |changed| {
            // A list of all backups is made for those alone that are copied anywhere.
            let copied = changed.0.as_ref().ok().filter(|backup| copies::has_any(backup));
            let next = copied.map(|backup| copies::next_in_line(&siblings.state(), backup, now()));
            named(changed.namespace(), next.unwrap_or_default())
        })
        .watches_shared_stream(schedules.listen(), move |changed| {
            let namespace = changed.namespace().unwrap_or_default();
            let names = changed.0.as_ref().ok().map(|schedule| {
                copies::unlisted(&backups_of.get(&namespace, &schedule.name_any()), schedule)
            });
            named(Some(namespace), names.unwrap_or_default())
        })
}

/// The objects of the store that lie in the namespace of `found` and name it.
fn waiting_for<K, O>(
    objects: &[Arc<Guarded<K>>],
    found: &Guarded<O>,
    names: impl Fn(&K) -> Option<String>,
) -> Vec<ObjectRef<Guarded<K>>>
where
    K: Resource<DynamicType = ()>,
    O: Resource<DynamicType = ()>,
{
    let (namespace, name) = (found.meta().namespace.as_deref(), found.meta().name.as_deref());
    objects
        .iter()
        .filter_map(|object| object.0.as_ref().ok())
        .filter(|object| object.meta().namespace.as_deref() == namespace)
        .filter(|object| names(object).as_deref() == name)
        .filter_map(|object| {
            let own = object.meta().name.as_deref()?;
            Some(ObjectRef::new(own).within(namespace?))
        })
        .collect()
}
