//! The line against the plain computation, which looks at all backups for each question: they
//! agree whatever comes to pass.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dbbackup_contract::{Failure, Reason};
use proptest::prelude::*;
use serde_json::json;

use super::super::changes::Changes;
use super::super::entry::{Entry, Shown};
use super::super::line::{BELIEVED, Line};
use super::*;

const NAMESPACES: [&str; 2] = ["shop", "crm"];
const REPOSITORIES: [&str; 2] = ["main", "second"];
const BACKUPS: usize = 5;

/// How a backup is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    New,
    Queued,
    Quota,
    Unschedulable,
    Running,
    Asked,
    Lost,
    Ended,
    BeingDeleted,
}

impl Look {
    fn runs(self) -> bool {
        matches!(self, Self::Running | Self::Lost)
    }

    fn may_begin(self) -> bool {
        !self.runs() && !matches!(self, Self::Ended | Self::BeingDeleted)
    }

    /// Queued is as good as new for who was let begin.
    fn trouble(self) -> Self {
        if self == Self::Queued { Self::New } else { self }
    }

    fn status(self) -> Value {
        let error = |reason| Some(Failure::new(reason, "as told"));
        let (phase, error, inspections) = match self {
            Self::New => ("Pending", None, None),
            Self::Queued | Self::BeingDeleted => ("Pending", error(Reason::Queued), None),
            Self::Quota => ("Pending", error(Reason::PodRejected), None),
            Self::Unschedulable => ("Pending", error(Reason::Unschedulable), None),
            Self::Running => ("Running", None, None),
            Self::Asked => ("Running", None, Some(1)),
            Self::Lost => ("Running", error(Reason::PodDisrupted), Some(1)),
            Self::Ended => ("Succeeded", None, None),
        };
        json!({"phase": phase, "error": error, "inspections": inspections})
    }
}

/// A backup as the watch shows it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    namespace: usize,
    number: usize,
    repository: usize,
    life: usize,
    look: Look,
}

impl Seen {
    fn uid(self) -> String {
        format!("{}-{}-{}", self.namespace, self.number, self.life)
    }

    fn object(self) -> Backup {
        let mut status = self.look.status();
        if self.look != Look::New {
            status["repository"] = json!({"name": REPOSITORIES[self.repository]});
        }
        // Two of a namespace are due at the same time.
        let minute = u8::try_from(self.number / 2).unwrap();
        let mut object = backup(NAMESPACES[self.namespace], minute, &status);
        object.metadata.name = Some(format!("backup-{}", self.number));
        object.metadata.uid = Some(self.uid());
        if self.look == Look::BeingDeleted {
            object.metadata.deletion_timestamp =
                serde_json::from_value(json!("2026-11-23T02:00:00Z")).unwrap();
        }
        object
    }

    fn entry(self) -> Entry {
        Entry::of(&self.object(), REPOSITORIES[self.repository])
    }
}

/// Looks at everything for each question.
#[derive(Default)]
struct Plain {
    all: usize,
    of_namespace: usize,
    of_repositories: BTreeMap<(usize, usize), usize>,
    backups: BTreeMap<(usize, usize), Seen>,
    /// As they were when they were let begin, as what they asked, and when.
    let_begin: BTreeMap<String, (Seen, Instant)>,
}

impl Plain {
    /// After every change, and before every question.
    fn look(&mut self, now: Instant) {
        let backups = &self.backups;
        self.let_begin.retain(|uid, (begun, since)| {
            let seen = backups.get(&(begun.namespace, begun.number));
            let is_still = |seen: &&Seen| {
                seen.uid() == *uid
                    && seen.look.may_begin()
                    && seen.look.trouble() == begun.look.trouble()
            };
            seen.filter(is_still).is_some() && now.duration_since(*since) < BELIEVED
        });
    }

    fn running(&self) -> Vec<Entry> {
        let shown = self.backups.values().filter(|seen| seen.look.runs());
        shown.chain(self.let_begin.values().map(|(begun, _)| begun)).map(|it| it.entry()).collect()
    }

    fn waiting(&self) -> Vec<Entry> {
        let waits =
            |seen: &&Seen| seen.look == Look::Queued && !self.let_begin.contains_key(&seen.uid());
        self.backups.values().filter(waits).map(|seen| seen.entry()).collect()
    }

