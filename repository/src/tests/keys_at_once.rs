//! Several that change keys at the same time, in many orders, some of whom die or
//! freeze: somebody's key opens the repository in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_storage::{Creation, Listing, MemoryStore, ObjectInfo, Store};

use super::fixture::*;
use crate::{Encryption, Kdf, KeySource, OpenedSlot, Repository, SlotId};

/// Lets others go first, a random number of times at each call; from `dies_at` on no
/// call is answered any more.
#[derive(Debug)]
struct Hesitant {
    inner: Arc<dyn Store>,
    seed: u64,
    calls: AtomicU64,
    dies_at: u64,
}

impl Hesitant {
    async fn pass(&self) {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call >= self.dies_at {
            std::future::pending::<()>().await;
        }
        for _ in 0..noise(self.seed.wrapping_add(call), 1)[0] % 8 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Store for Hesitant {
    async fn create(&self, name: &str, bytes: Bytes) -> dbbackup_storage::Result<Creation> {
        self.pass().await;
        self.inner.create(name, bytes).await
    }

    async fn get(&self, name: &str) -> dbbackup_storage::Result<Bytes> {
        self.pass().await;
        self.inner.get(name).await
    }

    async fn get_range(
        &self,
        name: &str,
        range: std::ops::Range<u64>,
    ) -> dbbackup_storage::Result<Bytes> {
        self.pass().await;
        self.inner.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> dbbackup_storage::Result<ObjectInfo> {
        self.pass().await;
        self.inner.head(name).await
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        self.inner.list(prefix)
    }

    async fn delete(&self, name: &str) -> dbbackup_storage::Result<()> {
        self.pass().await;
        self.inner.delete(name).await
    }
}

fn raw(byte: u8) -> KeySource {
    KeySource::raw(byte.to_string(), &[byte; 32]).unwrap()
}

/// A repository with a slot for each of the keys 1, 2, ….
async fn repository(keys: u8) -> (Arc<MemoryStore>, Vec<OpenedSlot>) {
    let store = Arc::new(MemoryStore::new());
    let sources = (1..=keys).map(raw).collect();
    let opened = opened(store.clone(), &Encryption::Keys(sources)).await.unwrap();
    (store, opened.opened_slots)
}

/// Wants the keys `keep`, and the slots of `retire` to go, as an operator's Job does.
async fn rotate(store: Arc<dyn Store>, keep: &[u8], retire: &[SlotId]) -> crate::Result<()> {
    let wanted: Vec<KeySource> = keep.iter().copied().map(raw).collect();
    let opened = opened(store, &Encryption::Keys(wanted.clone())).await?;
    opened.repository.rotate(&wanted, &opened.opened_slots, retire, Kdf::Pbkdf2).await.map(|_| ())
}

/// Removes a slot as a person does, with one key at hand.
async fn remove(store: Arc<dyn Store>, keep: u8, slot: SlotId) -> crate::Result<()> {
    let opened = opened(store, &Encryption::Keys(vec![raw(keep)])).await?;
    opened.repository.remove_key(slot, &[raw(keep)]).await.map(|_| ())
}

fn hesitant(store: &Arc<MemoryStore>, seed: u64, dies_at: u64) -> Arc<dyn Store> {
    let (inner, calls) = (store.clone(), AtomicU64::new(0));
    Arc::new(Hesitant { inner, seed: seed.wrapping_mul(0x9E37_79B9), calls, dies_at })
}

async fn opens(store: &Arc<MemoryStore>, key: u8) -> bool {
    opened(store.clone(), &Encryption::Keys(vec![raw(key)])).await.is_ok()
}

/// Until both have ended, or whoever is left has died.
async fn both(
    a: impl Future<Output = crate::Result<()>>,
    b: impl Future<Output = crate::Result<()>>,
) {
    let bounded =
        tokio::time::timeout(std::time::Duration::from_millis(200), async { tokio::join!(a, b) });
    let _ = bounded.await;
}

#[tokio::test]
async fn two_that_remove_each_others_key_leave_one_that_opens() {
    let (mut kept_one, mut kept_both) = (0, 0);
    for seed in 0..100 {
        let (store, slots) = repository(2).await;
        // Every fourth time one of them dies on the way.
        let dies_at = if seed % 4 == 0 { seed / 4 } else { u64::MAX };
        both(
            remove(hesitant(&store, seed, dies_at), 2, slots[0].slot),
            remove(hesitant(&store, seed + 10_000, u64::MAX), 1, slots[1].slot),
        )
        .await;
        match (opens(&store, 1).await, opens(&store, 2).await) {
            (false, false) => panic!("seed {seed}: nobody is left who can open it"),
            (true, true) => kept_both += 1,
            _ => kept_one += 1,
        }
    }
    assert!(kept_one > 0 && kept_both > 0, "{kept_one} and {kept_both}: the orders were alike");
}

#[tokio::test]
async fn two_rotations_at_once_lock_nobody_out_who_is_not_meant_to_be() {
    for seed in 0..60 {
        let (store, slots) = repository(2).await;
        let (one, two) = (slots[0].slot, slots[1].slot);
        let dies_at = if seed % 4 == 0 { seed / 4 } else { u64::MAX };
        // One goes from 1 to 2, the other one from 2 to 3.
        add_third(&store).await;
        both(
            rotate(hesitant(&store, seed, dies_at), &[2], &[one]),
            rotate(hesitant(&store, seed + 10_000, u64::MAX), &[3], &[two]),
        )
        .await;
        assert!(opens(&store, 3).await, "seed {seed}: the key that nobody removes");
    }
}

async fn add_third(store: &Arc<MemoryStore>) {
    let opened = opened(store.clone(), &Encryption::Keys(vec![raw(2)])).await.unwrap();
    let repository: Repository = opened.repository;
    repository.add_key(&raw(3), Kdf::Pbkdf2).await.unwrap();
}

#[tokio::test]
async fn rotations_that_want_opposite_keys_leave_one_that_opens_and_come_to_an_end() {
    for seed in 0..60 {
        let (store, slots) = repository(2).await;
        let (one, two) = (slots[0].slot, slots[1].slot);
        let dies_at = if seed % 4 == 0 { seed / 4 } else { u64::MAX };
        both(
            rotate(hesitant(&store, seed, dies_at), &[1], &[two]),
            rotate(hesitant(&store, seed + 10_000, u64::MAX), &[2], &[one]),
        )
        .await;
        let open = [opens(&store, 1).await, opens(&store, 2).await];
        assert!(open[0] || open[1], "seed {seed}: nobody is left who can open it");
        // Whichever key is left, its rotation can be tried again, and ends.
        let (key, retired) = if open[0] { (1, two) } else { (2, one) };
        rotate(store.clone(), &[key], &[retired]).await.unwrap();
        assert!(opens(&store, key).await, "seed {seed}");
    }
}
