//! Tries again what a store could not do, with growing and scattered delays.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Creation, ErrorKind, Listing, ObjectInfo, Result, Store};

/// How often and how long it is tried again.
///
/// Exponential back-off with full jitter (Brooker, *Exponential Backoff And
/// Jitter*, AWS Architecture Blog, 2015): the n-th delay is drawn evenly from 0
/// to `first_delay × 2^n`, `longest_delay` at most.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries in all, the first included.
    pub tries: u32,
    /// Upper end of the first delay.
    pub first_delay: Duration,
    /// Upper end of any delay.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    /// Seven tries within about half a minute: a restart of a store, not an outage,
    /// which the Job's own retries outlast.
    fn default() -> Self {
        Self {
            tries: 7,
            first_delay: Duration::from_millis(200),
            longest_delay: Duration::from_secs(15),
        }
    }
}

/// Wraps a store and repeats what failed as [`ErrorKind::Unavailable`].
///
/// A create whose acknowledgement was lost is told apart from one that lost a
/// race by comparing the bytes: our own objects never repeat, since each holds
/// fresh random bytes.
#[derive(Debug)]
pub struct RetryingStore {
    inner: Arc<dyn Store>,
    policy: RetryPolicy,
    random: AtomicU64,
}

impl RetryingStore {
    /// Repeats by `policy`; `seed` scatters the delays.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, policy: RetryPolicy, seed: u64) -> Self {
        Self { inner, policy, random: AtomicU64::new(seed) }
    }

    fn delay(&self, failures: u32) -> Duration {
        let ceiling = self
            .policy
            .first_delay
            .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
            .min(self.policy.longest_delay);
        // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): delays need no better.
        let mut x = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        ceiling.mul_f64((x >> 11) as f64 / (1_u64 << 53) as f64)
    }

    async fn repeat<T, F, R>(&self, mut operation: F) -> Result<T>
    where
        F: FnMut(bool) -> R + Send,
        R: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let mut failures = 0;
        loop {
            match operation(failures > 0).await {
                Err(error) if error.is_retryable() && failures + 1 < self.policy.tries => {
                    let delay = self.delay(failures);
                    tracing::warn!(%error, ?delay, "trying again");
                    tokio::time::sleep(delay).await;
                    failures += 1;
                }
                done => return done,
            }
        }
    }
}

#[async_trait]
impl Store for RetryingStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        self.repeat(|again| {
            let bytes = bytes.clone();
            async move {
                let created = self.inner.create(name, bytes.clone()).await?;
                if created == Creation::Exists && again {
                    return match self.inner.get(name).await {
                        Ok(found) if found == bytes => Ok(Creation::Created),
                        Ok(_) => Ok(Creation::Exists),
                        Err(error) if error.kind == ErrorKind::NotFound => Ok(Creation::Exists),
                        Err(error) => Err(error),
                    };
                }
                Ok(created)
            }
        })
        .await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.repeat(|_| self.inner.get(name)).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.repeat(|_| self.inner.get_range(name, range.clone())).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.repeat(|_| self.inner.head(name)).await
    }

    /// A listing that breaks off is not repeated here: the caller has seen a part of it.
    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        self.inner.list(prefix)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.repeat(|_| self.inner.delete(name)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, FaultyStore, MemoryStore};

    #[tokio::test(start_paused = true)]
    async fn a_lost_acknowledgement_is_a_success_and_a_lost_race_is_not() {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let store = RetryingStore::new(faulty.clone(), RetryPolicy::default(), 1);
        faulty.fail_at(1, Effect::LostAcknowledgement);
        assert_eq!(store.create("a", Bytes::from_static(b"1")).await.unwrap(), Creation::Created);
        assert_eq!(store.create("a", Bytes::from_static(b"1")).await.unwrap(), Creation::Exists);
        faulty.fail_at(1, Effect::Unavailable);
        assert_eq!(store.create("a", Bytes::from_static(b"2")).await.unwrap(), Creation::Exists);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end() {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let store = RetryingStore::new(faulty.clone(), RetryPolicy::default(), 1);
        faulty.fail_at(1, Effect::CrashBefore);
        assert!(store.create("a", Bytes::new()).await.is_err());
        assert_eq!(faulty.counts().creates, 7);
    }

    #[tokio::test]
    async fn a_retrying_store_keeps_the_contract() {
        let inner = Arc::new(MemoryStore::new());
        let store = RetryingStore::new(inner, RetryPolicy::default(), 1);
        crate::check_conformance(Arc::new(store)).await.unwrap();
    }
}
