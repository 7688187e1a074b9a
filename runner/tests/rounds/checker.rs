//! What is right, by PostgreSQL's own programs alone: `pg_receivewal` has received all of the log,
//! `pg_waldump` says which transaction was committed where and when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::bank::{ACCOUNTS, Bank, DATABASE, Move, START};
use crate::chance::Chance;
use crate::server::{Held, TestServer};

const SLOT: &str = "checker";
const LIMIT: Duration = Duration::from_secs(60);

/// A position in the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lsn(pub(crate) u64);

impl FromStr for Lsn {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.trim().split_once('/').unwrap_or(("", text));
        Ok(Self((u64::from_str_radix(high, 16)? << 32) | u64::from_str_radix(low, 16)?))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A point to recover to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// All that there is, and this at least.
    Latest {
        at_least: Lsn,
    },
    Time(Timestamp, bool),
    Position(Lsn, bool),
    Transaction(u32, bool),
    Name(String, Lsn),
}

/// A move's transaction in the log.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) lsn: Lsn,
    pub(crate) xid: u32,
    pub(crate) time: Timestamp,
    made: Move,
}

impl Commit {
    /// Its time, or one shortly before it.
    pub(crate) fn time_before(&self, chance: &mut Chance) -> Timestamp {
        self.time - Duration::from_micros(chance.below(2000))
    }
}

/// The end of a transaction, a move's or another's.
#[derive(Clone, Debug)]
struct Ended {
    lsn: Lsn,
    xid: u32,
    time: Timestamp,
    is_commit: bool,
}

/// All that has happened so far, in its order.
pub(crate) struct History {
    ends: Vec<Ended>,
    pub(crate) commits: Vec<Commit>,
}

/// What a recovered server has to hold.
pub(crate) struct Expected {
    pub(crate) moves: BTreeSet<Move>,
    /// Of the last of them.
    pub(crate) last_lsn: Lsn,
    /// Whether these are the least, and more may be there.
    is_least: bool,
}

pub(crate) struct Checker {
    folder: PathBuf,
    inside: String,
    _receiving: Held,
}

impl Checker {
    pub(crate) fn begin(server: &TestServer) -> Self {
        server.sql(
            "postgres",
            &format!("SELECT pg_create_physical_replication_slot('{SLOT}', true)"),
        );
        let receiving = server.receive_log(SLOT);
        let inside = server.beside("received");
        Self { folder: server.outside(&inside), inside, _receiving: receiving }
    }

