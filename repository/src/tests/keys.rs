//! Key slots: added, removed, rotated, and told apart when they are damaged.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dbbackup_contract::Reason;
use dbbackup_storage::{Effect, FaultyStore, MemoryStore, Store, collect_listing};

use super::fixture::*;
use crate::{Encryption, Kdf, KeySource, Repository, SlotId, SlotState, Stretching};

fn raw(name: &str, byte: u8) -> KeySource {
    KeySource::raw(name, &[byte; 32]).unwrap()
}

fn by(source: &KeySource) -> Encryption {
    Encryption::Keys(vec![source.clone()])
}

async fn opens(store: &Arc<dyn Store>, source: &KeySource) -> bool {
    opened(store.clone(), &by(source)).await.is_ok()
}

async fn names_below(store: &Arc<dyn Store>, prefix: &str) -> Vec<String> {
    let listed = collect_listing(store.list(prefix)).await.unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

async fn reason(store: &Arc<dyn Store>, source: &KeySource) -> Reason {
    opened(store.clone(), &by(source)).await.map(|_| ()).unwrap_err().reason()
}

async fn whole_slots(repository: &Repository) -> Vec<(SlotId, Stretching, String)> {
    let slots = repository.key_slots().await.unwrap().into_iter();
    slots
        .map(|slot| match slot.state {
            SlotState::Whole { id, stretching, label, leaving: false } => {
                (id, stretching, label.map_or(String::new(), |label| label.name))
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_key_is_added_once_and_its_slot_says_its_name_and_how_it_is_stretched() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let strong = KeySource::passphrase("strong", b"correct horse").unwrap();
    let added = repository.add_key(&strong, Kdf::Argon2id).await.unwrap();
    assert!(added.is_new);
    let again = repository.add_key(&strong, Kdf::Pbkdf2).await.unwrap();
    assert_eq!((again.slot, again.is_new), (added.slot, false));
    let by_it = opened(store.clone(), &by(&strong)).await.unwrap();
    assert_eq!(by_it.opened_slots[0].slot, added.slot);
    let mut slots = whole_slots(&by_it.repository).await;
    slots.sort_by(|a, b| a.2.cmp(&b.2));
    let expected = Stretching::Argon2id { passes: 3, memory_kib: 65_536, lanes: 4 };
    assert_eq!(slots[0].1, Stretching::RawKey);
    assert_eq!(slots[1], (added.slot, expected, "strong".to_owned()));
}

#[tokio::test]
async fn a_slot_that_nothing_replaces_is_not_removed() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let first = opened(store.clone(), &encrypted()).await.unwrap();
    let (repository, slot) = (first.repository, first.opened_slots[0].slot);
    for remaining in [vec![], vec![raw("wrong", 1)], vec![key()], vec![key(), raw("wrong", 1)]] {
        let error = repository.remove_key(slot, &remaining).await.unwrap_err();
        assert_eq!(error.reason(), Reason::KeySlotNeeded, "{error}");
    }
    let second = raw("second", 2);
    repository.add_key(&second, Kdf::Pbkdf2).await.unwrap();
    // Who stays must not lose its only slot, also where another one opens.
    let error = repository.remove_key(slot, &[key(), second.clone()]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::KeySlotNeeded, "{error}");
    assert!(names_below(&store, "leaving/").await.is_empty(), "refused before it began");
    assert!(repository.remove_key(slot, std::slice::from_ref(&second)).await.unwrap());
    assert!(!repository.remove_key(slot, std::slice::from_ref(&second)).await.unwrap());
    assert_eq!(reason(&store, &key()).await, Reason::WrongKey);
    assert!(opens(&store, &second).await);
    assert!(names_below(&store, "leaving/").await.is_empty());
}

#[tokio::test]
async fn keys_rotate_in_both_orders_and_a_slot_of_somebody_else_stays() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (old, new, escrow) = (key(), raw("new", 2), raw("escrow", 3));
    let first = opened(store.clone(), &by(&old)).await.unwrap();
    let old_slot = first.opened_slots[0].slot;
    first.repository.add_key(&escrow, Kdf::Pbkdf2).await.unwrap();
    for listed in [[&new, &old], [&old, &new]] {
        let wanted: Vec<KeySource> = listed.into_iter().cloned().collect();
        let both = opened(store.clone(), &Encryption::Keys(wanted.clone())).await.unwrap();
        let rotating = both.repository.rotate(&wanted, &both.opened_slots, &[], Kdf::Pbkdf2);
        let rotation = rotating.await.unwrap();
        assert_eq!(rotation.slots.len(), 2);
        assert!(rotation.removed.is_empty());
        let others: Vec<_> = rotation.others.iter().map(|(_, name)| name.as_deref()).collect();
        assert_eq!(others, [Some("escrow")]);
        // A slot is not retired as long as a listed key opens it.
        let retired = [old_slot];
        let rotating = both.repository.rotate(&wanted, &both.opened_slots, &retired, Kdf::Pbkdf2);
        assert!(rotating.await.unwrap().removed.is_empty());
    }
    let wanted = [new.clone()];
    let only_new = opened(store.clone(), &by(&new)).await.unwrap();
    let retired = [old_slot];
    for expected in [vec![old_slot], vec![]] {
        let rotating =
            only_new.repository.rotate(&wanted, &only_new.opened_slots, &retired, Kdf::Pbkdf2);
        assert_eq!(rotating.await.unwrap().removed, expected);
    }
    assert!(opens(&store, &new).await && opens(&store, &escrow).await);
    assert_eq!(reason(&store, &old).await, Reason::WrongKey);
}

/// Rotates from `old` to `new` as two specs would say it: first both, then the new one.
async fn rotate(
    store: &Arc<dyn Store>,
    old: &KeySource,
    new: &KeySource,
    old_slot: SlotId,
) -> crate::Result<()> {
    for (wanted, retired) in [(vec![old, new], vec![]), (vec![new], vec![old_slot])] {
        let wanted: Vec<KeySource> = wanted.into_iter().cloned().collect();
        let now = opened(store.clone(), &Encryption::Keys(wanted.clone())).await?;
        now.repository.rotate(&wanted, &now.opened_slots, &retired, Kdf::Pbkdf2).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_rotation_survives_a_crash_at_every_write_and_goes_on_when_it_is_tried_again() {
    for effect in [
        Effect::CrashBefore,
        Effect::CrashAfter,
        Effect::LostAcknowledgement,
        Effect::Unavailable,
        Effect::Full,
    ] {
        let mut failures = 0;
        for at in 1.. {
            let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
            let store: Arc<dyn Store> = faulty.clone();
            let (old, new) = (key(), raw("new", 2));
            let old_slot = opened(store.clone(), &by(&old)).await.unwrap().opened_slots[0].slot;
            faulty.fail_at(at, effect);
            let outcome = rotate(&store, &old, &new, old_slot).await;
            let failed = faulty.has_failed();
            faulty.revive();
            let (by_old, by_new) = (opens(&store, &old).await, opens(&store, &new).await);
            assert!(by_old || by_new, "{effect:?} at {at}: locked out");
            if !failed {
                outcome.unwrap();
                break;
            }
            failures += 1;
            // The step that failed is tried again. (Going back to the first one would
            // give the old key a slot that stays, if its slot has begun to leave.)
            if by_new {
                let now = opened(store.clone(), &by(&new)).await.unwrap();
                let (wanted, retired) = ([new.clone()], [old_slot]);
                let rotating =
                    now.repository.rotate(&wanted, &now.opened_slots, &retired, Kdf::Pbkdf2);
                rotating.await.unwrap();
            } else {
                rotate(&store, &old, &new, old_slot).await.unwrap();
            }
            assert!(opens(&store, &new).await, "{effect:?} at {at}");
            assert_eq!(reason(&store, &old).await, Reason::WrongKey, "{effect:?} at {at}");
            assert!(names_below(&store, "leaving/").await.is_empty(), "{effect:?} at {at}");
            assert_eq!(names_below(&store, "keys/").await.len(), 1, "{effect:?} at {at}");
        }
        assert_eq!(failures, 4, "{effect:?}: a slot, leaving, two deletions");
    }
}

#[tokio::test]
async fn a_lost_acknowledgement_is_no_failure_with_retries() {
    for at in 1..=4 {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let (old, new) = (key(), raw("new", 2));
        let options = || {
            let mut options = options();
            options.retry.tries = 3;
            options
        };
        let first = Repository::open_with(faulty.clone(), &by(&old), options()).await.unwrap();
        faulty.fail_at(at, Effect::LostAcknowledgement);
        let added = first.repository.add_key(&new, Kdf::Pbkdf2).await.unwrap();
        assert!(added.is_new);
        let old_slot = first.opened_slots[0].slot;
        assert!(first.repository.remove_key(old_slot, &[new]).await.unwrap());
        assert!(faulty.has_failed());
    }
}

#[tokio::test]
async fn every_changed_byte_of_slot_or_config_is_damage_and_never_a_wrong_key() {
    let memory = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = memory.clone();
    open(store.clone()).await.unwrap();
    let wrong = raw("wrong", 1);
    for (prefix, expected) in
        [("keys/", Reason::KeySlotDamaged), ("config/", Reason::RepositoryDamaged)]
    {
        let name = names_below(&store, prefix).await.remove(0);
        let whole = store.get(&name).await.unwrap();
        for position in 0..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[position] ^= 0x20;
            memory.overwrite(&name, damaged.into());
            assert_eq!(reason(&store, &key()).await, expected, "{name} at {position}");
            // The slot may have been this key's: nobody can tell. A config's MAC is
            // seen with a key only, and a wrong one is told before.
            let seen = reason(&store, &wrong).await;
            let mac = position + 32 >= whole.len() && prefix == "config/";
            assert_eq!(seen, if mac { Reason::WrongKey } else { expected }, "{name} {position}");
        }
        memory.overwrite(&name, whole.slice(..whole.len() - 1));
        assert_eq!(reason(&store, &key()).await, expected, "{name} cut");
        memory.overwrite(&name, whole);
        assert_eq!(reason(&store, &wrong).await, Reason::WrongKey);
        assert!(opens(&store, &key()).await);
    }
}

#[tokio::test]
async fn one_damaged_slot_of_two_is_shown_and_harms_the_other_key_not() {
    let memory = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = memory.clone();
    let first = opened(store.clone(), &encrypted()).await.unwrap();
    let second = raw("second", 2);
    first.repository.add_key(&second, Kdf::Pbkdf2).await.unwrap();
    let slot = first.opened_slots[0].slot;
    memory.overwrite(&format!("keys/{slot}"), "cut".into());
    assert_eq!(reason(&store, &key()).await, Reason::KeySlotDamaged);
    let by_second = opened(store.clone(), &by(&second)).await.unwrap().repository;
    let states = by_second.key_slots().await.unwrap();
    assert_eq!(states.iter().filter(|slot| slot.state == SlotState::Damaged).count(), 1);
    // The key whose slot is damaged gets a new one, and the damaged one can go.
    assert!(by_second.add_key(&key(), Kdf::Pbkdf2).await.unwrap().is_new);
    assert!(by_second.remove_key(slot, &[second]).await.unwrap());
    assert!(opens(&store, &key()).await);
    assert_eq!(whole_slots(&by_second).await.len(), 2);
}

#[tokio::test]
async fn slots_of_a_lost_initialisation_go_after_a_day_and_no_others() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let other: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    let foreign = open(other.clone()).await.unwrap().id();
    let foreign_slot = names_below(&other, "keys/").await.remove(0);
    store.create(&foreign_slot, other.get(&foreign_slot).await.unwrap()).await.unwrap();
    // The end of a removal that was cut short, and one that is under way.
    let own_slot = names_below(&store, "keys/").await;
    let own_slot = own_slot.iter().find(|name| **name != foreign_slot).unwrap().clone();
    let gone = "leaving/aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned();
    let under_way = own_slot.replace("keys/", "leaving/");
    for name in [&gone, &under_way] {
        store.create(name, "x".into()).await.unwrap();
    }
    let states: Vec<_> = repository.key_slots().await.unwrap();
    assert!(states.iter().any(|slot| slot.state == SlotState::Foreign(foreign)), "{states:?}");
    let now = SystemTime::now();
    let hours = |hours| now + Duration::from_hours(hours);
    assert!(repository.remove_foreign_key_slots(hours(23)).await.unwrap().is_empty());
    let removed = repository.remove_foreign_key_slots(hours(25)).await.unwrap();
    assert_eq!(removed, [foreign_slot, gone]);
    assert_eq!(names_below(&store, "keys/").await, [own_slot]);
    assert_eq!(names_below(&store, "leaving/").await, [under_way]);
    assert!(opens(&store, &key()).await);
}

#[tokio::test]
async fn a_slot_of_another_master_key_is_forged_and_opens_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let repository = open(store.clone()).await.unwrap();
    // The attacker knows the repository's id, which is no secret, and no key of it.
    let attacker = raw("attacker", 6);
    let forged = crate::key_slot::build_slot(
        repository.id(),
        &[1; 32],
        &attacker,
        Kdf::Pbkdf2,
        &FixedEnvironment::new(5),
    );
    let (id, bytes) = forged.unwrap();
    store.create(&format!("keys/{id}"), bytes.into()).await.unwrap();
    let states = repository.key_slots().await.unwrap();
    assert!(states.iter().any(|slot| slot.state == SlotState::Forged), "{states:?}");
    // It opens with a key that the config does not know.
    assert_eq!(reason(&store, &attacker).await, Reason::RepositoryDamaged);
    assert!(opens(&store, &key()).await);
    assert!(repository.remove_key(id, &[key()]).await.unwrap());
}

#[tokio::test]
async fn slots_of_a_newer_release_are_skipped_and_named_where_nothing_else_is_there() {
    let memory = Arc::new(MemoryStore::new());
    let store: Arc<dyn Store> = memory.clone();
    let repository = open(store.clone()).await.unwrap();
    let name = names_below(&store, "keys/").await.remove(0);
    let mut newer = store.get(&name).await.unwrap().to_vec();
    newer[5] = 9;
    let at = newer.len() - 32;
    let digest = crate::keyring::sha256(&newer[..at]);
    newer[at..].copy_from_slice(&digest);
    let second = raw("second", 2);
    repository.add_key(&second, Kdf::Pbkdf2).await.unwrap();
    memory.overwrite(&name, newer.into());
    assert!(opens(&store, &second).await);
    assert_eq!(reason(&store, &key()).await, Reason::WrongKey);
    let states = repository.key_slots().await.unwrap();
    assert!(states.iter().any(|slot| matches!(slot.state, SlotState::Unsupported(_))));
    for slot in names_below(&store, "keys/").await {
        if slot != name {
            store.delete(&slot).await.unwrap();
        }
    }
    assert_eq!(reason(&store, &key()).await, Reason::RepositoryVersionUnsupported);
}

#[tokio::test]
async fn a_repository_without_encryption_has_no_keys_to_change() {
    let store = Arc::new(MemoryStore::new());
    let repository = opened(store, &Encryption::None).await.unwrap().repository;
    let slot = SlotId::parse(&"a".repeat(26)).unwrap();
    let reasons = [
        repository.key_slots().await.unwrap_err().reason(),
        repository.add_key(&key(), Kdf::Pbkdf2).await.unwrap_err().reason(),
        repository.remove_key(slot, &[key()]).await.unwrap_err().reason(),
    ];
    assert_eq!(reasons, [Reason::EncryptionMismatch; 3]);
}
