//! A store that tries again what another one could not do.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Capabilities, Creation, ErrorKind, Listing, ObjectInfo, Repeater, Result, RetryPolicy, Store,
};

/// Wraps a store and repeats what failed as [`ErrorKind::Unavailable`].
///
/// A create whose acknowledgement was lost is told apart from one that lost a
/// race by comparing the bytes: our own objects never repeat, since each holds
/// fresh random bytes.
#[derive(Debug)]
pub struct RetryingStore {
    inner: Arc<dyn Store>,
    repeater: Repeater,
}

impl RetryingStore {
    /// Repeats by `policy`; `seed` scatters the delays.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, policy: RetryPolicy, seed: u64) -> Self {
        Self { inner, repeater: Repeater::new(policy, seed) }
    }
}

#[async_trait]
impl Store for RetryingStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        self.repeater
            .repeat(|again| {
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
        self.repeater.repeat(|_| self.inner.get(name)).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.repeater.repeat(|_| self.inner.get_range(name, range.clone())).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.repeater.repeat(|_| self.inner.head(name)).await
    }

    /// A listing that breaks off is not repeated here: the caller has seen a part of it.
    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        self.inner.list(prefix)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.repeater.repeat(|_| self.inner.delete(name)).await
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        self.repeater.repeat(|_| self.inner.keep(name)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
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
