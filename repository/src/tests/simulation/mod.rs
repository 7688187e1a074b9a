//! The deletion protocol under everything that can go wrong, by chance and
//! replayable: one seed, one run.
//!
//! The code of sessions, commits, forgetting, pins and the collector is the real
//! one; only the pipeline that fills packs is left out. Time is simulated: the
//! runtime moves its clock on when everybody waits, and on one thread everything
//! happens in the same order each time. After each step that could harm, every
//! snapshot is compared with what is stored ([`truth`]).
//!
//! `SIMULATION_SEEDS=100000 cargo test --release -p dbbackup-repository simulation`
//! runs more of them.

mod actors;
mod truth;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use self::world::{Dice, Process, Weather, World};
use crate::block_set::BlockSet;
use crate::guards::{BROKEN, Guard};
use crate::keyring::Keyring;

const CALM: Weather =
    Weather { crashes: 0, freezes: 0, longest_freeze: Duration::ZERO, deafness: 0, lateness: 0 };

/// Seeds of one run of the tests.
const SEEDS: u64 = 2000;
/// Seeds within which each broken guard must have done harm.
const SEEDS_TO_NOTICE: u64 = 5000;
/// Each guard, and a seed that noticed that it was broken. After a change of what
/// is simulated another one may: the test finds it, and prints it. [`Guard::Grace`] and
/// [`Guard::MovedIsAbsent`] are not among them: no seed shows that one of them alone is
/// broken (ADR 38).
const GUARDS: [(Guard, u64); 12] = [
    (Guard::SessionFirst, 364),
    (Guard::Inheritance, 18),
    (Guard::Fence, 6),
    (Guard::Blockers, 43),
    (Guard::Verdict, 31),
    (Guard::ReadBlockers, 310),
    (Guard::ForgottenRun, 41),
    (Guard::ForgottenHead, 343),
    (Guard::DecidedOnce, 49),
    (Guard::Readers, 29),
    (Guard::Alarm, 39),
    (Guard::MovedWhole, 0),
];
const DAY: u64 = 86_400;

/// Simulates about three weeks. Returns what went wrong.
fn simulate(seed: u64) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(seed);
        live(&world).await;
        world.truth(|truth| truth.violation.take())
    })
}

async fn live(world: &Arc<World>) {
    let first = Process::start(world, CALM);
    let repository = actors::open(&first).await.unwrap();
    world.understand(Keyring::unencrypted(repository.id()).unwrap());
    let life = world.dice(Life::thrown);
    for day in 0..life.days {
        for series in 0..life.series {
            let world = Arc::clone(world);
            let delay = world.dice(|dice| dice.seconds(0..DAY));
            tokio::spawn(async move {
                sleep(delay).await;
                let (series, run) = (format!("series-{series}"), format!("{series}-{day}"));
                actors::run(world, series, run, life.weather).await;
            });
        }
        for _ in 0..life.retentions {
            let keep = world.dice(|dice| 1 + dice.below(3)) as usize;
            later(world, life.weather, move |process| actors::retain(process, keep));
        }
        for _ in 0..life.collections {
            let eager = world.dice(|dice| dice.hits(500));
            later(world, life.weather, move |process| actors::collect(process, eager));
        }
        for _ in 0..life.pins {
            later(world, life.weather, actors::pin);
        }
        if world.dice(|dice| dice.hits(500)) {
            // A reader that stands still for an hour may lose what it reads.
            let longest_freeze = Duration::from_secs(2000);
            let patient = Weather { crashes: 0, longest_freeze, ..life.weather };
            later(world, patient, actors::read);
        }
        if life.theft == Some(day) {
            actors::steal(world);
        }
        sleep(Duration::from_secs(DAY)).await;
    }
    end(world).await;
}

/// What is special about the time that a seed stands for.
#[derive(Clone, Copy)]
struct Life {
    weather: Weather,
    days: u64,
    series: u64,
    /// Of each day.
    collections: u64,
    retentions: u64,
    pins: u64,
    /// The day on which an attacker deletes a head.
    theft: Option<u64>,
}

impl Life {
    /// Quiet weeks in which much goes wrong, or hectic days.
    fn thrown(dice: &mut Dice) -> Self {
        let hectic = dice.hits(300);
        let longest_freeze =
            if hectic { dice.seconds(60..7200) } else { dice.seconds(60..4 * DAY) };
        let weather = Weather {
            crashes: dice.below(12),
            freezes: dice.below(15),
            longest_freeze,
            deafness: dice.below(60),
            lateness: dice.below(20),
        };
        let series = 1 + dice.below(2);
        if hectic {
            let (days, series, pins) = (4, series * 3, 6);
            Self { weather, days, series, collections: 48, retentions: 6, pins, theft: None }
        } else {
            let (days, pins) = (8 + dice.below(14), dice.below(2));
            let theft = dice.hits(100).then(|| dice.below(days));
            Self { weather, days, series, collections: 3, retentions: 1, pins, theft }
        }
    }
}

