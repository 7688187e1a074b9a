//! A store of which a share of the requests fails, in the ways in which services fail.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::scatter::Scatter;
use crate::{
    Capabilities, Creation, Error, ErrorKind, Listing, ObjectInfo, Operation, Result, Store,
};

/// How long a request may be delayed, and a write come late.
const LONGEST_DELAY_MICROSECONDS: u64 = 2000;

/// Wraps a store and lets requests fail by chance: refused, throttled, not
/// acknowledged though they took effect, or in effect only later. Listings pass, since
/// drivers repeat their pages themselves.
#[derive(Debug)]
pub struct UnreliableStore {
    inner: Arc<dyn Store>,
    /// Of a thousand.
    failing: AtomicU64,
    random: Scatter,
    failed: AtomicU64,
}

impl UnreliableStore {
    /// Lets so many requests of a thousand fail; the same seed throws the same dice.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, permille: u64, seed: u64) -> Self {
        Self {
            inner,
            failing: AtomicU64::new(permille),
            random: Scatter::new(seed),
            failed: AtomicU64::new(0),
        }
    }

    /// From now on nothing fails.
    pub fn calm_down(&self) {
        self.failing.store(0, Ordering::SeqCst);
    }

    /// How many requests have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    fn below(&self, end: u64) -> u64 {
        self.random.next() % end
    }

    async fn delay(&self) {
        let delay = self.below(LONGEST_DELAY_MICROSECONDS);
        tokio::time::sleep(Duration::from_micros(delay)).await;
    }

    fn fails(&self) -> bool {
        let fails = self.below(1000) < self.failing.load(Ordering::SeqCst);
        self.failed.fetch_add(u64::from(fails), Ordering::SeqCst);
        fails
    }

    fn failure(&self, operation: Operation, name: &str) -> Error {
        let error = Error::new(ErrorKind::Unavailable, operation, name, "injected fault");
        let throttled = self.below(2) == 0;
        error.retry_after(throttled.then(|| Duration::from_millis(self.below(3))))
    }

    async fn reading(&self, operation: Operation, name: &str) -> Result<()> {
        self.delay().await;
        if self.fails() { Err(self.failure(operation, name)) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for UnreliableStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        self.delay().await;
        if !self.fails() {
            return self.inner.create(name, bytes).await;
        }
        match self.below(3) {
            0 => {}
            1 => _ = self.inner.create(name, bytes).await?,
            _ => {
                let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
                let delay = Duration::from_micros(self.below(10 * LONGEST_DELAY_MICROSECONDS));
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    // Nobody waits for it.
                    let _ = inner.create(&name, bytes).await;
                });
            }
        }
        Err(self.failure(Operation::Create, name))
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.reading(Operation::Read, name).await?;
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.reading(Operation::Read, name).await?;
        self.inner.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.reading(Operation::Head, name).await?;
        self.inner.head(name).await
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        self.inner.list(prefix)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.delay().await;
        if self.fails() {
            if self.below(2) == 0 {
                self.inner.delete(name).await?;
            }
            return Err(self.failure(Operation::Delete, name));
        }
        self.inner.delete(name).await
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        self.reading(Operation::Keep, name).await?;
        self.inner.keep(name).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, RetryPolicy, RetryingStore};

    #[tokio::test]
    async fn who_tries_often_enough_sees_a_store_that_keeps_the_contract() {
        let memory = Arc::new(MemoryStore::new());
        let unreliable = Arc::new(UnreliableStore::new(memory, 100, 1));
        let policy = RetryPolicy {
            tries: 12,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_millis(5),
        };
        let store = Arc::new(RetryingStore::new(unreliable.clone(), policy, 1));
        for n in 0..200 {
            let name = format!("a/{n}");
            assert_eq!(
                store.create(&name, Bytes::from(name.clone())).await.unwrap(),
                Creation::Created
            );
            assert_eq!(store.get(&name).await.unwrap(), name.as_bytes());
        }
        assert!(unreliable.failed() > 20);
    }
}
