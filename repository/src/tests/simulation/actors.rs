//! Who works in the world: writers, readers, collectors, retention, people who
//! pin. Each process opens the repository anew, as a Job does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::{ByteCounts, Initialize, MadeBy};
use dbbackup_storage::RetryPolicy;
use jiff::Timestamp;
use tokio::time::sleep;

use super::LOOSE;
use super::world::{Process, Weather, World};
use crate::block_set::BlockSet;
use crate::blocks::read_blocks;
use crate::buffers::Buffers;
use crate::envelope::{Kind, ObjectSeal};
use crate::head::{About, Head, PackPage, PredecessorRef};
use crate::names::{PACKS, PartName, SNAPSHOTS, SnapshotId};
use crate::pack::{OpenPack, PackEntry};
use crate::piece::{Place, encode_piece};
use crate::session::{BegunAttempt, Heart};
use crate::tables::{Usage, UsedPack, pack_usage, put_pack};
use crate::{
    CollectOptions, Encryption, Environment, Error, ForgetReason, OpenOptions, RepackOptions,
    Repository, Result,
};

/// A process's clock, which may be wrong, and numbers from the world's dice.
#[derive(Debug)]
struct Surroundings {
    world: Arc<World>,
    skew: Duration,
}

impl Environment for Surroundings {
    fn now(&self) -> Timestamp {
        let now = self.world.clock(tokio::time::Instant::now()) + self.skew;
        Timestamp::try_from(now).unwrap()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<()> {
        let seed = self.world.dice(super::world::Dice::next);
        bytes.copy_from_slice(&super::super::fixture::noise(seed, bytes.len()));
        Ok(())
    }
}

pub(super) async fn open(process: &Arc<Process>) -> Result<Repository> {
    let skew = process.world.dice(|dice| dice.seconds(0..7200));
    let options = OpenOptions {
        read_only: false,
        initialize: Initialize::IfEmpty,
        retry: RetryPolicy { tries: 4, ..RetryPolicy::default() },
        kdf: crate::Kdf::default(),
        environment: Arc::new(Surroundings { world: Arc::clone(&process.world), skew }),
    };
    let store = Arc::clone(process);
    Ok(Repository::open_with(store, &Encryption::None, options).await?.repository)
}

/// A run of a schedule: processes make attempts until one has succeeded, as the
/// operator has it; sometimes two work at the same time.
pub(super) async fn run(world: Arc<World>, series: String, run: String, weather: Weather) {
    let slot = Timestamp::try_from(world.clock(tokio::time::Instant::now())).unwrap();
    for _ in 0..4 {
        let process = Process::start(&world, weather);
        let attempt = attempt(Arc::clone(&process), series.clone(), run.clone(), slot);
        let work = tokio::spawn(async move { process.run(attempt).await });
        // Who is not done by then is taken for dead, and may not be.
        let patience = world.dice(|dice| dice.seconds(3600..30 * 3600));
        if let Ok(Ok(Some(Ok(())))) = tokio::time::timeout(patience, work).await {
            return;
        }
        let delay = world.dice(|dice| dice.seconds(1..3600));
        sleep(delay).await;
    }
}

async fn attempt(
    process: Arc<Process>,
    series: String,
    run: String,
    slot: Timestamp,
) -> Result<()> {
    let repository = open(&process).await?;
    let attempt = match repository.begin_attempt(&series, &run, slot).await? {
        Ok(attempt) => attempt,
        Err(snapshot) => {
            return promise(&process.world, snapshot.id());
        }
    };
    let _heart = Heart::start(Arc::clone(&repository.inner), attempt.id.clone(), None);
    let mut table = inherit(&process.world, &repository, &attempt).await?;
    let mut hooks = None;
    for n in 0..process.world.dice(|dice| 1 + dice.below(2)) {
        let length = process.world.dice(|dice| dice.seconds(60..7200));
        sleep(length).await;
        // What hooks find, a loose writer finds without them.
        if !LOOSE.get() && process.world.dice(|dice| dice.hits(400)) {
            find_by_hooks(&process.world, &repository, &attempt, &mut hooks, &mut table).await?;
        }
        let pack = write_pack(&process.world, &repository, &attempt.id, n as u32).await?;
        for block in 0..pack.blocks {
            table.take(&pack, block);
        }
    }
    let head = head(&attempt, &series, &run, slot, &table.used());
    repository.inner.commit_head(&attempt.id, &head.encode()?).await?;
    promise(&process.world, &attempt.id)
}

/// A writer is told that its snapshot is committed.
fn promise(world: &World, id: &SnapshotId) -> Result<()> {
    world.truth(|truth| truth.promised.insert(id.to_string()));
    Ok(())
}

/// The packs that a new snapshot uses.
#[derive(Default)]
struct Table(BTreeMap<PartName, (PackEntry, BlockSet)>);

impl Table {
    fn has(&self, pack: &PartName) -> bool {
        self.0.contains_key(pack)
    }

