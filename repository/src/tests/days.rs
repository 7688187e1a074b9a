//! What finding loses against an index of every chunk, over simulated days: changed,
//! inserted and deleted rows, nights that take a part, renamed tables, a copy as a
//! series of its own, an older state that comes back, forgotten snapshots. And what it
//! asks of the store for that.
//!
//! `DBBACKUP_DAYS=100` makes it as long as the design's promise; what came out is in
//! `docs/adr/0037-repository-finding-chunks.md`.

use std::collections::HashSet;
use std::sync::Arc;

use dbbackup_storage::{FaultyStore, MemoryStore, Store as _};

use super::fixture::*;
use crate::keyring::ChunkId;
use crate::{Begun, Cutting, Repository, SessionOptions};

const SIZE: usize = 40_000_000;
/// Bytes that change, each in a chunk of its own mostly.
const UPDATES: usize = 80;
const INSERTED: usize = 200_000;
/// Snapshots of a series that retention keeps.
const KEPT: usize = 7;

/// A repository beside an index of every chunk that was ever given to a backup.
struct Days {
    store: Arc<FaultyStore>,
    repository: Repository,
    chunks: HashSet<ChunkId>,
    /// New bytes of all runs, without those that were stored again on purpose.
    new: u64,
    /// What would be new with that index.
    least: u64,
    /// Objects and parts that one run has read at most.
    most_reads: u64,
}

impl Days {
    async fn begin() -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let repository = open(store.clone()).await.unwrap();
        Self { store, repository, chunks: HashSet::new(), new: 0, least: 0, most_reads: 0 }
    }

    fn index(&mut self, content: &[u8]) {
        let (mut rest, mut lengths) = (content, Vec::new());
        Cutting::default().cut(content, true, &mut lengths);
        for length in lengths {
            let (chunk, behind) = rest.split_at(length as usize);
            rest = behind;
            if self.chunks.insert(self.repository.inner.keys.chunk_id(chunk)) {
                self.least += u64::from(length);
            }
        }
    }

    fn reads(&self) -> u64 {
        let counts = self.store.counts();
        counts.gets + counts.range_gets
    }

    /// As a process of its own, which knows no footer yet.
    async fn run(&mut self, series: &str, day: u64, streams: &[(&str, &[u8])]) {
        self.repository = open(self.store.clone()).await.unwrap();
        let (new_before, least_before, reads_before) = (self.new, self.least, self.reads());
        let first: jiff::Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let slot = first + jiff::SignedDuration::from_hours(24 * day as i64);
        let options = SessionOptions::new(series, format!("{series}-{day}"), slot);
        let Begun::Started(writer) = self.repository.begin(options).await.unwrap() else {
            panic!("the run has committed");
        };
        for (name, content) in streams {
            self.index(content);
            let mut stream = writer.stream(name, Cutting::default()).await.unwrap();
            for piece in content.chunks(1_000_000) {
                stream.write(bytes::Bytes::copy_from_slice(piece)).await.unwrap();
            }
            let summary = stream.finish().await.unwrap();
            self.new += summary.new - summary.again;
        }
        let snapshot = writer.commit(commit_info()).await.unwrap();
        let reads = self.reads() - reads_before;
        self.most_reads = self.most_reads.max(reads);
        let lost = (self.new - new_before).saturating_sub(self.least - least_before);
        println!("day {day}, {series}: {lost} bytes lost, {reads} reads");
        if day.is_multiple_of(5) {
            for (name, content) in streams {
                assert!(read_stream(&snapshot, name).await.unwrap() == *content, "day {day}");
            }
        }
        let kept = self.repository.snapshots(Some(series)).await.unwrap().snapshots;
        for old in kept.iter().rev().skip(KEPT) {
            self.store.delete(&old.id().head_name()).await.unwrap();
        }
    }
}

/// Random numbers that repeat.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 += 1;
        let bytes = noise(self.0 ^ 0x0DD5, 8);
        bytes.iter().fold(0, |n: usize, byte| n << 7 ^ usize::from(*byte)) % sides
    }
}

/// A day of the rows' life.
fn live(rows: &mut Vec<u8>, day: u64, dice: &mut Dice) {
    for _ in 0..UPDATES {
        let at = dice.roll(rows.len());
        rows[at] ^= 1;
    }
    let at = dice.roll(rows.len());
    rows.splice(at..at, noise(day + 1000, INSERTED));
    let at = dice.roll(rows.len() - INSERTED);
    rows.drain(at..at + INSERTED / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_many_days_less_than_3_percent_are_lost_against_an_index_of_every_chunk() {
    let count: u64 =
        std::env::var("DBBACKUP_DAYS").map_or(60, |days| days.parse().expect("a number of days"));
    let (mut days, mut dice) = (Days::begin().await, Dice(1));
    let (mut rows, mut audit) = (noise(1, SIZE), noise(2, SIZE / 8));
    let mut earlier: Vec<Vec<u8>> = Vec::new();
    let mut name = "rows".to_owned();
    for day in 0..count {
        live(&mut rows, day, &mut dice);
        audit.extend(noise(day + 5000, INSERTED / 4));
        match day % 50 {
            // A table is renamed.
            4 | 33 => name = format!("rows_{day}"),
            // Somebody has restored what was there five days ago.
            9 => rows.clone_from(&earlier[earlier.len() - 5]),
            _ => {}
        }
        earlier.push(rows.clone());
        if earlier.len() > 5 {
            earlier.remove(0);
        }
        let streams = [("audit", &audit[..]), (&name, &rows[..])];
        // Some nights take only a part.
        let taken = if day % 7 == 2 { &streams[..1] } else { &streams[..] };
        days.run("c/ns/shop", day, taken).await;
        // The copy of a database has a schedule of its own.
        if day >= 6 && day.is_multiple_of(6) {
            days.run("c/ns/copy", day, &streams).await;
        }
    }
    let Days { new, least, most_reads, .. } = days;
    let lost = new.saturating_sub(least);
    println!("{count} days: {new} new bytes, {least} with an index of all, {lost} lost");
    println!("{most_reads} reads at most");
    assert!(lost * 100 < least * 3, "{lost} bytes of {least} are lost");
}
