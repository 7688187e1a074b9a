//! How many backups run at once: as many as their repository allows (`maxConcurrentJobs`)
//! and the operator does. The others wait: next is one of the namespace in which the fewest run.
//!
//! What runs is read from the watches, which lag behind what is begun here. So whoever may
//! begin is remembered until the watch shows it running. After a change of leader a few more
//! may run for a moment: that is no harm, only more than was wished for.

mod line;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{Backup, BackupPhase};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use self::line::{Entry, Line};
use crate::context::Guarded;
use crate::metrics::Stores;

/// How long one that may begin counts as running though the watch does not show it.
const BELIEVED: Duration = Duration::from_secs(300);

/// How long the first lists of all namespaces may take.
const LONGEST_LISTING: Duration = Duration::from_secs(30);

/// Who runs, and who waits.
#[derive(Default)]
pub struct Queue {
    /// Backups that may run at once in all namespaces; no limit where absent.
    limit: Option<NonZeroUsize>,
    stores: Mutex<Vec<Stores>>,
    /// By UID.
    admitted: Mutex<HashMap<String, Admitted>>,
}

/// One that may begin, and that the watch does not show running yet.
struct Admitted {
    entry: Entry,
    since: Instant,
    /// Whether the watch has it, as it was when it was let begin.
    waits: bool,
}

impl Queue {
    /// A queue for all namespaces, before which so many run at once.
    #[must_use]
    pub fn new(limit: Option<NonZeroUsize>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Adds what is known of the backups and repositories of a namespace, or of all.
    pub fn watch(&self, stores: Stores) {
        locked(&self.stores).push(stores);
    }

    /// Waits until all that is watched is known: before that limits could be exceeded. A
    /// namespace that cannot be listed keeps the others waiting for a while only.
    pub async fn wait_until_known(&self) {
        let known = locked(&self.stores).clone().into_iter().map(|stores| async move {
            let _ = stores.repositories.wait_until_ready().await;
            let _ = stores.backups.wait_until_ready().await;
        });
        if tokio::time::timeout(LONGEST_LISTING, futures::future::join_all(known)).await.is_err() {
            tracing::warn!("not every namespace is known yet: more backups may run at once");
        }
    }

    /// Lets a backup begin that writes into this repository, and counts it as running; or
    /// says which limit it waits for. Asking again gives the same answer.
    ///
    /// # Errors
    /// `Queued`.
    pub fn admit(&self, backup: &Backup, repository: &str) -> Result<(), Failure> {
        let mut admitted = locked(&self.admitted);
        let mut line = self.line(&mut admitted);
        let own = Entry::of(backup, repository);
        if admitted.contains_key(&own.uid) {
            return Ok(());
        }
        line.enqueue(own.clone());
        let next = line.next(self.limit);
        if next.iter().any(|next| next.uid == own.uid) {
            let may = Admitted { entry: own.clone(), since: Instant::now(), waits: true };
            admitted.insert(own.uid, may);
            return Ok(());
        }
        Err(Failure::new(Reason::Queued, line.why(&own, &next, self.limit)))
    }

    /// Whether somebody's turn may have come by what was seen of a backup. One that runs gives
    /// way to nobody, and reports often.
    #[must_use]
    pub fn gives_way(&self, changed: &Guarded<Backup>) -> bool {
        let name = ObjectRef::from_obj(changed);
        let known = locked(&self.stores).iter().find_map(|stores| stores.backups.get(&name));
        !known.is_some_and(|backup| backup.0.as_ref().is_ok_and(runs))
    }

    /// Those whose turn it is.
    #[must_use]
    pub fn next(&self) -> Vec<ObjectRef<Guarded<Backup>>> {
        let line = self.line(&mut locked(&self.admitted));
        let next = line.next(self.limit).into_iter();
        next.map(|entry| ObjectRef::new(&entry.name).within(&entry.namespace)).collect()
    }

    /// Who runs and who waits now.
    fn line(&self, admitted: &mut HashMap<String, Admitted>) -> Line {
        let mut line = Line::default();
        admitted.values_mut().for_each(|it| it.waits = false);
        for stores in &*locked(&self.stores) {
            for repository in stores.repositories.state() {
                let Ok(repository) = &repository.0 else { continue };
                let Some(limit) = repository.spec.max_concurrent_jobs else { continue };
                let namespace = repository.namespace().unwrap_or_default();
                line.limit(namespace, repository.name_any(), usize::from(limit));
            }
            for backup in stores.backups.state() {
                let Ok(backup) = &backup.0 else { continue };
                see(backup, admitted, &mut line);
            }
        }
        admitted.retain(|_, it| it.waits && it.since.elapsed() < BELIEVED);
        admitted.values().for_each(|it| line.run(&it.entry));
        line
    }
}

/// Takes down where one stands. Who may begin is believed until the watch shows more: that it
/// runs, or that something else keeps it from running, such as a quota.
fn see(backup: &Backup, admitted: &mut HashMap<String, Admitted>, line: &mut Line) {
    let status = backup.status.as_ref();
    let phase = status.and_then(|status| status.phase).unwrap_or_default();
    let trouble = status.and_then(|status| status.error.as_ref()).map(|error| error.reason);
    let is_kept = trouble.is_some_and(|reason| reason != Reason::Queued);
    let waits =
        phase == BackupPhase::Pending && !is_kept && backup.metadata.deletion_timestamp.is_none();
    if waits && let Some(it) = backup.metadata.uid.as_ref().and_then(|uid| admitted.get_mut(uid)) {
        it.waits = true;
        return;
    }
    let Some(repository) = status.and_then(|status| status.repository.as_ref()) else { return };
    if runs(backup) {
        line.run(&Entry::of(backup, &repository.name));
    } else if waits && trouble == Some(Reason::Queued) {
        line.enqueue(Entry::of(backup, &repository.name));
    }
}

/// Whether its Job runs, or starts. Of one whose outcome is unknown the repository is being
/// asked: its Job is over, unless a node was lost and it may begin again.
fn runs(backup: &Backup) -> bool {
    backup.status.as_ref().is_some_and(|status| {
        let lost = status.error.as_ref().is_some_and(|it| it.reason == Reason::PodDisrupted);
        status.phase == Some(BackupPhase::Running) && (status.inspections.is_none() || lost)
    })
}

// A panic while one of these is held leaves nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
