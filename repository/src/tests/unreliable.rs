//! Backups through a store of which a tenth of the requests fails: each one is
//! committed and can be restored, or has failed with its reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::Reason;
use dbbackup_storage::{MemoryStore, RetryPolicy, UnreliableStore};

use super::fixture::*;
use crate::{
    Begun, CheckLevel, CollectOptions, Error, OpenOptions, Repository, Result, SessionOptions,
};

const SERIES: [&str; 2] = ["c/ns/shop", "c/ns/crm"];
const DAYS: u32 = 4;

/// Gives up after so many tries: some runs fail, as in an outage.
async fn open_impatiently(store: Arc<UnreliableStore>, tries: u32) -> Result<Repository> {
    let delays = (Duration::from_millis(1), Duration::from_millis(4));
    let retry = RetryPolicy { tries, first_delay: delays.0, longest_delay: delays.1 };
    let options = OpenOptions { retry, ..options() };
    Ok(Repository::open_with(store, &encrypted(), options).await?.repository)
}

fn rows(series: &str, n: u32) -> Contents {
    let seed = u64::from(n) + series.len() as u64 * 100;
    let mut rows = noise(series.len() as u64, 1_500_000);
    rows[n as usize * 200_000..][..100_000].copy_from_slice(&noise(seed, 100_000));
    Contents::from([("rows".into(), rows), ("fresh".into(), noise(seed + 50, 50_000))])
}

/// One attempt, by a process of its own.
async fn attempt(store: Arc<UnreliableStore>, tries: u32, series: &str, n: u32) -> Result<()> {
    let repository = open_impatiently(store, tries).await?;
    let options = SessionOptions::new(series, format!("{series}-{n}"), day(n));
    let Begun::Started(writer) = repository.begin(options).await? else { return Ok(()) };
    for (name, content) in rows(series, n) {
        write(&writer, &name, &content).await?;
    }
    writer.commit(commit_info()).await.map(drop)
}

#[derive(Default)]
struct Outcomes {
    succeeded: u32,
    failed: u32,
}

/// The runs of a series, each tried a few times.
async fn run_series(store: Arc<UnreliableStore>, tries: u32, series: &'static str) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for n in 1..=DAYS {
        for _ in 0..3 {
            match attempt(Arc::clone(&store), tries, series, n).await {
                Ok(()) => {
                    outcomes.succeeded += 1;
                    break;
                }
                Err(error) => {
                    // The store is told to be unavailable, and nothing else.
                    assert_eq!(error.reason(), Reason::StorageUnavailable, "{error}");
                    outcomes.failed += 1;
                }
            }
        }
    }
    outcomes
}

/// Everything that is there is whole; returns how many snapshots each series has.
async fn assert_whole(repository: &Repository) -> BTreeMap<String, u32> {
    let list = repository.snapshots(None).await.unwrap();
    assert!(list.unreadable.is_empty());
    let mut found = BTreeMap::new();
    for snapshot in &list.snapshots {
        let series = &snapshot.about().series;
        let n = snapshot.about().run_id.rsplit_once('-').unwrap().1.parse().unwrap();
        assert_same(&restore(snapshot).await.unwrap(), &rows(series, n));
        *found.entry(series.clone()).or_default() += 1;
    }
    let report = repository.check(CheckLevel::Data).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_tenth_of_the_requests_failing_a_backup_is_whole_or_failed() {
    let mut all = Outcomes::default();
    for seed in 0..24 {
        // With seven tries, as in earnest, hardly any fails; with two, many do.
        let tries = if seed % 2 == 0 { 7 } else { 2 };
        let memory = Arc::new(MemoryStore::new());
        let store = Arc::new(UnreliableStore::new(memory.clone(), 100, seed));
        let [one, two] =
            SERIES.map(|series| tokio::spawn(run_series(Arc::clone(&store), tries, series)));
        let collected = {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..20 {
                    let collected = async {
                        let repository = open_impatiently(Arc::clone(&store), tries).await?;
                        repository.collect(&CollectOptions::default()).await
                    };
                    match collected.await {
                        Ok(_) | Err(Error::Storage(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        for outcomes in [one.await.unwrap(), two.await.unwrap()] {
            assert!(tries == 2 || outcomes.succeeded == DAYS, "seed {seed}");
            all.succeeded += outcomes.succeeded;
            all.failed += outcomes.failed;
        }
        collected.await.unwrap();
        assert!(store.failed() > 20);
        store.calm_down();
        let repository = open_impatiently(Arc::clone(&store), 7).await.unwrap();
        assert_whole(&repository).await;
        // What has failed can be made now, and what had not is there once.
        for series in SERIES {
            for n in 1..=DAYS {
                attempt(Arc::clone(&store), 7, series, n).await.unwrap();
            }
        }
        let expected = SERIES.map(|series| (series.to_owned(), DAYS));
        assert_eq!(assert_whole(&repository).await, BTreeMap::from(expected));
    }
    assert!(all.succeeded > 100 && all.failed > 5, "{} and {}", all.succeeded, all.failed);
}
