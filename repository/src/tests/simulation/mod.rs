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

use self::world::{Process, Weather, World};
use crate::guards::{BROKEN, Guard};
use crate::keyring::Keyring;

const CALM: Weather = Weather {
    crashes: 0,
    freezes: 0,
    longest_freeze: Duration::ZERO,
    deafness: 0,
    lateness: 0,
};

/// Seeds of one run of the tests.
const SEEDS: u64 = 2000;
/// Seeds within which each broken guard must have done harm.
const SEEDS_TO_NOTICE: u64 = 4000;
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
    let (weather, days, series) = world.dice(|dice| {
        let weather = Weather {
            crashes: dice.below(12),
            freezes: dice.below(15),
            longest_freeze: dice.seconds(60..4 * DAY),
            deafness: dice.below(60),
            lateness: dice.below(20),
        };
        (weather, 8 + dice.below(14), 1 + dice.below(2))
    });
    for day in 0..days {
        for series in 0..series {
            let world = Arc::clone(world);
            let delay = world.dice(|dice| dice.seconds(0..DAY));
            tokio::spawn(async move {
                sleep(delay).await;
                let (series, run) = (format!("series-{series}"), format!("{series}-{day}"));
                actors::run(world, series, run, weather).await;
            });
        }
        let keep = world.dice(|dice| 1 + dice.below(3)) as usize;
        later(world, weather, move |process| actors::retain(process, keep));
        for _ in 0..3 {
            later(world, weather, actors::collect);
        }
        if world.dice(|dice| dice.hits(300)) {
            later(world, weather, actors::pin);
        }
        if world.dice(|dice| dice.hits(500)) {
            // A reader that stands still for an hour may lose what it reads.
            let patient = Weather { crashes: 0, longest_freeze: Duration::from_secs(2000), ..weather };
            later(world, patient, actors::read);
        }
        sleep(Duration::from_secs(DAY)).await;
    }
    end(world).await;
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
        let _ = actors::collect(process).await;
        rest = garbage(world);
        if rest.is_empty() {
            return;
        }
        sleep(Duration::from_secs(2 * DAY)).await;
    }
    world.truth(|truth| truth.violated(format!("garbage stays: {rest:?}")));
}

/// What nothing needs any more.
fn garbage(world: &World) -> Vec<String> {
    let needed: BTreeSet<String> =
        world.truth(|truth| truth.heads().flat_map(|(_, needs)| needs.iter().cloned()).collect());
    let mut rest = world.names("packs/");
    rest.retain(|name| !needed.contains(name));
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
    for seed in 0..seeds(SEEDS) {
        if let Some(violation) = simulate(seed) {
            panic!("seed {seed}: {violation}");
        }
    }
}

/// The first seed under which a broken guard does harm.
fn seed_that_notices(guard: Guard) -> Option<u64> {
    BROKEN.set(Some(guard));
    let found = (0..SEEDS_TO_NOTICE).find(|seed| simulate(*seed).is_some());
    BROKEN.set(None);
    found
}

#[test]
fn every_broken_guard_is_noticed() {
    let guards = [
        Guard::SessionFirst,
        Guard::Inheritance,
        Guard::Grace,
        Guard::Fence,
        Guard::Blockers,
        Guard::Verdict,
        Guard::ReadBlockers,
        Guard::ForgottenRun,
        Guard::ForgottenHead,
        Guard::DecidedOnce,
        Guard::Readers,
    ];
    let mut unnoticed = Vec::new();
    for guard in guards {
        match seed_that_notices(guard) {
            Some(seed) => println!("{guard:?}: noticed with seed {seed}"),
            None => unnoticed.push(guard),
        }
    }
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
