//! How many run where.

use std::collections::HashMap;
use std::hash::Hash;

use super::entry::{Entry, Name};

/// How many run where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Running {
    all: usize,
    namespaces: HashMap<String, usize>,
    repositories: HashMap<Name, usize>,
}

impl Running {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.all += 1;
        *self.namespaces.entry(entry.namespace().to_owned()).or_default() += 1;
        *self.repositories.entry(entry.repository.clone()).or_default() += 1;
    }

    /// Takes away one that was added.
    pub(super) fn remove(&mut self, entry: &Entry) {
        self.all -= 1;
        decrease(&mut self.namespaces, entry.repository.0.clone());
        decrease(&mut self.repositories, entry.repository.clone());
    }
}

/// One less; nothing is left of what nothing runs in.
fn decrease<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    use std::collections::hash_map::Entry;
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// Those that run, and more that are thought of as running: counted beside them, so that
/// nothing is copied.
pub(super) struct Supposed<'a> {
    running: &'a Running,
    all: usize,
    namespaces: HashMap<&'a str, usize>,
    repositories: HashMap<&'a Name, usize>,
}

impl<'a> Supposed<'a> {
    pub(super) fn new(running: &'a Running) -> Self {
        let (namespaces, repositories) = (HashMap::new(), HashMap::new());
        Self { running, all: 0, namespaces, repositories }
    }

    pub(super) fn add(&mut self, entry: &'a Entry) {
        self.all += 1;
        *self.namespaces.entry(entry.namespace()).or_default() += 1;
        *self.repositories.entry(&entry.repository).or_default() += 1;
    }

    pub(super) fn all(&self) -> usize {
        self.running.all + self.all
    }

    pub(super) fn in_namespace(&self, entry: &Entry) -> usize {
        let namespace = entry.namespace();
        let runs = self.running.namespaces.get(namespace).copied().unwrap_or(0);
        runs + self.namespaces.get(namespace).copied().unwrap_or(0)
    }

    pub(super) fn in_repository(&self, entry: &Entry) -> usize {
        let repository = &entry.repository;
        let runs = self.running.repositories.get(repository).copied().unwrap_or(0);
        runs + self.repositories.get(repository).copied().unwrap_or(0)
    }
}
