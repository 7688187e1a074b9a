//! A store that somebody floods who may only create objects: configs and key slots
//! without end, each of the largest work.

use std::sync::Arc;
use std::time::Duration;

use dbbackup_contract::Reason;
use dbbackup_storage::{FaultyStore, MemoryStore};

use super::fixture::*;
use crate::config::build_config;
use crate::key_slot::{SlotId, build_forged_slot, build_slot_without_label};
use crate::keyring::{Keyring, RepositoryId};
use crate::stretching::Budget;
use crate::unlock::{find_configs, unlock_sealed};
use crate::{Encryption, Environment as _, Kdf, KeySource, Repository, Result, SystemEnvironment};

/// Rounds of a slot that is written.
const WRITTEN: u64 = 600_000;
/// Rounds of the cheapest one that is accepted.
const CHEAPEST: u32 = 100_000;

fn passphrase(text: &str) -> KeySource {
    KeySource::passphrase(text, text.as_bytes()).unwrap()
}

/// A repository that these open, made some time ago.
async fn made_by(sources: &[KeySource]) -> (Arc<MemoryStore>, Repository) {
    let store = Arc::new(MemoryStore::new());
    let made = opened(store.clone(), &Encryption::Keys(sources.to_vec())).await.unwrap();
    later(&store);
    (store, made.repository)
}

fn later(store: &MemoryStore) {
    store.age(Duration::from_secs(60));
}

fn put(store: &MemoryStore, (id, slot): (SlotId, Vec<u8>)) {
    store.overwrite(&id.object_name(), slot.into());
}

fn flood(store: &MemoryStore, id: RepositoryId, slots: usize, rounds: u32) {
    (0..slots).for_each(|_| put(store, build_forged_slot(id, rounds)));
}

/// The keys that open it where each may be stretched for so many rounds.
async fn open_within(
    store: &Arc<MemoryStore>,
    sources: &[KeySource],
    rounds: u64,
) -> Result<Vec<String>> {
    let found = find_configs(&**store).await?;
    let unlocked = unlock_sealed(&**store, &found, sources, &Budget::of(rounds)).await?;
    Ok(unlocked.opened_slots.into_iter().map(|opened| opened.key).collect())
}

#[tokio::test]
async fn a_flood_of_slots_costs_who_has_an_older_one_nothing_and_others_a_bounded_time() {
    let ours = passphrase("ours");
    let (store, repository) = made_by(std::slice::from_ref(&ours)).await;
    flood(&store, repository.id(), 20, CHEAPEST);
    assert_eq!(open_within(&store, std::slice::from_ref(&ours), WRITTEN).await.unwrap(), ["ours"]);
    let wrong = [passphrase("wrong")];
    let error = open_within(&store, &wrong, WRITTEN + 5 * u64::from(CHEAPEST)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TooManyKeySlots);
    assert!(error.to_string().contains("keys/ holds 21 key slots"), "{error}");
    // All of them were tried: that is a wrong key.
    let enough = WRITTEN + 20 * u64::from(CHEAPEST);
    let error = open_within(&store, &wrong, enough).await.unwrap_err();
    assert_eq!(error.reason(), Reason::WrongKey);
    // The larger ones, which exceed what is left, keep nobody from those behind them.
    let late = passphrase("late");
    put(&store, build_forged_slot(repository.id(), 10_000_000));
    later(&store);
    repository.add_key(&late, Kdf::Pbkdf2).await.unwrap();
    assert_eq!(open_within(&store, &[late], enough + WRITTEN).await.unwrap(), ["late"]);
}