/// Starts a process at some time of the day.
fn later<F, W>(world: &Arc<World>, weather: Weather, work: F)
where
    F: FnOnce(Arc<Process>) -> W + Send + 'static,
    W: Future<Output = crate::Result<()>> + Send + 'static,
{
    let delay = world.dice(|dice| dice.seconds(0..DAY));
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep(delay).await;
        let process = Process::start(&world, weather);
        // What fails or dies is started again another day.
        let _ = process.run(work(Arc::clone(&process))).await;
    });
}

/// When everything has calmed down, garbage goes. A collector that was frozen may
/// wake late, and one that follows cleans up behind it.
async fn end(world: &Arc<World>) {
    sleep(Duration::from_secs(12 * DAY)).await;
    let mut rest = Vec::new();
    for _ in 0..20 {
        let process = Process::start(world, CALM);
        let _ = actors::collect(process, false).await;
        rest = garbage(world);
        // After a theft nothing is deleted until somebody has looked into it.
        if rest.is_empty() || world.truth(|truth| truth.anything_stolen()) {
            return;
        }
        sleep(Duration::from_secs(2 * DAY)).await;
    }
    world.truth(|truth| truth.violated(format!("garbage stays: {rest:?}")));
}

/// What nothing needs any more.
fn garbage(world: &World) -> Vec<String> {
    let mut needed = BTreeSet::new();
    let mut idle = Vec::new();
    world.truth(|truth| {
        let named: BTreeSet<&String> = truth
            .heads()
            .filter(|(_, needs)| !needs.is_repacking())
            .flat_map(|(_, needs)| needs.packs().map(|(pack, _)| pack))
            .collect();
        for (id, needs) in truth.heads() {
            if needs.is_repacking() && !needs.moves().any(|pack| named.contains(pack)) {
                idle.push(id.clone());
            }
            for (pack, blocks) in needs.packs() {
                let mut elsewhere = BlockSet::default();
                truth.moved(pack).for_each(|(_, carried)| elsewhere.add(carried));
                if needs.is_repacking() || !elsewhere.has_all_of(blocks) {
                    needed.insert(pack.clone());
                }
            }
        }
    });
    let mut rest = world.names("packs/");
    rest.retain(|name| !needed.contains(name));
    rest.extend(idle);
    for folder in ["sessions/", "beats/", "condemned/", "blockers/"] {
        rest.extend(world.names(folder));
    }
    rest
}

fn seeds(default: u64) -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_that_is_in_use_is_ever_deleted() {
    let (seeds, threads) = (seeds(SEEDS), std::thread::available_parallelism().unwrap().get());
    let violated = std::thread::scope(|scope| {
        let search = |first: usize| {
            scope.spawn(move || {
                (first as u64..seeds)
                    .step_by(threads)
                    .find_map(|seed| simulate(seed).map(|violation| (seed, violation)))
            })
        };
        let searching: Vec<_> = (0..threads).map(search).collect();
        searching.into_iter().find_map(|thread| thread.join().unwrap())
    });
    if let Some((seed, violation)) = violated {
        panic!("seed {seed}: {violation}");
    }
}

thread_local! {
    /// Writers on this thread take packs that no head names. Most guards are a second
    /// net behind that rule, and seen to hold only without it.
    static LOOSE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A seed under which a broken guard does harm, and none while it is whole;
/// `likely` is tried first.
fn seed_that_notices(guard: Guard, likely: u64) -> Option<u64> {
    LOOSE.set(true);
    let mut seeds = std::iter::once(likely).chain(0..SEEDS_TO_NOTICE);
    seeds.find(|seed| {
        BROKEN.set(Some(guard));
        let harmed = simulate(*seed).is_some();
        BROKEN.set(None);
        harmed && simulate(*seed).is_none()
    })
}

#[test]
fn every_broken_guard_is_noticed() {
    // On several threads: each has a guard of its own to break.
    let seeds: Vec<_> = std::thread::scope(|scope| {
        let search =
            |(guard, likely)| scope.spawn(move || (guard, seed_that_notices(guard, likely)));
        GUARDS.map(search).map(|thread| thread.join().unwrap()).into()
    });
    println!("{seeds:?}");
    let unnoticed: Vec<_> = seeds.iter().filter(|(_, seed)| seed.is_none()).collect();
    assert!(unnoticed.is_empty(), "nothing noticed that these were broken: {unnoticed:?}");
}

#[test]
fn one_seed_is_one_run() {
    BROKEN.set(Some(Guard::Verdict));
    let seed = (0..SEEDS_TO_NOTICE).find(|seed| simulate(*seed).is_some()).unwrap();
    let (one, two) = (simulate(seed), simulate(seed));
    BROKEN.set(None);
    assert_eq!(one, two);
}