    fn take(&mut self, entry: &PackEntry, block: u32) {
        let taken = self.0.entry(entry.name.clone());
        taken.or_insert_with(|| (entry.clone(), BlockSet::default())).1.insert(block);
    }

    /// Some of the blocks that another snapshot uses of a pack, from where they are.
    fn take_some(&mut self, pack: &UsedPack, attempt: &BegunAttempt, world: &World) {
        for block in BlockSet::used(pack).iter() {
            if !world.dice(|dice| dice.hits(800)) {
                continue;
            }
            let homes = attempt.absent.homes(&pack.entry);
            let moved = homes.filter_map(|home| Some((&*home.entry, home.place(block)?))).next();
            if let Some((home, place)) = moved {
                self.take(home, place);
            } else if !attempt.absent.contains(&pack.entry.name) {
                self.take(&pack.entry, block);
            }
        }
    }

    fn used(self) -> Vec<UsedPack> {
        let used = |(entry, blocks): (PackEntry, BlockSet)| {
            let usage = (0..entry.blocks as usize)
                .map(|n| if blocks.contains(n as u32) { Usage::Whole } else { Usage::Unused });
            UsedPack { usage: pack_usage(usage), entry: entry.into() }
        };
        self.0.into_values().map(used).collect()
    }
}

/// Packs of the predecessor.
async fn inherit(world: &World, repository: &Repository, attempt: &BegunAttempt) -> Result<Table> {
    let mut table = Table::default();
    if let Some(predecessor) = attempt.predecessors.newest() {
        for pack in predecessor.packs().await?.iter() {
            table.take_some(pack, attempt, world);
        }
    }
    if LOOSE.get() {
        find_anything(world, repository, attempt, &mut table).await?;
    }
    Ok(table)
}

/// Packs in the tables of live heads of all series, as hooks find them. The heads are
/// read once, at any time of the run, and what they say is used until its end.
async fn find_by_hooks(
    world: &World,
    repository: &Repository,
    attempt: &BegunAttempt,
    hooks: &mut Option<Vec<UsedPack>>,
    table: &mut Table,
) -> Result<()> {
    if hooks.is_none() {
        let mut known = Vec::new();
        let mut heads = Vec::from_iter(attempt.predecessors.newest().cloned());
        for ids in repository.other_series(&attempt.id).await? {
            heads.extend(repository.newest_of(ids).await.0);
        }
        for snapshot in heads {
            for pack in snapshot.packs().await?.iter() {
                known.extend(attempt.absent.now(pack));
            }
        }
        *hooks = Some(known);
    }
    for pack in hooks.iter().flatten() {
        let name = &pack.entry.name;
        if world.dice(|dice| dice.hits(400)) && !table.has(name)
            // Its footer is read before it is used.
            && repository.inner.exists(&name.pack_object()).await?
        {
            table.take_some(pack, attempt, world);
        }
    }
    Ok(())
}

/// Packs that are there, whether or not a head names them: against the rules, and
/// what most other rules are seen by to be kept.
async fn find_anything(
    world: &World,
    repository: &Repository,
    attempt: &BegunAttempt,
    table: &mut Table,
) -> Result<()> {
    if !world.dice(|dice| dice.hits(500)) {
        return Ok(());
    }
    for name in world.names(PACKS) {
        let last = name.rsplit('/').next().and_then(PartName::parse).unwrap();
        let known = table.has(&last);
        if known || !world.dice(|dice| dice.hits(500)) || attempt.absent.contains(&last) {
            continue;
        }
        if let Some(entry) = find_entry(repository, &last, &attempt.id).await? {
            for block in 0..entry.blocks {
                table.take(&entry, block);
            }
        }
    }
    Ok(())
}

/// The entry of a pack whose session is over, read from the pack itself.
async fn find_entry(
    repository: &Repository,
    name: &PartName,
    own: &SnapshotId,
) -> Result<Option<PackEntry>> {
    let inner = &repository.inner;
    let session = SnapshotId::parse(&name.session)?;
    let over = inner.head_object(&session).await?.is_some() || inner.is_forgotten(&session).await?;
    let Some(object) = inner.find(&name.pack_object()).await? else { return Ok(None) };
    if !over || session == *own {
        return Ok(None);
    }
    PackEntry::of_object(&inner.keys, name.clone(), &object).map(Some)
}

async fn write_pack(
    world: &World,
    repository: &Repository,
    id: &SnapshotId,
    n: u32,
) -> Result<PackEntry> {
    let inner = &repository.inner;
    let name = PartName::new(Arc::from(id.as_str()), n);
    let object = name.pack_object();
    let seal = ObjectSeal::fresh(&inner.keys, &*inner.environment, Kind::Pack, object.clone())?;
    let mut pack = OpenPack::new(&inner.keys, name, seal, Vec::new());
    for block in 0..world.dice(|dice| 1 + dice.below(3)) {
        let content = format!("{object} {block}");
        let chunk = (inner.keys.chunk_id(content.as_bytes()), content.len() as u32);
        pack.push(content.as_bytes(), false, &[chunk])?;
    }
    let pack = pack.finish(false)?;
    if !inner.create(&object, pack.object.into()).await? {
        return Err(Error::System(format!("{object} exists")));
    }
    Ok(pack.entry)
}

fn head(
    attempt: &BegunAttempt,
    series: &str,
    run: &str,
    slot: Timestamp,
    packs: &[UsedPack],
) -> Head {
    let mut sessions: Vec<Arc<str>> = vec![Arc::from(attempt.id.as_str())];
    let mut page = Vec::new();
    for pack in packs {
        let session = &pack.entry.name.session;
        let index = sessions.iter().position(|known| known == session).unwrap_or_else(|| {
            sessions.push(Arc::clone(session));
            sessions.len() - 1
        });
        put_pack(&mut page, index as u32, pack);
    }
    let before = attempt.predecessors.newest();
    let about = About {
        session: attempt.id.to_string(),
        series: series.into(),
        run_id: run.into(),
        slot_time: slot,
        attempt: attempt.id.attempt(),
        kind: "Logical".into(),
        made_by: MadeBy::Schedule,
        sequence: before.map_or(1, |before| before.about().sequence + 1),
        predecessor: before.map(|before| PredecessorRef {
            id: before.id().to_string(),
            digest: before.digest().to_owned(),
        }),
        copied_from: None,
        start_time: slot,
        commit_time: slot,
        bytes: ByteCounts::default(),
        streams: 0,
        labels: serde_json::Value::Null,
    };
    let page = PackPage { entries: packs.len() as u32, place: Place::Inline(encode_piece(&page)) };
    Head { sessions, pack_pages: vec![page], ..Head::of(about) }
}

/// Retention: of each series the newest few stay.
pub(super) async fn retain(process: Arc<Process>, keep: usize) -> Result<()> {
    let repository = open(&process).await?;
    let list = repository.snapshots(None).await?;
    let mut by_series = std::collections::BTreeMap::<_, Vec<_>>::new();
    for snapshot in list.snapshots {
        by_series.entry(snapshot.about().series.clone()).or_default().push(snapshot.id().clone());
    }
    for ids in by_series.into_values() {
        for id in ids.iter().rev().skip(keep) {
            match repository.forget(id, ForgetReason::Retention, "simulated").await {
                Ok(()) | Err(Error::Pinned(_) | Error::SnapshotNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// A collection. That it finds snapshots missing is noted; it may have to.
/// An eager one repacks what there is to gain.
pub(super) async fn collect(process: Arc<Process>, eager: bool) -> Result<()> {
    let repository = open(&process).await?;
    let unused_percent = process.world.dice(|dice| 1 + dice.below(60)) as u8;
    let repack = RepackOptions { unused_percent, merge_from: 3, ..RepackOptions::default() };
    let options = CollectOptions { repack: eager.then_some(repack), ..CollectOptions::default() };
    for _ in 0..process.world.dice(|dice| 1 + dice.below(3)) {
        collect_once(&process, &repository, &options).await?;
        // Somebody is impatient.
        let pause = process.world.dice(|dice| dice.seconds(30..400));
        sleep(pause).await;
    }
    Ok(())
}

async fn collect_once(
    process: &Process,
    repository: &Repository,
    options: &CollectOptions,
) -> Result<()> {
    let done = repository.collect(options).await;
    match done {
        Err(Error::SnapshotsMissing(gone)) => {
            process.world.truth(|truth| {
                if !truth.anything_stolen() {
                    truth.violated(format!("a false alarm: {gone:?}"));
                }
            });
            Ok(())
        }
        Err(Error::Storage(_) | Error::Fenced(_)) | Ok(_) => Ok(()),
        Err(error) => {
            process.world.truth(|truth| truth.violated(format!("a collection failed: {error}")));
            Err(error)
        }
    }
}

/// A person pins a snapshot, and perhaps takes the pin back later.
pub(super) async fn pin(process: Arc<Process>) -> Result<()> {
    let repository = open(&process).await?;
    let list = repository.snapshots(None).await?;
    let Some(snapshot) = choose(&process.world, &list.snapshots) else { return Ok(()) };
    let id = snapshot.id();
    if repository.pin(id, "simulated").await.is_err() {
        return Ok(());
    }
    process.world.truth(|truth| truth.promise_pin(id.as_str()));
    if process.world.dice(|dice| dice.hits(500)) {
        let time = process.world.dice(|dice| dice.seconds(3600..5 * 86_400));
        sleep(time).await;
        repository.unpin(id, "simulated").await?;
    }
    Ok(())
}

/// A restore: what it has begun to read stays until it ends.
pub(super) async fn read(process: Arc<Process>) -> Result<()> {
    let repository = open(&process).await?;
    let session = repository.begin_reading().await?;
    let list = repository.snapshots(None).await?;
    let Some(snapshot) = choose(&process.world, &list.snapshots) else {
        return session.end().await;
    };
    // It may have been let go before this session began to hold it.
    let Ok(found) = repository.find(snapshot.id().as_str()).await else {
        return session.end().await;
    };
    for pack in found.packs().await?.iter().filter(|pack| pack.is_used()) {
        let time = process.world.dice(|dice| dice.seconds(60..6 * 3600));
        sleep(time).await;
        let blocks: Vec<_> = BlockSet::used(pack).iter().collect();
        match read_blocks(&repository.inner, &pack.entry, &blocks, &Buffers::new(0)).await {
            Err(error @ (Error::Missing(_) | Error::Damaged { .. })) => {
                let what = format!("a restore of {}: {error}", found.id());
                process.world.truth(|truth| truth.violated(what));
            }
            read => _ = read?,
        }
    }
    session.end().await
}

fn choose<'a, T>(world: &World, from: &'a [T]) -> Option<&'a T> {
    from.get(world.dice(|dice| dice.below(from.len() as u64)) as usize)
}

/// Somebody deletes a head: data that only it needs must stay.
pub(super) fn steal(world: &World) {
    let known = world.truth(|truth| truth.known_heads());
    let Some(id) = choose(world, &known) else { return };
    world.truth(|truth| truth.steal(id));
    world.apply_delete(&format!("{SNAPSHOTS}{id}"));
}
