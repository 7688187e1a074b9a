//! Logs: one writer, parts in their order, and what is noticed.

use std::sync::Arc;

use dbbackup_contract::Reason;
use dbbackup_storage::{Effect, FaultyStore, MemoryStore, Store as _};
use proptest::prelude::*;
use serde_json::json;

use super::fixture::*;
use crate::{CheckLevel, CollectOptions, LogId, PartNumbers, Repository};

async fn numbers(repository: &Repository, log: &LogId) -> Vec<u32> {
    let log = repository.read_log(log).await.unwrap();
    log.parts().iter().map(|part| part.number).collect()
}

/// A log of `parts` parts, each with its number as its bytes, many times.
async fn log_of(repository: &Repository, parts: u32) -> LogId {
    let log = repository.log_id("3f6c/shop/nightly", "7");
    let mut writer = repository.append_to_log(&log).await.unwrap();
    for number in 0..parts {
        let content = number.to_string().repeat(1000);
        writer.append(json!({"start": number}), content.as_bytes(), None).await.unwrap();
    }
    log
}

fn replaced(first: u32, last: u32) -> Option<PartNumbers> {
    Some(PartNumbers { first, last })
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_back_in_their_order_with_what_was_said_of_them() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of(&repository, 12).await;
    let later = open(store.clone()).await.unwrap();
    let reader = later.read_log(&log).await.unwrap();
    for (number, part) in (0..12).zip(reader.parts()) {
        assert_eq!((part.number, &part.about), (number, &json!({"start": number})));
        let content = reader.content(part).await.unwrap();
        assert_eq!(content, number.to_string().repeat(1000));
    }
    let mut writer = later.append_to_log(&log).await.unwrap();
    assert_eq!(writer.last().unwrap().number, 11);
    assert_eq!(writer.append(json!({}), b"", None).await.unwrap().number, 12);
    let reader = later.read_log(&log).await.unwrap();
    assert_eq!(reader.content(reader.parts().last().unwrap()).await.unwrap(), "");
    let other = later.log_id("3f6c/shop/nightly", "8");
    assert!(later.append_to_log(&other).await.unwrap().last().is_none());
    assert!(store.objects().keys().all(|name| !name.contains("shop")));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_the_slower_one_is_fenced() {
    let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
    let log = log_of(&repository, 2).await;
    let mut first = repository.append_to_log(&log).await.unwrap();
    let mut second = repository.append_to_log(&log).await.unwrap();
    second.append(json!({"by": 2}), b"x", None).await.unwrap();
    for _ in 0..2 {
        let error = first.append(json!({"by": 1}), b"x", None).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Fenced, "{error}");
    }
    second.append(json!({"by": 2}), b"x", None).await.unwrap();
    assert_eq!(numbers(&repository, &log).await, [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_acknowledgement_was_lost_is_there_once() {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(FaultyStore::new(memory.clone()));
    let repository = open(store.clone()).await.unwrap();
    let log = log_of(&repository, 1).await;
    let mut writer = repository.append_to_log(&log).await.unwrap();
    // Whoever hears nothing asks again from the beginning, and finds what took effect.
    for (effect, expected) in [(Effect::LostAcknowledgement, 1), (Effect::Unavailable, 1)] {
        store.fail_at(1, effect);
        writer.append(json!({}), b"lost", None).await.unwrap_err();
        store.revive();
        writer = repository.append_to_log(&log).await.unwrap();
        assert_eq!(writer.last().unwrap().number, expected, "{effect:?}");
    }
    assert_eq!(writer.append(json!({}), b"next", None).await.unwrap().number, 2);
    assert_eq!(numbers(&repository, &log).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_may_be_gone_and_nothing_else() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of(&repository, 6).await;
    let mut writer = repository.append_to_log(&log).await.unwrap();
    writer.append(json!({}), b"all of it", replaced(1, 4)).await.unwrap();
    assert_eq!(numbers(&repository, &log).await, [0, 5, 6]);
    let object = |number: u32| format!("logs/{}/{number}", log.as_str());
    for number in [3, 1, 4, 2] {
        store.delete(&object(number)).await.unwrap();
        assert_eq!(numbers(&repository, &log).await, [0, 5, 6]);
    }
    // The oldest are let go in their order.
    store.delete(&object(0)).await.unwrap();
    assert_eq!(numbers(&repository, &log).await, [5, 6]);
    let mut writer = repository.append_to_log(&log).await.unwrap();
    writer.append(json!({}), b"7", None).await.unwrap();
    writer.append(json!({}), b"8", None).await.unwrap();
    store.delete(&object(7)).await.unwrap();
    let error = repository.read_log(&log).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ObjectMissing, "{error}");
    assert!(error.to_string().contains(&object(7)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_changed_moved_or_forged_is_noticed() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let log = log_of(&repository, 3).await;
    let object = |number: u32| format!("logs/{}/{number}", log.as_str());
    let objects = store.objects();
    let refused = async |why: &str| {
        let reader = match repository.read_log(&log).await {
            Ok(reader) => reader,
            Err(error) => return assert_eq!(error.reason(), Reason::RepositoryDamaged, "{why}"),
        };
        let part = reader.parts().iter().find(|part| part.number == 1).unwrap();
        let error = reader.content(part).await.unwrap_err();
        assert_eq!(error.reason(), Reason::RepositoryDamaged, "{why}: {error}");
    };
    let whole = objects[&object(1)].clone();
    for at in [6, 20, 41, 60, whole.len() - 1, whole.len() - 20] {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        store.overwrite(&object(1), bytes.into());
        refused(&format!("byte {at}")).await;
    }
    for length in [0, 39, 43, 50, whole.len() - 1] {
        store.overwrite(&object(1), whole.slice(..length));
        refused(&format!("{length} bytes")).await;
    }
    store.overwrite(&object(1), objects[&object(2)].clone());
    refused("the place of another").await;

    // Somebody with the key, and a store that lets an object be replaced.
    let elsewhere = Arc::new(MemoryStore::new());
    for (name, bytes) in &objects {
        if *name != object(1) && *name != object(2) {
            elsewhere.overwrite(name, bytes.clone());
        }
    }
    let other = open(elsewhere.clone()).await.unwrap();
    let mut writer = other.append_to_log(&log).await.unwrap();
    writer.append(json!({"start": 1}), b"forged", None).await.unwrap();
    store.overwrite(&object(1), elsewhere.objects()[&object(1)].clone());
    let error = repository.read_log(&log).await.unwrap_err();
    assert!(error.to_string().contains("does not follow"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_looks_at_logs_and_a_collection_leaves_them_alone() {
    let store = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    back_up(&repository, 1, &contents(1)).await.unwrap();
    let log = log_of(&repository, 4).await;
    assert_eq!(repository.logs().await.unwrap(), std::slice::from_ref(&log));
    repository.collect(&CollectOptions::default()).await.unwrap();
    let problems = async |level| {
        let report = repository.check(level).await.unwrap();
        report.problems.iter().map(|problem| problem.error.to_string()).collect::<Vec<_>>()
    };
    assert!(problems(CheckLevel::Data).await.is_empty());
    let object = |number: u32| format!("logs/{}/{number}", log.as_str());
    let mut bytes = store.objects()[&object(1)].to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    store.overwrite(&object(1), bytes.into());
    assert!(problems(CheckLevel::Structure).await.is_empty());
    let found = problems(CheckLevel::Data).await;
    assert!(found.len() == 1 && found[0].contains(&object(1)), "{found:?}");
    store.delete(&object(2)).await.unwrap();
    let found = problems(CheckLevel::Structure).await;
    assert!(found.len() == 1 && found[0].contains(&object(2)), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_come_back(content: Vec<u8>, about: String) {
        let threads = tokio::runtime::Runtime::new().unwrap();
        threads.block_on(async {
            let repository = open(Arc::new(MemoryStore::new())).await.unwrap();
            let log = repository.log_id("s", "1");
            let mut writer = repository.append_to_log(&log).await.unwrap();
            writer.append(json!({"about": about}), &content, None).await.unwrap();
            let reader = repository.read_log(&log).await.unwrap();
            let part = &reader.parts()[0];
            assert_eq!(part.about["about"], about);
            assert_eq!(reader.content(part).await.unwrap(), content);
        });
    }
}
