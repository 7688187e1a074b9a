//! Who runs and who waits, kept as the watches tell it, and the order in which backups begin.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::changes::Change;
use super::entry::{Entry, Name, Shown, Stand};
use super::running::{Running, Supposed};

/// How long one that may begin counts as running though the watch does not show it.
pub(super) const BELIEVED: Duration = Duration::from_secs(300);

/// How many backups the operator lets run at once; no limit where absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// In all namespaces.
    pub all: Option<NonZeroUsize>,
    /// In each namespace.
    pub of_namespace: Option<NonZeroUsize>,
}

/// Who runs, who waits, and how many may run. Everything that is counted belongs to an object
/// that the watches show, and is taken back before that changes: nothing is counted twice, and
/// nothing stays of what is gone.
#[derive(Default)]
pub(super) struct Line {
    limits: Limits,
    of_repositories: HashMap<Name, usize>,
    /// All backups that have not ended.
    known: HashMap<Name, Known>,
    running: Running,
    /// By the repositories that they write into. Of each only the first one can be the next.
    waiting: HashMap<Name, BTreeSet<Entry>>,
    /// Who was let begin, and when; the earliest first.
    let_begin: VecDeque<(Instant, Name)>,
}

struct Known {
    shown: Shown,
    /// It was let begin: it counts as running until the watch shows what became of it.
    turn: Option<Turn>,
}

struct Turn {
    since: Instant,
    entry: Entry,
}

impl Line {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes down what a watch of this namespace, or of all, says of repositories' limits.
    pub(super) fn limit(&mut self, scope: Option<&str>, change: Change<usize>) {
        match change {
            Change::One(name, Some(limit)) => {
                self.of_repositories.insert(name, limit);
            }
            Change::One(name, None) => {
                self.of_repositories.remove(&name);
            }
            Change::All(list) => {
                self.of_repositories.retain(|name, _| !is_in(scope, name));
                self.of_repositories.extend(list);
            }
        }
    }

    /// Takes down what a watch of this namespace, or of all, says of backups.
    pub(super) fn show(&mut self, scope: Option<&str>, change: Change<Shown>) {
        match change {
            Change::One(name, shown) => self.show_one(name, shown),
            Change::All(list) => {
                let is_gone = |name: &&Name| is_in(scope, name) && !list.contains_key(*name);
                let gone: Vec<Name> = self.known.keys().filter(is_gone).cloned().collect();
                gone.into_iter().for_each(|name| self.show_one(name, None));
                list.into_iter().for_each(|(name, shown)| self.show_one(name, Some(shown)));
            }
        }
    }

    /// Who was let begin is believed until the watch shows more: that it runs, or that
    /// something else keeps it from running.
    fn show_one(&mut self, name: Name, shown: Option<Shown>) {
        let before = self.take(&name);
        let Some(shown) = shown else { return };
        let before = before.filter(|before| shown.is_still(&before.shown));
        self.put(name, Known { shown, turn: before.and_then(|before| before.turn) });
    }

    /// Lets one begin that writes there, if it is its turn, or says what it waits for.
    pub(super) fn admit(&mut self, uid: &str, entry: Entry, now: Instant) -> Result<(), String> {
        self.forget(now);
        let name = entry.key();
        // Who asks has not heard yet.
        let gone = Err("it has ended, or is being deleted".to_owned());
        let Some(mut known) = self.take(&name) else { return gone };
        let answer = if known.shown.uid != uid {
            gone
        } else if matches!(known.counts(), Some(Counts::Running(_))) {
            Ok(())
        } else {
            // The watch need not show yet that it waits.
            self.enqueue(&entry);
            let judged = self.judge(&entry);
            self.dequeue(&entry);
            if judged.is_ok() {
                known.turn = Some(Turn { since: now, entry });
                self.let_begin.push_back((now, name.clone()));
            }
            judged
        };
        self.put(name, known);
        answer
    }

    /// It was let begin, and could not.
    pub(super) fn give_back(&mut self, uid: &str, name: Name) {
        let Some(mut known) = self.take(&name) else { return };
        known.turn = known.turn.filter(|_| known.shown.uid != uid);
        self.put(name, known);
    }

    /// Those that may begin now.
    pub(super) fn next(&mut self, now: Instant) -> Vec<Entry> {
        self.forget(now);
        self.turns()
    }

    /// Whether the watch shows it running.
    pub(super) fn runs(&self, name: &Name) -> bool {
        let known = self.known.get(name);
        known.is_some_and(|known| matches!(known.shown.stand, Stand::Runs(_)))
    }

    /// No longer believes those that were let begin long ago.
    fn forget(&mut self, now: Instant) {
        let is_old = |since: Instant| now.saturating_duration_since(since) >= BELIEVED;
        while let Some((since, name)) = self.let_begin.pop_front_if(|(since, _)| is_old(*since)) {
            if let Some(mut known) = self.take(&name) {
                known.turn = known.turn.filter(|turn| turn.since != since);
                self.put(name, known);
            }
        }
    }

    /// Takes one out of all that is counted. What changes goes through this and `put`.
    fn take(&mut self, name: &Name) -> Option<Known> {
        let known = self.known.remove(name)?;
        match known.counts() {
            Some(Counts::Running(entry)) => self.running.remove(entry),
            Some(Counts::Waiting(entry)) => self.dequeue(entry),
            None => {}
        }
        Some(known)
    }

