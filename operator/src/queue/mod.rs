//! How many backups run at once: as many as their repository allows (`maxConcurrentJobs`)
//! and the operator does, for each namespace and for all. The others wait: next is one of the
//! namespace in which the fewest run.
//!
//! What runs is taken down as the watches tell it, which lag behind what is begun here. So
//! whoever may begin is remembered until the watch shows it running. After a change of leader
//! a few more may run for a moment: that is no harm, only more than was wished for.

mod changes;
mod entry;
mod line;
mod running;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dbbackup_contract::{Failure, Reason};
use dbbackup_crds::{Backup, BackupRepository};
use kube::runtime::reflector::{ObjectRef, Store};

use self::changes::{Changes, name};
use self::entry::{Entry, Shown};
pub use self::line::Limits;
use self::line::Line;
use crate::context::Guarded;
use crate::watch::Watch;

/// How long the first lists of all namespaces may take.
const LONGEST_LISTING: Duration = Duration::from_secs(30);

/// Who runs, and who waits.
#[derive(Default)]
pub struct Queue {
    line: Mutex<Line>,
    followed: Mutex<Vec<Followed>>,
}

type Followed = (Store<Guarded<BackupRepository>>, Store<Guarded<Backup>>);

impl Queue {
    /// A queue for all namespaces.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { line: Mutex::new(Line::new(limits)), ..Self::default() }
    }

    /// Follows the watches of a namespace, or of all.
    pub fn follow(
        self: &Arc<Self>,
        scope: Option<&str>,
        repositories: &mut Watch<Guarded<BackupRepository>>,
        backups: &mut Watch<Guarded<Backup>>,
    ) {
        locked(&self.followed).push((repositories.store(), backups.store()));
        let (queue, of) = (Arc::clone(self), scope.map(ToOwned::to_owned));
        let mut changes = Changes::default();
        repositories.follow(move |event| {
            if let Some(change) = changes.take(event, limit) {
                locked(&queue.line).limit(of.as_deref(), change);
            }
        });
        let (queue, of) = (Arc::clone(self), scope.map(ToOwned::to_owned));
        let mut changes = Changes::default();
        let shown = |backup: &Guarded<Backup>| backup.0.as_ref().ok().and_then(Shown::of);
        backups.follow(move |event| {
            if let Some(change) = changes.take(event, shown) {
                locked(&queue.line).show(of.as_deref(), change);
            }
        });
    }

    /// Waits until all that is watched is known: before that limits could be exceeded. A
    /// namespace that cannot be listed keeps the others waiting for a while only.
    pub async fn wait_until_known(&self) {
        let followed = locked(&self.followed).clone().into_iter();
        let known = followed.map(|(repositories, backups)| async move {
            let _ = repositories.wait_until_ready().await;
            let _ = backups.wait_until_ready().await;
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
        let uid = backup.metadata.uid.as_deref().unwrap_or_default();
        let entry = Entry::of(backup, repository);
        let admitted = locked(&self.line).admit(uid, entry, Instant::now());
        admitted.map_err(|why| Failure::new(Reason::Queued, why))
    }

    /// One that was let begin could not: others may.
    pub fn give_back(&self, backup: &Backup) {
        let uid = backup.metadata.uid.as_deref().unwrap_or_default();
        locked(&self.line).give_back(uid, name(backup));
    }

    /// Whether somebody's turn may have come by what was seen of a backup. One that runs gives
    /// way to nobody, and reports often.
    #[must_use]
    pub fn gives_way(&self, changed: &Guarded<Backup>) -> bool {
        !locked(&self.line).runs(&name(changed))
    }

    /// Those whose turn it is.
    #[must_use]
    pub fn next(&self) -> Vec<ObjectRef<Guarded<Backup>>> {
        let next = locked(&self.line).next(Instant::now()).into_iter();
        next.map(|entry| ObjectRef::new(&entry.name).within(entry.namespace())).collect()
    }
}

fn limit(repository: &Guarded<BackupRepository>) -> Option<usize> {
    repository.0.as_ref().ok()?.spec.max_concurrent_jobs.map(usize::from)
}

// A panic while one of these is held must not stop all others for good.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