#[tokio::test]
async fn a_key_that_opens_tells_forged_slots_for_the_others() {
    let late = passphrase("late");
    for (first, rounds) in [(key(), WRITTEN), (passphrase("first"), WRITTEN)] {
        let (store, repository) = made_by(std::slice::from_ref(&first)).await;
        flood(&store, repository.id(), 20, CHEAPEST);
        later(&store);
        repository.add_key(&late, Kdf::Pbkdf2).await.unwrap();
        let both = [late.clone(), first.clone()];
        let expected = ["late", &first.name];
        assert_eq!(open_within(&store, &both, rounds).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_key_has_its_slot_behind_a_flood_and_gets_no_second_one() {
    let (store, repository) = made_by(&[key()]).await;
    flood(&store, repository.id(), 70, WRITTEN as u32);
    later(&store);
    let late = passphrase("late");
    let added = repository.add_key(&late, Kdf::Pbkdf2).await.unwrap();
    let again = repository.add_key(&late, Kdf::Pbkdf2).await.unwrap();
    assert_eq!((added.is_new, again.is_new, again.slot), (true, false, added.slot));
}

#[tokio::test]
async fn slots_of_another_repository_cost_nothing_whatever_forged_configs_say() {
    let ours = passphrase("ours");
    let (store, repository) = made_by(std::slice::from_ref(&ours)).await;
    let slot = repository.key_slots().await.unwrap().remove(0).object;
    let bytes = store.objects()[&slot].clone();
    let foreign = RepositoryId([9; 16]);
    // Left by an initialisation that was lost, before ours.
    flood(&store, foreign, 20, CHEAPEST);
    later(&store);
    store.overwrite(&slot, bytes);
    let sources = [ours];
    assert_eq!(open_within(&store, &sources, WRITTEN).await.unwrap(), ["ours"]);
    // A config that leads to slots which are newer than ours.
    let (store, _) = made_by(&sources).await;
    let forged = Keyring::encrypted(foreign, zeroize::Zeroizing::new([9; 32])).unwrap();
    let config = build_config(&forged, "config/9", SystemEnvironment.now()).unwrap();
    store.overwrite("config/9", config.into());
    flood(&store, foreign, 20, CHEAPEST);
    assert_eq!(open_within(&store, &sources, WRITTEN).await.unwrap(), ["ours"]);
}

#[tokio::test]
async fn slots_without_labels_are_tried_within_the_budget() {
    let (store, repository) = made_by(&[key()]).await;
    let old = passphrase("old");
    let keys = &repository.inner.keys;
    put(&store, build_slot_without_label(keys.repository, keys.master(), &old));
    let both = [key(), old];
    assert_eq!(open_within(&store, &both, WRITTEN).await.unwrap(), ["main", "old"]);
    assert_eq!(open_within(&store, &both, WRITTEN - 1).await.unwrap(), ["main"]);
}

#[tokio::test]
async fn a_flood_of_objects_takes_a_bounded_number_of_requests() {
    let (store, repository) = made_by(&[key()]).await;
    let counted = Arc::new(FaultyStore::new(store.clone()));
    let gets = |sources: Encryption| {
        let (counted, before) = (counted.clone(), counted.counts().gets);
        async move {
            let outcome = opened(counted.clone(), &sources).await.map(|opened| opened.repository);
            (outcome, counted.counts().gets - before)
        }
    };
    let forged = Keyring::for_tests();
    for n in 1..=3000 {
        let name = format!("config/{n}");
        let config = build_config(&forged, &name, SystemEnvironment.now()).unwrap();
        store.overwrite(&name, config.into());
    }
    flood(&store, repository.id(), 3000, 10_000_000);
    let (again, requests) = gets(encrypted()).await;
    let again = again.unwrap();
    assert_eq!((again.id(), requests), (repository.id(), 256 + 1024));
    // What is larger than any config or slot is not read at all.
    let (small, _) = made_by(&[key()]).await;
    small.overwrite("config/7", vec![0; 65_613].into());
    put(&small, (SlotId::parse(&"a".repeat(26)).unwrap(), vec![0; 4097]));
    let counted = Arc::new(FaultyStore::new(small));
    open(counted.clone()).await.unwrap();
    assert_eq!(counted.counts().gets, 2);
    // A slot that would not be found is not made, and the others are left alone.
    let late = KeySource::raw("late", &[3; 32]).unwrap();
    let error = again.add_key(&late, Kdf::Pbkdf2).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TooManyKeySlots, "{error}");
    let before = store.objects().len();
    let rotation = again.rotate(&[key(), late], &[], &[], Kdf::Pbkdf2).await.unwrap();
    assert_eq!((rotation.added.len(), store.objects().len()), (0, before));
    let (outcome, _) = gets(Encryption::Keys(vec![KeySource::raw("x", &[8; 32]).unwrap()])).await;
    assert_eq!(outcome.unwrap_err().reason(), Reason::TooManyKeySlots);
}