    fn next(&self, mut waiting: Vec<Entry>) -> Vec<Entry> {
        let (mut running, mut next) = (self.running(), Vec::new());
        let limit = |most: usize| if most == 0 { usize::MAX } else { most };
        loop {
            let in_namespace =
                |it: &Entry| running.iter().filter(|run| run.namespace() == it.namespace()).count();
            let may = waiting.iter().filter(|it| {
                let here = running.iter().filter(|run| run.repository == it.repository).count();
                let (namespace, repository) = &it.repository;
                let place = (
                    NAMESPACES.iter().position(|name| name == namespace).unwrap(),
                    REPOSITORIES.iter().position(|name| name == repository).unwrap(),
                );
                running.len() < limit(self.all)
                    && in_namespace(it) < limit(self.of_namespace)
                    && here < self.of_repositories.get(&place).copied().unwrap_or(usize::MAX)
            });
            let first = may.min_by_key(|it| (in_namespace(it), (*it).clone())).cloned();
            let Some(first) = first else { return next };
            waiting.retain(|it| *it != first);
            running.push(first.clone());
            next.push(first);
        }
    }

    fn admit(&mut self, asks: Seen, now: Instant) -> bool {
        self.look(now);
        let Some(seen) = self.backups.get(&(asks.namespace, asks.number)).copied() else {
            return false;
        };
        if seen.uid() != asks.uid() || !(seen.look.runs() || seen.look.may_begin()) {
            return false;
        }
        if seen.look.runs() || self.let_begin.contains_key(&seen.uid()) {
            return true;
        }
        let mut waiting = self.waiting();
        waiting.retain(|it| it.key() != asks.entry().key());
        waiting.push(asks.entry());
        let may = self.next(waiting).contains(&asks.entry());
        if may {
            let begun = Seen { repository: asks.repository, ..seen };
            self.let_begin.insert(seen.uid(), (begun, now));
        }
        may
    }
}

/// What comes to pass.
#[derive(Clone, Debug)]
enum Act {
    Show(Seen),
    Delete(usize, usize),
    /// The watch of a namespace begins anew; meanwhile somebody asks.
    Relist {
        namespace: usize,
        list: Vec<Seen>,
        broken_off: bool,
        asks: Seen,
    },
    Limit {
        namespace: usize,
        repository: usize,
        limit: Option<u16>,
    },
    RelistLimits {
        namespace: usize,
        limit: Option<u16>,
    },
    Ask(Seen),
    GiveBack(Seen),
    Pass(u64),
}

fn seen() -> impl Strategy<Value = Seen> {
    let look = prop_oneof![
        3 => Just(Look::New),
        5 => Just(Look::Queued),
        3 => Just(Look::Running),
        1 => Just(Look::Quota),
        1 => Just(Look::Unschedulable),
        1 => Just(Look::Asked),
        1 => Just(Look::Lost),
        2 => Just(Look::Ended),
        1 => Just(Look::BeingDeleted),
    ];
    let life = prop_oneof![5 => Just(0_usize), 1 => Just(1)];
    (0..NAMESPACES.len(), 0..BACKUPS, 0..REPOSITORIES.len(), life, look).prop_map(
        |(namespace, number, repository, life, look)| Seen {
            namespace,
            number,
            repository,
            life,
            look,
        },
    )
}

fn limits() -> impl Strategy<Value = Option<u16>> {
    proptest::option::of(1..4_u16)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (namespace, repository) = (0..NAMESPACES.len(), 0..REPOSITORIES.len());
    let act = prop_oneof![
        8 => seen().prop_map(Act::Show),
        2 => (namespace.clone(), 0..BACKUPS).prop_map(|(namespace, n)| Act::Delete(namespace, n)),
        1 => (namespace.clone(), proptest::collection::vec(seen(), 0..BACKUPS), any::<bool>(), seen())
            .prop_map(|(namespace, list, broken_off, asks)| Act::Relist {
                namespace, list, broken_off, asks,
            }),
        1 => (namespace.clone(), repository, limits()).prop_map(
            |(namespace, repository, limit)| Act::Limit { namespace, repository, limit }),
        1 => (namespace, limits())
            .prop_map(|(namespace, limit)| Act::RelistLimits { namespace, limit }),
        10 => seen().prop_map(Act::Ask),
        1 => seen().prop_map(Act::GiveBack),
        1 => (0..2 * BELIEVED.as_secs()).prop_map(Act::Pass),
    ];
    proptest::collection::vec(act, 0..60)
}

/// The line and the plain computation, side by side. Each namespace has watches of its own.
struct Both {
    line: Line,
    plain: Plain,
    backups: [Changes<Shown>; NAMESPACES.len()],
    limits: [Changes<usize>; NAMESPACES.len()],
    now: Instant,
}

impl Both {
    fn with(all: usize, of_namespace: usize) -> Self {
        let limit = NonZeroUsize::new;
        let line = Line::new(Limits { all: limit(all), of_namespace: limit(of_namespace) });
        let plain = Plain { all, of_namespace, ..Plain::default() };
        let (backups, limits) = Default::default();
        Self { line, plain, backups, limits, now: Instant::now() }
    }