    /// Reads the log as it is now. No move may be under way.
    pub(crate) fn history(&self, server: &TestServer, bank: &Bank) -> History {
        let end: Lsn = server.sql("postgres", "SELECT pg_current_wal_flush_lsn()").parse().unwrap();
        let kept =
            format!("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
        // It reports a file when it is whole.
        server.sql("postgres", "SELECT pg_switch_wal()");
        let started = Instant::now();
        while server.sql("postgres", &kept).parse::<Lsn>().unwrap() < end {
            assert!(started.elapsed() < LIMIT, "pg_receivewal does not go on");
            std::thread::sleep(Duration::from_millis(50));
        }
        let ends = self.ends(server);
        let moves: BTreeMap<u32, Move> = moves_of(server);
        let survived: BTreeSet<Move> = moves.values().copied().collect();
        let lost: Vec<_> = bank.all_acknowledged().difference(&survived).copied().collect();
        assert_eq!(lost, [], "the server itself has lost moves");
        let commits: Vec<_> = ends.iter().filter_map(|end| commit(end, &moves)).collect();
        assert_eq!(commits.len(), moves.len(), "the log does not have all moves");
        History { ends, commits }
    }

    fn ends(&self, server: &TestServer) -> Vec<Ended> {
        let names = std::fs::read_dir(&self.folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = names.filter(|name| name.len() == 24).collect();
        files.sort();
        let (first, last) = (files.first().unwrap(), files.last().unwrap());
        let said = server.waldump(&["--rmgr=Transaction", "--path", &self.inside, first, last]);
        said.lines().filter_map(end_of).collect()
    }
}

/// A line of `pg_waldump`: `rmgr: Transaction len (rec/tot): 34/ 34, tx: 740, lsn: 0/01553A10,
/// prev 0/015539D0, desc: COMMIT 2026-12-01 01:00:00.123456 UTC; …`.
fn end_of(line: &str) -> Option<Ended> {
    let (head, desc) = line.split_once("desc: ")?;
    let (kind, rest) = desc.split_once(' ')?;
    let is_commit = match kind {
        "COMMIT" => true,
        "ABORT" => false,
        _ => return None,
    };
    let field = |name: &str| Some(head.split_once(name)?.1.split(',').next()?.trim());
    let time: String = rest.chars().take("2026-12-01 01:00:00.123456".len()).collect();
    Some(Ended {
        lsn: field("lsn: ")?.parse().ok()?,
        xid: field("tx:")?.parse().ok()?,
        time: format!("{}Z", time.replace(' ', "T")).parse().ok()?,
        is_commit,
    })
}

fn commit(end: &Ended, moves: &BTreeMap<u32, Move>) -> Option<Commit> {
    let made = *moves.get(&end.xid).filter(|_| end.is_commit)?;
    Some(Commit { lsn: end.lsn, xid: end.xid, time: end.time, made })
}

/// The moves that a server holds, by their transactions.
pub(crate) fn moves_of(server: &TestServer) -> BTreeMap<u32, Move> {
    let rows = server.sql(DATABASE, "SELECT xid, client, number FROM moves");
    let number = |text: &str| text.parse::<u32>().unwrap();
    let row = |line: &str| {
        let columns: Vec<_> = line.split('|').map(number).collect();
        (columns[0], (columns[1], columns[2]))
    };
    rows.lines().map(row).collect()
}

impl History {
    /// The moves from a position to another.
    pub(crate) fn between(&self, first: Lsn, last: Lsn) -> &[Commit] {
        let place = |lsn| self.commits.partition_point(|commit| commit.lsn < lsn);
        &self.commits[place(first)..place(last)]
    }

    pub(crate) fn expected(&self, target: &Target) -> Expected {
        // The first end that is not wanted any more.
        let behind = match target {
            Target::Latest { at_least } => *at_least,
            Target::Position(lsn, inclusive) => Lsn(lsn.0 + u64::from(*inclusive)),
            Target::Name(_, lsn) => *lsn,
            Target::Transaction(xid, inclusive) => {
                let end = self.ends.iter().find(|end| end.xid == *xid).unwrap();
                Lsn(end.lsn.0 + u64::from(*inclusive))
            }
            // As the server does: the first that is too late ends it, whatever follows.
            Target::Time(time, inclusive) => {
                let late = |end: &&Ended| end.time > *time || (!inclusive && end.time == *time);
                self.ends.iter().find(late).map_or(Lsn(u64::MAX), |end| end.lsn)
            }
        };
        let wanted = &self.commits[..self.commits.partition_point(|commit| commit.lsn < behind)];
        Expected {
            moves: wanted.iter().map(|commit| commit.made).collect(),
            last_lsn: wanted.last().map(|commit| commit.lsn).unwrap_or_default(),
            is_least: matches!(target, Target::Latest { .. }),
        }
    }

    /// That a recovered server holds just that, and that its books are right.
    pub(crate) fn compare(&self, target: &Target, expected: &Expected, recovered: &TestServer) {
        let found: BTreeSet<_> = moves_of(recovered).into_values().collect();
        let lost: Vec<_> = expected.moves.difference(&found).collect();
        assert!(lost.is_empty(), "{target:?}: lost {lost:?}");
        if expected.is_least {
            // Whatever more there is, it is all up to a moment.
            let upto =
                self.commits.iter().take_while(|commit| found.contains(&commit.made)).count();
            assert_eq!(upto, found.len(), "{target:?}: something in between is not there");
        } else {
            let more: Vec<_> = found.difference(&expected.moves).collect();
            assert!(more.is_empty(), "{target:?}: {more:?} should not be there");
        }
        let books = format!(
            "SELECT count(*) = {ACCOUNTS} AND bool_and(balance = {START} + coalesce(moved, 0)) FROM accounts
             LEFT JOIN (SELECT id, sum(amount) AS moved FROM (SELECT a AS id, -amount AS amount FROM moves
                 UNION ALL SELECT b, amount FROM moves) AS parts GROUP BY id) AS sums USING (id)"
        );
        assert_eq!(
            recovered.sql(DATABASE, &books),
            "t",
            "{target:?}: balances are not what was moved"
        );
    }
}
