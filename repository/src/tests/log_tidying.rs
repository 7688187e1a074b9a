//! Tidying logs: what goes, what stays, and that what is left can be read wherever it was cut off.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dbbackup_contract::Reason;
use dbbackup_storage::{Effect, FaultyStore, MemoryStore, Store};
use serde_json::json;

use super::fixture::*;
use crate::{CheckLevel, Error, LogId, OpenOptions, PartNumbers, Repository, Result};

/// Parts 0 to 2, 3 that has their bytes again, 4, parts 5 and 6, 7 that has theirs, and 8.
async fn log_of_ranges(repository: &Repository) -> LogId {
    let log = repository.log_id("3f6c/shop/nightly", "7");
    let mut writer = repository.append_to_log(&log).await.unwrap();
    let parts = [
        ("one ", None),
        ("two ", None),
        ("three ", None),
        ("zero one two three four", replaced(0, 2)),
        ("another", None),
        ("five ", None),
        ("six ", None),
        ("five six seven", replaced(5, 6)),
        ("the newest", None),
    ];
    for (content, replaces) in parts {
        writer.append(json!({}), content.as_bytes(), replaces).await.unwrap();
    }
    log
}

fn replaced(first: u32, last: u32) -> Option<PartNumbers> {
    Some(PartNumbers { first, last })
}

