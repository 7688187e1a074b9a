//! Rounds in which something is killed while a bank works: what was durable is never lost, and a
//! server that is recovered holds just the moves that it should.
//!
//! The bank's clients write down what the server has acknowledged. PostgreSQL's own
//! `pg_receivewal` and `pg_waldump` say in which order all was committed, and when
//! ([`checker`]): nothing of what is tested is asked what is right.
//!
//! `ROUNDS` says how many (6 where it is not set, one of each kind: `make rounds` runs a hundred), `SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod bank;
mod chance;
mod checker;
mod keeper;
#[path = "../../../engines/postgres/tests/support/nasty.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]
mod nasty;
#[path = "../../../storage/s3/tests/s3/server.rs"]
mod s3_server;
#[path = "../../../engines/postgres/tests/support/same.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]
mod same;
#[path = "../../../engines/postgres/tests/support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's tests use the rest")]
mod server;
#[path = "../program/support.rs"]
#[allow(dead_code, reason = "the program's tests use the rest")]
mod support;

use std::time::Duration;

use self::bank::Bank;
use self::chance::Chance;
use self::checker::{Checker, Target};
use self::keeper::Keeper;
use self::server::TestServer;

/// The folder of the engine's tests.
const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../engines/postgres/tests");
const MAJOR: u32 = 17;
/// Rounds between two looks at what can be recovered.
const ROUNDS_A_LOOK: u64 = 10;

/// What is killed in a round.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Server,
    Archiver,
    /// Asked to end, and begun anew.
    ArchiverInOrder,
    Backup,
    Store,
    ServerAndArchiver,
}

const VICTIMS: [Victim; 6] = [
    Victim::Server,
    Victim::Archiver,
    Victim::ArchiverInOrder,
    Victim::Backup,
    Victim::Store,
    Victim::ServerAndArchiver,
];

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[test]
fn whoever_is_killed_all_that_was_durable_is_recovered_and_nothing_else() {
    let rounds = number_of("ROUNDS").unwrap_or(6);
    let seed = number_of("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("{rounds} rounds; again with SEED={seed}");
    let mut chance = Chance::of(seed);
    let server = TestServer::start(
        MAJOR,
        &["wal_level = replica", "checkpoint_timeout = 30s", "max_wal_size = 64MB"],
    );
    let checker = Checker::begin(&server);
    let mut bank = Bank::open(&server);
    let mut keeper = Keeper::begin(&server);
    keeper.back_up().wait();
    for round in 1..=rounds {
        // Each victim has its turn, at a moment that nobody chose.
        let victim = VICTIMS[(round - 1) as usize % VICTIMS.len()];
        let point = format!("round-{round}");
        let mut backup = keeper.back_up();
        chance.wait(Duration::from_millis(50), Duration::from_millis(1500));
        match victim {
            Victim::Server => server.stop(),
            Victim::Archiver => keeper.kill_archiver("-KILL"),
            Victim::ArchiverInOrder => keeper.kill_archiver("-TERM"),
            Victim::Backup => backup.kill(),
            Victim::Store => keeper.store.kill(),
            Victim::ServerAndArchiver => {
                keeper.kill_archiver("-KILL");
                server.stop();
            }
        }
        chance.wait(Duration::from_millis(50), Duration::from_millis(500));
        match victim {
            Victim::Server | Victim::ServerAndArchiver => server.boot(),
            Victim::Store => keeper.store.start_again(),
            Victim::Archiver | Victim::ArchiverInOrder | Victim::Backup => {}
        }
        bank.name(&server, &point);
        // A backup may end with an error where its server went: the next round makes another.
        backup.wait();
        eprintln!("round {round}: {victim:?}, {} moves", bank.acknowledged());
        if round % ROUNDS_A_LOOK == 0 || round == rounds {
            look(&server, &mut bank, &mut keeper, &checker, &mut chance);
        }
    }
}

/// Recovers to all kinds of targets.
fn look(
    server: &TestServer,
    bank: &mut Bank,
    keeper: &mut Keeper,
    checker: &Checker,
    chance: &mut Chance,
) {
    let durable = keeper.durable();
    bank.pause();
    let history = checker.history(server, bank);
    eprintln!("{} moves in the log, durable up to {durable}", history.commits.len());
    let (first, names) = (keeper.oldest_base(), bank.names());
    let mut targets = vec![Target::Latest { at_least: durable }];
    let known = history.between(first, durable);
    assert!(known.len() > 10, "the bank has hardly worked: {} moves", known.len());
    for inclusive in [true, false] {
        targets.push(Target::Time(chance.pick(known).time_before(chance), inclusive));
        targets.push(Target::Position(chance.pick(known).lsn, inclusive));
        targets.push(Target::Transaction(chance.pick(known).xid, inclusive));
    }
    let named: Vec<_> = names.iter().filter(|(_, lsn)| (first..durable).contains(lsn)).collect();
    if !named.is_empty() {
        let (name, lsn) = chance.pick(&named);
        targets.push(Target::Name(name.clone(), *lsn));
    }
    for target in targets {
        let expected = history.expected(&target);
        let recovered = keeper.recover(&target, expected.last_lsn);
        history.compare(&target, &expected, &recovered);
        eprintln!("{target:?}: {} moves", expected.moves.len());
    }
    bank.go_on();
}