    fn put(&mut self, name: Name, known: Known) {
        match known.counts() {
            Some(Counts::Running(entry)) => self.running.add(entry),
            Some(Counts::Waiting(entry)) => self.enqueue(entry),
            None => {}
        }
        self.known.insert(name, known);
    }

    fn enqueue(&mut self, entry: &Entry) {
        self.waiting.entry(entry.repository.clone()).or_default().insert(entry.clone());
    }

    fn dequeue(&mut self, entry: &Entry) {
        let Some(entries) = self.waiting.get_mut(&entry.repository) else { return };
        entries.remove(entry);
        if entries.is_empty() {
            self.waiting.remove(&entry.repository);
        }
    }

    fn judge(&self, entry: &Entry) -> Result<(), String> {
        let mut supposed = Supposed::new(&self.running);
        // The usual answer while others run needs no look at the line.
        if !self.has_room(&supposed, entry) || !self.is_free(&supposed) {
            return Err(self.why(&supposed, entry));
        }
        let turns = self.turns();
        if turns.contains(entry) {
            return Ok(());
        }
        turns.iter().for_each(|turn| supposed.add(turn));
        Err(self.why(&supposed, entry))
    }

    /// Those whose turn it is. The next one is of the namespace in which the fewest run, so
    /// that one team's thousand databases keep no other's from being backed up; of several the
    /// one that is due the longest. Who waits for its repository or namespace keeps no other
    /// one back.
    fn turns(&self) -> Vec<Entry> {
        let mut next = Vec::new();
        let mut supposed = Supposed::new(&self.running);
        if !self.is_free(&supposed) {
            return next;
        }
        let mut lines: Vec<_> = self.waiting.values().map(BTreeSet::iter).collect();
        let firsts = lines.iter_mut().enumerate().filter_map(|(index, line)| {
            let first = line.next()?;
            Some(Reverse((supposed.in_namespace(first), first, index)))
        });
        let mut firsts: BinaryHeap<_> = firsts.collect();
        while self.is_free(&supposed)
            && let Some(Reverse((ran, first, index))) = firsts.pop()
        {
            let run = supposed.in_namespace(first);
            if run > ran {
                firsts.push(Reverse((run, first, index)));
            } else if self.has_room(&supposed, first) {
                supposed.add(first);
                next.push(first.clone());
                let behind = lines[index].next();
                firsts.extend(behind.map(|behind| Reverse((run + 1, behind, index))));
            }
        }
        next
    }

    /// What one waits for, when so many run.
    fn why(&self, supposed: &Supposed<'_>, entry: &Entry) -> String {
        if let Some(most) = self.full_repository(supposed, entry) {
            let name = &entry.repository.1;
            return format!(
                "as many backups run as the BackupRepository {name} allows at once: {most} (spec.maxConcurrentJobs)"
            );
        }
        if let Some(most) = self.full_namespace(supposed, entry) {
            return format!(
                "as many backups run as the operator allows a namespace at once: {most} (maxConcurrentJobsPerNamespace)"
            );
        }
        match self.limits.all {
            Some(most) => format!("as many backups run as the operator allows at once: {most}"),
            // Never: who is not among the next waits for one of the three.
            None => "others come first".to_owned(),
        }
    }

    fn is_free(&self, supposed: &Supposed<'_>) -> bool {
        self.limits.all.is_none_or(|most| supposed.all() < most.get())
    }

    fn has_room(&self, supposed: &Supposed<'_>, entry: &Entry) -> bool {
        self.full_repository(supposed, entry).or(self.full_namespace(supposed, entry)).is_none()
    }

    /// The limit of its repository, where that is reached.
    fn full_repository(&self, supposed: &Supposed<'_>, entry: &Entry) -> Option<usize> {
        let limit = self.of_repositories.get(&entry.repository).copied();
        limit.filter(|most| supposed.in_repository(entry) >= *most)
    }

    /// The limit of its namespace, where that is reached.
    fn full_namespace(&self, supposed: &Supposed<'_>, entry: &Entry) -> Option<usize> {
        let limit = self.limits.of_namespace.map(NonZeroUsize::get);
        limit.filter(|most| supposed.in_namespace(entry) >= *most)
    }
}

/// As what a backup counts.
enum Counts<'a> {
    Running(&'a Entry),
    Waiting(&'a Entry),
}

impl Known {
    fn counts(&self) -> Option<Counts<'_>> {
        match (&self.shown.stand, &self.turn) {
            (Stand::Runs(entry), _) | (Stand::Rests { .. }, Some(Turn { entry, .. })) => {
                Some(Counts::Running(entry))
            }
            (Stand::Rests { waits, .. }, None) => waits.as_ref().map(Counts::Waiting),
        }
    }
}

fn is_in(scope: Option<&str>, (namespace, _): &Name) -> bool {
    scope.is_none_or(|scope| scope == namespace)
}

#[cfg(test)]
impl Line {
    /// Whether nothing is counted and nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        let counted = self.running != Running::default() || !self.waiting.is_empty();
        let kept = self.let_begin.is_empty() && self.of_repositories.is_empty();
        !counted && self.known.is_empty() && kept
    }

    pub(super) fn running_now(&self) -> usize {
        Supposed::new(&self.running).all()
    }
}
