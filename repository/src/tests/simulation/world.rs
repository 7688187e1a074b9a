//! The store as the world is: slow, lagging, sometimes deaf; and the truth about
//! it, which no process sees.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_storage::{Creation, Error, ErrorKind, Listing, ObjectInfo, Operation, Result, Store};
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::truth::Truth;
use crate::keyring::Keyring;

/// The longest lag of a listing that the protocol allows for.
const LONGEST_LAG: Duration = Duration::from_secs(300);

/// Numbers that only look random (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xD134_2543_DE82_EF95))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True so many times in a thousand.
    pub(super) fn hits(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub(super) fn seconds(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start * 1000 + self.below((range.end - range.start) * 1000))
    }
}

#[derive(Debug)]
struct Object {
    bytes: Bytes,
    created: Instant,
}

#[derive(Debug)]
struct Deleted {
    name: String,
    size: u64,
    created: Instant,
    gone: Instant,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Object>,
    deleted: Vec<Deleted>,
    dice: Dice,
    truth: Truth,
}

/// How badly a process is treated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Operations of a thousand before which the process dies.
    pub(super) crashes: u64,
    /// Operations of a thousand before which it stands still.
    pub(super) freezes: u64,
    /// For how long at most.
    pub(super) longest_freeze: Duration,
    /// Writes of a thousand that are not acknowledged: half of them took effect.
    pub(super) deafness: u64,
    /// Writes of a thousand that take effect after everybody gave them up.
    pub(super) lateness: u64,
}

/// All there is.
#[derive(Debug)]
pub(super) struct World {
    state: Mutex<State>,
    begin: Instant,
    keys: OnceLock<Keyring>,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let state = State {
            objects: BTreeMap::new(),
            deleted: Vec::new(),
            dice: Dice::new(seed),
            truth: Truth::default(),
        };
        Arc::new(Self { state: Mutex::new(state), begin: Instant::now(), keys: OnceLock::new() })
    }

    pub(super) fn understand(&self, keys: Keyring) {
        self.keys.set(keys).unwrap();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn dice<T>(&self, throw: impl FnOnce(&mut Dice) -> T) -> T {
        throw(&mut self.lock().dice)
    }

    pub(super) fn truth<T>(&self, look: impl FnOnce(&mut Truth) -> T) -> T {
        look(&mut self.lock().truth)
    }

    /// The time of day, as the store's clock has it.
    pub(super) fn clock(&self, at: Instant) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + (at - self.begin)
    }

    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let state = self.lock();
        state.objects.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    fn apply_create(&self, name: &str, bytes: Bytes) -> Creation {
        let state = &mut *self.lock();
        if state.objects.contains_key(name) {
            return Creation::Exists;
        }
        if let Some(keys) = self.keys.get() {
            state.truth.created(keys, name, &bytes);
        }
        state.objects.insert(name.to_owned(), Object { bytes, created: Instant::now() });
        state.truth.note(format!("{:>10.1?} create {name}", self.begin.elapsed()));
        if ["snapshots/", "decisions/"].iter().any(|folder| name.starts_with(folder)) {
            state.truth.check(|name| state.objects.contains_key(name));
        }
        Creation::Created
    }

    pub(super) fn apply_delete(&self, name: &str) {
        let state = &mut *self.lock();
        let Some(object) = state.objects.remove(name) else { return };
        state.deleted.push(Deleted {
            name: name.to_owned(),
            size: object.bytes.len() as u64,
            created: object.created,
            gone: Instant::now(),
        });
        state.truth.note(format!("{:>10.1?} delete {name}", self.begin.elapsed()));
        state.truth.deleted(name, |name| state.objects.contains_key(name));
        if ["snapshots/", "packs/", "meta/"].iter().any(|folder| name.starts_with(folder)) {
            state.truth.check(|name| state.objects.contains_key(name));
        }
    }

    fn list_once(&self, prefix: &str) -> Vec<ObjectInfo> {
        let now = Instant::now();
        let state = &mut *self.lock();
        let mut found = Vec::new();
        let lag = state.dice.seconds(0..LONGEST_LAG.as_secs());
        for (name, object) in state.objects.range(prefix.to_owned()..) {
            if !name.starts_with(prefix) {
                break;
            }
            if object.created + lag <= now {
                found.push(self.info(name, object.bytes.len() as u64, object.created));
            }
        }
        state.deleted.retain(|deleted| deleted.gone + LONGEST_LAG > now);
        for deleted in &state.deleted {
            if deleted.name.starts_with(prefix) && deleted.gone + lag > now {
                found.push(self.info(&deleted.name, deleted.size, deleted.created));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        found
    }

    fn info(&self, name: &str, size: u64, created: Instant) -> ObjectInfo {
        ObjectInfo { name: name.to_owned(), size, modified: self.clock(created) }
    }
}

/// The store as one process sees it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) world: Arc<World>,
    weather: Weather,
    frozen_until: Mutex<Instant>,
    pub(super) dead: CancellationToken,
}

