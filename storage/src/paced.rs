//! A store that is used no faster than it may be.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::Bandwidth;
use tokio::time::Instant;

use crate::{Capabilities, Creation, Listing, ObjectInfo, Result, Store};

/// Wraps a store and waits between requests, so that over several of them no more
/// bytes pass than allowed. A single object, 20 MiB at most of a repository's, goes as
/// fast as the line is. Names, listings and heads do not count.
#[derive(Debug)]
pub struct PacedStore {
    inner: Arc<dyn Store>,
    upload: Pace,
    download: Pace,
}

impl PacedStore {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, bandwidth: Bandwidth) -> Self {
        Self { inner, upload: Pace::new(bandwidth.upload), download: Pace::new(bandwidth.download) }
    }
}

/// When the next byte may pass in one direction.
#[derive(Debug)]
struct Pace {
    bytes_per_second: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// Waits until what passed before is paid for, and books so many bytes.
    async fn book(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_second else { return };
        let turn = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = free_at.map_or(now, |free_at| free_at.max(now));
            let seconds = bytes as f64 / rate.max(1) as f64;
            *free_at = Some(turn + Duration::from_secs_f64(seconds));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[async_trait]
impl Store for PacedStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        self.upload.book(bytes.len()).await;
        self.inner.create(name, bytes).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        // How large it is shows when it is there: the next one waits.
        self.download.book(0).await;
        let bytes = self.inner.get(name).await?;
        self.download.book(bytes.len()).await;
        Ok(bytes)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        self.download.book(length).await;
        self.inner.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.inner.head(name).await
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        self.inner.list(prefix)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        self.inner.keep(name).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::MemoryStore;

    const SIZE: usize = 1_000_000;

    fn paced(upload: Option<u64>, download: Option<u64>) -> PacedStore {
        PacedStore::new(Arc::new(MemoryStore::new()), Bandwidth { upload, download })
    }

    async fn eleven_objects(store: &PacedStore) -> Duration {
        let started = Instant::now();
        let names: Vec<_> = (0..11).map(|n| format!("a/{n}")).collect();
        let created = names.iter().map(|name| store.create(name, Bytes::from(vec![0; SIZE])));
        join_all(created).await.into_iter().for_each(|created| _ = created.unwrap());
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_keep_to_their_limit_however_many_run_at_once() {
        let store = paced(Some(SIZE as u64 / 2), None);
        // The first goes at once, each of the others two seconds after the one before.
        assert_eq!(eleven_objects(&store).await.as_secs(), 20);
        assert_eq!(eleven_objects(&paced(None, Some(1))).await.as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn downloads_keep_to_theirs() {
        let store = paced(None, Some(SIZE as u64));
        eleven_objects(&store).await;
        let started = Instant::now();
        for n in 0..5 {
            store.get(&format!("a/{n}")).await.unwrap();
            store.get_range(&format!("a/{n}"), 0..SIZE as u64 / 2).await.unwrap();
        }
        let taken = started.elapsed().as_secs_f64();
        assert!((6.4..7.6).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn a_paced_store_keeps_the_contract() {
        let store = paced(Some(1 << 40), Some(1 << 40));
        crate::check_conformance(Arc::new(store)).await.unwrap();
    }
}
