//! Gives up waiting for a store that does not answer.
//!
//! A volume whose server or disk is gone fails nothing: its calls never return.
//! Everything that a repository does goes through here, so that each step of a
//! run ends, and says which object of which place it was about.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use crate::{
    Capabilities, Creation, Error, ErrorKind, Listing, ObjectInfo, Operation, Result, Store,
};

/// Wraps a store whose operations may take no longer than a limit, each for
/// itself: one object of at most [`crate::MAX_OBJECT_BYTES`], or the next item
/// of a listing.
#[derive(Debug)]
pub struct TimedStore {
    inner: Arc<dyn Store>,
    limit: Duration,
    shown: String,
}

impl TimedStore {
    /// Opens a store by `open`, within the limit as well. Messages call it `shown`.
    ///
    /// # Errors
    /// `Silent`, or what `open` says.
    pub async fn open<S: Store + 'static>(
        shown: impl Into<String>,
        limit: Duration,
        open: impl Future<Output = Result<S>>,
    ) -> Result<Self> {
        let shown = shown.into();
        match tokio::time::timeout(limit, open).await {
            Ok(opened) => Ok(Self { inner: Arc::new(opened?), limit, shown }),
            Err(_) => Err(silent(Operation::Open, "it", &shown, limit)),
        }
    }

    async fn within<T>(
        &self,
        operation: Operation,
        name: &str,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.limit, answer).await {
            Ok(answered) => answered,
            Err(_) => Err(silent(operation, name, &self.shown, self.limit)),
        }
    }
}

fn silent(operation: Operation, name: &str, shown: &str, limit: Duration) -> Error {
    let detail = format!("{shown} does not answer for {} s", limit.as_secs().max(1));
    Error::new(ErrorKind::Silent, operation, name, detail)
}

#[async_trait]
impl Store for TimedStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        self.within(Operation::Create, name, self.inner.create(name, bytes)).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.within(Operation::Read, name, self.inner.get(name)).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.within(Operation::Read, name, self.inner.get_range(name, range)).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.within(Operation::Head, name, self.inner.head(name)).await
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        let shown = if prefix.is_empty() { "the objects".to_owned() } else { prefix.to_owned() };
        let listing = Some(self.inner.list(prefix));
        stream::unfold((listing, shown), move |(listing, shown)| async move {
            let mut listing = listing?;
            match tokio::time::timeout(self.limit, listing.next()).await {
                Ok(item) => item.map(|item| (item, (Some(listing), shown))),
                // Nothing follows: what is missing of it is not known.
                Err(_) => {
                    let error = silent(Operation::List, &shown, &self.shown, self.limit);
                    Some((Err(error), (None, shown)))
                }
            }
        })
        .boxed()
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.within(Operation::Delete, name, self.inner.delete(name)).await
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        self.within(Operation::Keep, name, self.inner.keep(name)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, FaultyStore, MemoryStore, collect_listing};

    const LIMIT: Duration = Duration::from_secs(900);

    async fn timed(inner: Arc<dyn Store>) -> TimedStore {
        TimedStore::open("the volume /backups", LIMIT, async { Ok(inner) }).await.unwrap()
    }

    /// A store that never answers.
    #[derive(Debug)]
    struct Hung;

    #[async_trait]
    impl Store for Hung {
        async fn create(&self, _: &str, _: Bytes) -> Result<Creation> {
            std::future::pending().await
        }
        async fn get(&self, _: &str) -> Result<Bytes> {
            std::future::pending().await
        }
        async fn get_range(&self, _: &str, _: Range<u64>) -> Result<Bytes> {
            std::future::pending().await
        }
        async fn head(&self, _: &str) -> Result<ObjectInfo> {
            std::future::pending().await
        }
        fn list<'a>(&'a self, _: &str) -> Listing<'a> {
            let first = ObjectInfo {
                name: "packs/1".into(),
                size: 1,
                modified: std::time::SystemTime::UNIX_EPOCH,
            };
            stream::iter([Ok(first)]).chain(stream::pending()).boxed()
        }
        async fn delete(&self, _: &str) -> Result<()> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_a_hung_store_is_asked_the_answer_names_it() {
        let store = timed(Arc::new(Hung)).await;
        let name = "packs/0";
        let errors = [
            store.create(name, Bytes::new()).await.map(drop).unwrap_err(),
            store.get(name).await.map(drop).unwrap_err(),
            store.get_range(name, 0..1).await.map(drop).unwrap_err(),
            store.head(name).await.map(drop).unwrap_err(),
            store.delete(name).await.unwrap_err(),
            collect_listing(store.list(name)).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, ErrorKind::Silent, "{error}");
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot {} packs/0: the volume /backups does not answer for 900 s",
                    error.operation
                )
            );
        }
        let hung = async { std::future::pending::<Result<MemoryStore>>().await };
        let error = TimedStore::open("the volume /backups", LIMIT, hung).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open it: the volume /backups does not answer for 900 s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_not_answered_is_not_tried_again() {
        let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let inner = timed(faulty.clone()).await;
        let store = crate::RetryingStore::new(Arc::new(inner), Default::default(), 1);
        faulty.fail_at(1, Effect::NoAnswer);
        let error = store.create("a", Bytes::from_static(b"1")).await.unwrap_err();
        assert_eq!((error.kind, faulty.counts().creates), (ErrorKind::Silent, 1));
        // The next one is answered: the silence was that write's.
        assert_eq!(store.create("b", Bytes::new()).await.unwrap(), Creation::Created);
    }

    #[tokio::test]
    async fn a_timed_store_keeps_the_contract() {
        let store = timed(Arc::new(MemoryStore::new())).await;
        crate::check_conformance(Arc::new(store)).await.unwrap();
    }
}