/// Numbers of all parts whose objects are there.
fn there(store: &MemoryStore) -> Vec<u32> {
    let names = store.objects().into_keys().filter(|name| name.starts_with("logs/"));
    let mut numbers: Vec<u32> =
        names.map(|name| name.rsplit('/').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// Tidies a log of which all is old enough.
async fn tidy(repository: &Repository, log: &LogId, unneeded: &[u32]) -> Result<u64> {
    let mut deleted = 0;
    let young = SystemTime::now() + Duration::from_secs(1);
    let reader = repository.read_log(log).await?;
    reader.tidy(unneeded, young, &mut deleted).await.map(|()| deleted)
}

/// Numbers of the parts that a reader sees, all of which it can read.
async fn numbers(repository: &Repository, log: &LogId) -> Vec<u32> {
    let reader = repository.read_log(log).await.unwrap();
    let mut numbers = Vec::new();
    for part in reader.parts() {
        reader.content(part).await.unwrap();
        numbers.push(part.number);
    }
    numbers
}

async fn problems(repository: &Repository) -> Vec<String> {
    let report = repository.check(CheckLevel::Data).await.unwrap();
    report.problems.iter().map(|problem| problem.error.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_and_the_oldest_that_nobody_needs_go_and_the_log_goes_on() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of_ranges(&repository).await;
    assert_eq!(numbers(&repository, &log).await, [3, 4, 7, 8]);
    assert_eq!(tidy(&repository, &log, &[]).await.unwrap(), 5);
    assert_eq!((there(&store), problems(&repository).await.len()), (vec![3, 4, 7, 8], 0));
    assert_eq!(tidy(&repository, &log, &[3, 4]).await.unwrap(), 2);
    assert_eq!((there(&store), problems(&repository).await.len()), (vec![7, 8], 0));
    // The newest one stays, whether or not it is needed: the next one has the next number.
    assert_eq!(tidy(&repository, &log, &[7, 8]).await.unwrap(), 1);
    assert_eq!((there(&store), problems(&repository).await.len()), (vec![8], 0));
    let mut writer = repository.append_to_log(&log).await.unwrap();
    assert_eq!(writer.append(json!({}), b"next", None).await.unwrap().number, 9);
    assert_eq!(numbers(&repository, &log).await, [8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_go_with_what_they_have_replaced_and_only_the_oldest_can() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of_ranges(&repository).await;
    assert_eq!(tidy(&repository, &log, &[3]).await.unwrap(), 6);
    assert_eq!((there(&store), numbers(&repository, &log).await), (vec![4, 7, 8], vec![4, 7, 8]));
    for wrong in [&[7][..], &[4, 8], &[4, 7, 8, 9]] {
        let error = tidy(&repository, &log, wrong).await.unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error}");
    }
    assert_eq!(there(&store), [4, 7, 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_stays_and_so_does_what_a_young_part_replaces() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of_ranges(&repository).await;
    let mut deleted = 0;
    let reader = repository.read_log(&log).await.unwrap();
    let young = SystemTime::now() - Duration::from_secs(60);
    reader.tidy(&[3, 4, 7], young, &mut deleted).await.unwrap();
    assert_eq!((deleted, there(&store).len()), (0, 9));

    store.age(Duration::from_secs(3600));
    let mut writer = repository.append_to_log(&log).await.unwrap();
    writer.append(json!({}), b"the newest of all", replaced(8, 8)).await.unwrap();
    let reader = repository.read_log(&log).await.unwrap();
    reader.tidy(&[3], young, &mut deleted).await.unwrap();
    assert_eq!((deleted, there(&store)), (6, vec![4, 7, 8, 9]));
    assert_eq!(numbers(&repository, &log).await, [4, 7, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_it_is_cut_off_the_rest_can_be_read_and_the_next_one_ends_it() {
    let effects = [Effect::CrashBefore, Effect::CrashAfter, Effect::LostAcknowledgement];
    let cuts = (1..=8).flat_map(|at| effects.map(|effect| (at, effect)));
    let unneeded: [&[u32]; 3] = [&[], &[3], &[3, 4]];
    for (unneeded, (at, effect)) in
        unneeded.into_iter().flat_map(|it| cuts.clone().map(move |cut| (it, cut)))
    {
        let case = format!("{unneeded:?}, cut at {at}: {effect:?}");
        let is_needed = |number: &u32| !unneeded.contains(number);
        let needed: Vec<u32> = [3, 4, 7, 8].into_iter().filter(is_needed).collect();
        let memory = Arc::new(MemoryStore::new());
        let store = Arc::new(FaultyStore::new(memory.clone()));
        let repository = open(store.clone()).await.unwrap();
        let log = log_of_ranges(&repository).await;
        store.fail_at(at, effect);
        let _ = tidy(&repository, &log, unneeded).await;
        store.revive();
        let left = numbers(&repository, &log).await;
        assert!(left.ends_with(&needed), "{case}: {left:?}");
        assert_eq!(problems(&repository).await, [""; 0], "{case}");
        let rest = left.iter().copied().take_while(|number| !is_needed(number));
        tidy(&repository, &log, &rest.collect::<Vec<_>>()).await.unwrap();
        assert_eq!(there(&memory), needed, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_has_not_what_it_replaces_deletes_nothing() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = repository.log_id("3f6c/shop/nightly", "7");
    let mut writer = repository.append_to_log(&log).await.unwrap();
    for (content, replaces) in [
        ("one ", None),
        ("two ", None),
        ("one two one", replaced(0, 1)),
        ("three ", None),
        ("three four", replaced(3, 3)),
        ("five", None),
    ] {
        writer.append(json!({}), content.as_bytes(), replaces).await.unwrap();
    }
    assert_eq!(tidy(&repository, &log, &[]).await.unwrap(), 3, "they follow each other");

    writer.append(json!({}), b"three four", replaced(4, 5)).await.unwrap();
    writer.append(json!({}), b"six ", None).await.unwrap();
    writer.append(json!({}), b"six seven", replaced(7, 7)).await.unwrap();
    let error = tidy(&repository, &log, &[]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RepositoryDamaged, "{error}");
    assert_eq!(there(&store), [2, 4, 5, 6, 8], "what is well is tidied nevertheless");

    for (first, last) in [(9, 9), (0, 20), (2, 1)] {
        let forged = writer.append(json!({}), b"", replaced(first, last)).await;
        assert!(matches!(forged, Err(Error::Misuse(_))), "{first} to {last} came not before it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_replaces_others_stays_as_long_as_it_says_why_they_are_gone() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of_ranges(&repository).await;
    tidy(&repository, &log, &[]).await.unwrap();
    let mut writer = repository.append_to_log(&log).await.unwrap();
    let all = "zero one two three fouranother";
    writer.append(json!({}), all.as_bytes(), replaced(3, 4)).await.unwrap();
    tidy(&repository, &log, &[]).await.unwrap();
    assert_eq!(
        (there(&store), numbers(&repository, &log).await),
        (vec![3, 7, 8, 9], vec![7, 8, 9])
    );
    tidy(&repository, &log, &[7]).await.unwrap();
    assert_eq!(there(&store), [8, 9]);
}

/// Parts without bytes, each of which replaces all of them before it.
#[tokio::test(flavor = "multi_thread")]
async fn of_parts_that_only_say_that_nothing_happened_the_newest_is_left() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = repository.log_id("3f6c/shop/nightly", "7");
    let mut writer = repository.append_to_log(&log).await.unwrap();
    writer.append(json!({}), b"one ", None).await.unwrap();
    for number in 1..=5 {
        let replaces = (number > 1).then_some(PartNumbers { first: 1, last: number - 1 });
        writer.append(json!({}), b"", replaces).await.unwrap();
        if number == 3 {
            assert_eq!(tidy(&repository, &log, &[]).await.unwrap(), 2);
        }
    }
    assert_eq!((tidy(&repository, &log, &[]).await.unwrap(), there(&store)), (2, vec![0, 5]));
    writer.append(json!({}), b"one two", replaced(0, 5)).await.unwrap();
    assert_eq!((tidy(&repository, &log, &[]).await.unwrap(), there(&store)), (2, vec![6]));
    assert_eq!(problems(&repository).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_nobody_can_read_goes_with_the_others() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of_ranges(&repository).await;
    let piece = format!("logs/{}/1", log.as_str());
    let mut bytes = store.objects()[&piece].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    store.overwrite(&piece, Bytes::from(bytes));
    assert_eq!(tidy(&repository, &log, &[]).await.unwrap(), 5);
    // Of one that replaces others that is another matter.
    let part = format!("logs/{}/7", log.as_str());
    let mut writer = repository.append_to_log(&log).await.unwrap();
    writer.append(json!({}), b"the newest", replaced(8, 8)).await.unwrap();
    writer.append(json!({}), b"more", None).await.unwrap();
    let newest = part.replace("/7", "/9");
    let mut bytes = store.objects()[&newest].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    store.overwrite(&newest, Bytes::from(bytes));
    let error = tidy(&repository, &log, &[]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RepositoryDamaged, "{error}");
    assert_eq!(there(&store), [3, 4, 7, 8, 9, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_may_be_written_nothing_goes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let log = log_of_ranges(&open(store.clone()).await.unwrap()).await;
    let options = OpenOptions { read_only: true, ..options() };
    let opened = Repository::open_with(store, &encrypted(), options).await.unwrap();
    let error = tidy(&opened.repository, &log, &[3]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RepositoryReadOnly, "{error}");
}
