//! The order in which backups begin: a pure function of who runs and who waits.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use dbbackup_crds::Backup;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::labels;

/// A backup, as far as the order needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) repository: String,
    /// Its slot; of one by hand, when it was made.
    pub(super) since: Timestamp,
}

impl Entry {
    pub(super) fn of(backup: &Backup, repository: &str) -> Self {
        let slot = backup.annotations().get(labels::SLOT).and_then(|text| text.parse().ok());
        let created = || backup.creation_timestamp().map(|time| time.0);
        Self {
            uid: backup.metadata.uid.clone().unwrap_or_default(),
            namespace: backup.namespace().unwrap_or_default(),
            name: backup.name_any(),
            repository: repository.to_owned(),
            since: slot.or_else(created).unwrap_or(Timestamp::MAX),
        }
    }

    fn place(&self) -> Place {
        (self.namespace.clone(), self.repository.clone())
    }
}

/// Namespace and name of a repository.
type Place = (String, String);

/// Who runs, who waits, and how many may run.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    limits: HashMap<Place, usize>,
    running: Running,
    /// By UID.
    waiting: HashMap<String, Entry>,
}

/// How many run where.
#[derive(Clone, Debug, Default)]
struct Running {
    all: usize,
    by_namespace: HashMap<String, usize>,
    by_repository: HashMap<Place, usize>,
}

impl Running {
    fn add(&mut self, entry: &Entry) {
        self.all += 1;
        *self.by_namespace.entry(entry.namespace.clone()).or_default() += 1;
        *self.by_repository.entry(entry.place()).or_default() += 1;
    }
}

impl Line {
    /// A repository allows so many at once.
    pub(super) fn limit(&mut self, namespace: String, repository: String, limit: usize) {
        self.limits.insert((namespace, repository), limit);
    }

    pub(super) fn run(&mut self, entry: &Entry) {
        self.running.add(entry);
    }

    /// Adds one that waits, once.
    pub(super) fn enqueue(&mut self, entry: Entry) {
        self.waiting.insert(entry.uid.clone(), entry);
    }

    /// Those that may begin now. The next one is of the namespace in which the fewest run, so
    /// that one team's thousand databases keep no other's from being backed up; of several the
    /// one that is due the longest. Who waits for its repository keeps no other one back.
    pub(super) fn next(&self, limit: Option<NonZeroUsize>) -> Vec<Entry> {
        let mut next = Vec::new();
        if !self.is_free(&self.running, limit) {
            return next;
        }
        let (mut running, mut waiting) = (self.running.clone(), self.by_place());
        while self.is_free(&running, limit) {
            let firsts = waiting.values().filter_map(|entries| entries.last().copied());
            let may = firsts.filter(|entry| self.has_room(&running, entry));
            let Some(first) = may.min_by_key(|entry| rank(&running, entry)) else { break };
            running.add(first);
            next.push(first.clone());
            waiting.get_mut(&first.place()).and_then(Vec::pop);
        }
        next
    }

    /// Those that wait, by their repositories; of each the one that is due the longest at the end.
    fn by_place(&self) -> HashMap<Place, Vec<&Entry>> {
        let mut waiting: HashMap<Place, Vec<&Entry>> = HashMap::new();
        for entry in self.waiting.values() {
            waiting.entry(entry.place()).or_default().push(entry);
        }
        for entries in waiting.values_mut() {
            entries.sort_by(|a, b| (b.since, &b.name).cmp(&(a.since, &a.name)));
        }
        waiting
    }

    /// What one waits for that is not among `next`.
    pub(super) fn why(&self, entry: &Entry, next: &[Entry], limit: Option<NonZeroUsize>) -> String {
        let mut running = self.running.clone();
        next.iter().for_each(|next| running.add(next));
        match (self.limits.get(&entry.place()), limit) {
            (Some(most), _) if !self.has_room(&running, entry) => format!(
                "as many backups run as the BackupRepository {} allows at once: {most} (spec.maxConcurrentJobs)",
                entry.repository
            ),
            (_, Some(most)) => {
                format!("as many backups run as the operator allows at once: {most}")
            }
            // Never: who is not among the next waits for one of the two.
            (_, None) => "others come first".to_owned(),
        }
    }

    fn is_free(&self, running: &Running, limit: Option<NonZeroUsize>) -> bool {
        limit.is_none_or(|limit| running.all < limit.get())
    }

    fn has_room(&self, running: &Running, entry: &Entry) -> bool {
        let place = entry.place();
        let here = running.by_repository.get(&place).copied().unwrap_or(0);
        self.limits.get(&place).is_none_or(|limit| here < *limit)
    }
}

fn rank<'a>(running: &Running, entry: &'a Entry) -> (usize, Timestamp, &'a str, &'a str) {
    let in_namespace = running.by_namespace.get(&entry.namespace).copied().unwrap_or(0);
    (in_namespace, entry.since, &entry.namespace, &entry.name)
}