    fn tell(&mut self, namespace: usize, event: &Event<Backup>) {
        if let Some(change) = self.backups[namespace].take(event, Shown::of) {
            self.line.show(Some(NAMESPACES[namespace]), change);
        }
    }

    fn tell_limit(&mut self, namespace: usize, event: &Event<BackupRepository>) {
        let limit = |it: &BackupRepository| it.spec.max_concurrent_jobs.map(usize::from);
        if let Some(change) = self.limits[namespace].take(event, limit) {
            self.line.limit(Some(NAMESPACES[namespace]), change);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Show(seen) => {
                self.tell(seen.namespace, &Event::Apply(seen.object()));
                self.plain.backups.insert((seen.namespace, seen.number), seen);
            }
            Act::Delete(namespace, number) => {
                if let Some(seen) = self.plain.backups.remove(&(namespace, number)) {
                    self.tell(namespace, &Event::Delete(seen.object()));
                }
            }
            Act::Relist { namespace, list, broken_off, asks } => {
                self.relist(namespace, &list, broken_off, asks);
            }
            Act::Limit { namespace, repository, limit } => {
                let place = (namespace, repository);
                self.tell_limit(namespace, &Event::Apply(repository_of(place, limit)));
                match limit {
                    Some(limit) => self.plain.of_repositories.insert(place, limit.into()),
                    None => self.plain.of_repositories.remove(&place),
                };
            }
            Act::RelistLimits { namespace, limit } => {
                self.tell_limit(namespace, &Event::Init);
                self.tell_limit(namespace, &Event::InitApply(repository_of((namespace, 0), limit)));
                self.tell_limit(namespace, &Event::InitDone);
                self.plain.of_repositories.retain(|(other, _), _| *other != namespace);
                let limit = limit.map(|limit| ((namespace, 0), limit.into()));
                self.plain.of_repositories.extend(limit);
            }
            Act::Ask(asks) => self.ask(asks),
            Act::GiveBack(seen) => {
                self.line.give_back(&seen.uid(), seen.entry().key());
                self.plain.let_begin.remove(&seen.uid());
            }
            Act::Pass(seconds) => self.now += Duration::from_secs(seconds),
        }
        self.plain.look(self.now);
    }

    fn relist(&mut self, namespace: usize, list: &[Seen], broken_off: bool, asks: Seen) {
        let list: Vec<Seen> = list.iter().map(|seen| Seen { namespace, ..*seen }).collect();
        self.tell(namespace, &Event::Init);
        list.iter().for_each(|seen| self.tell(namespace, &Event::InitApply(seen.object())));
        // What was known holds until the list is complete.
        self.ask(asks);
        if broken_off {
            return;
        }
        self.tell(namespace, &Event::InitDone);
        self.plain.backups.retain(|(other, _), _| *other != namespace);
        self.plain.backups.extend(list.iter().map(|seen| ((namespace, seen.number), *seen)));
    }

    fn ask(&mut self, asks: Seen) {
        let ran = self.plain.running().len();
        let told = self.line.admit(&asks.uid(), asks.entry(), self.now);
        assert_eq!(told.is_ok(), self.plain.admit(asks, self.now), "{asks:?}: {told:?}");
        let runs = self.plain.running().len();
        assert!(runs <= ran || self.plain.all == 0 || runs <= self.plain.all);
    }

    fn agree(&mut self) {
        assert_eq!(self.line.next(self.now), self.plain.next(self.plain.waiting()));
        assert_eq!(self.line.running_now(), self.plain.running().len());
    }
}

fn repository_of((namespace, repository): (usize, usize), limit: Option<u16>) -> BackupRepository {
    let mut object = super::repository(NAMESPACES[namespace], limit);
    object.metadata.name = Some(REPOSITORIES[repository].to_owned());
    object
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]
    #[test]
    fn whatever_comes_to_pass_the_line_answers_as_if_it_looked_at_everything(
        all in 0..5_usize, of_namespace in 0..4_usize, acts in acts(),
    ) {
        let mut both = Both::with(all, of_namespace);
        for act in acts {
            both.act(act);
            both.agree();
        }
        // Nothing is left of what is gone.
        for namespace in 0..NAMESPACES.len() {
            both.tell(namespace, &Event::Init);
            both.tell(namespace, &Event::InitDone);
            both.tell_limit(namespace, &Event::Init);
            both.tell_limit(namespace, &Event::InitDone);
        }
        both.now += BELIEVED;
        prop_assert!(both.line.next(both.now).is_empty());
        prop_assert!(both.line.is_empty());
    }
}