impl Process {
    pub(super) fn start(world: &Arc<World>, weather: Weather) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            weather,
            frozen_until: Mutex::new(Instant::now()),
            dead: CancellationToken::new(),
        })
    }

    /// Runs `work` until it is done or the process dies.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.dead.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// What happens before anything else: some time passes, much of it in a
    /// freeze, and the process may die.
    async fn pause(&self) {
        let (latency, freeze, dies) = self.world.dice(|dice| {
            let latency = Duration::from_millis(1 + dice.below(400));
            let freeze = dice
                .hits(self.weather.freezes)
                .then(|| dice.seconds(0..self.weather.longest_freeze.as_secs().max(1)));
            (latency, freeze, dice.hits(self.weather.crashes))
        });
        let until = {
            let mut until = self.frozen_until.lock().unwrap();
            if let Some(freeze) = freeze {
                *until = Instant::now() + freeze;
            }
            *until
        };
        tokio::time::sleep_until(until.max(Instant::now() + latency)).await;
        if dies {
            self.dead.cancel();
        }
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    async fn write<T>(
        &self,
        operation: Operation,
        name: &str,
        apply: impl FnOnce(&World) -> T + Send + 'static,
    ) -> Result<T> {
        self.pause().await;
        let lost = || Error::new(ErrorKind::Unavailable, operation, name, "no answer");
        let (deaf, applied, late) = self.world.dice(|dice| {
            let late = dice.hits(self.weather.lateness).then(|| dice.seconds(1..12 * 3600));
            (dice.hits(self.weather.deafness), dice.hits(500), late)
        });
        if let Some(late) = late {
            let world = Arc::clone(&self.world);
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                apply(&world);
            });
            return Err(lost());
        }
        if deaf && !applied {
            return Err(lost());
        }
        let done = apply(&self.world);
        self.pause().await;
        if deaf { Err(lost()) } else { Ok(done) }
    }

    async fn read(&self, operation: Operation, name: &str) -> Result<(Bytes, ObjectInfo)> {
        self.pause().await;
        let state = self.world.lock();
        let found = state.objects.get(name).map(|object| {
            let info = self.world.info(name, object.bytes.len() as u64, object.created);
            (object.bytes.clone(), info)
        });
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, operation, name, "no such object"))
    }
}

#[async_trait]
impl Store for Process {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        let owned = name.to_owned();
        self.write(Operation::Create, name, move |world| world.apply_create(&owned, bytes)).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        Ok(self.read(Operation::Read, name).await?.0)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let (bytes, _) = self.read(Operation::Read, name).await?;
        // Another pack of this name may be back.
        let within = range.end <= bytes.len() as u64;
        let cut = || Error::new(ErrorKind::Truncated, Operation::Read, name, "it ends before");
        within.then(|| bytes.slice(range.start as usize..range.end as usize)).ok_or_else(cut)
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        Ok(self.read(Operation::Head, name).await?.1)
    }

    /// The store changes between the two pages of a listing.
    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        let prefix = prefix.to_owned();
        async move {
            self.pause().await;
            let first = self.world.list_once(&prefix);
            let end = first.get(first.len() / 2).map(|object| object.name.clone());
            self.pause().await;
            let second = self.world.list_once(&prefix);
            let before = |object: &ObjectInfo| end.as_ref().is_some_and(|end| object.name < *end);
            let page = first.into_iter().filter(|object| before(object));
            let rest = second.into_iter().filter(|object| !before(object));
            futures::stream::iter(page.chain(rest).map(Ok).collect::<Vec<_>>())
        }
        .into_stream()
        .flatten()
        .boxed()
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let owned = name.to_owned();
        self.write(Operation::Delete, name, move |world| world.apply_delete(&owned)).await
    }
}
