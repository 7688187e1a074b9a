//! A store that fails where a test wants it to: crashes and lost acknowledgements.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use crate::{
    Capabilities, Creation, Error, ErrorKind, Listing, ObjectInfo, Operation, Result, Store,
};

/// What happens at the write that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The process dies before the write took effect; nothing works afterwards.
    CrashBefore,
    /// The process dies after it took effect; nothing works afterwards.
    CrashAfter,
    /// It took effect, but the caller hears that the store is unavailable.
    LostAcknowledgement,
    /// It did not take effect, and the next try will.
    Unavailable,
    /// It did not take effect, since the store is full; so is it for every later write.
    Full,
    /// It did not take effect, and is never answered; the next one is.
    NoAnswer,
}

/// How often each operation was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Objects created, or tried to.
    pub creates: u64,
    /// Whole objects read.
    pub gets: u64,
    /// Parts of objects read.
    pub range_gets: u64,
    /// Sizes asked for.
    pub heads: u64,
    /// Listings begun.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
}

#[derive(Debug)]
struct Plan {
    at_write: u64,
    effect: Effect,
}

/// Wraps a store, counts its calls and fails at the write that a test chooses.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Option<Plan>>,
    writes: AtomicU64,
    down: AtomicBool,
    full: AtomicBool,
    counts: Mutex<CallCounts>,
}

impl FaultyStore {
    /// Passes everything on to `inner` until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            plan: Mutex::new(None),
            writes: AtomicU64::new(0),
            down: AtomicBool::new(false),
            full: AtomicBool::new(false),
            counts: Mutex::new(CallCounts::default()),
        }
    }

    /// Lets the `n`-th write from now on (creates and deletes, from 1) have this effect.
    pub fn fail_at(&self, n: u64, effect: Effect) {
        let at_write = self.writes.load(Ordering::SeqCst) + n;
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Plan { at_write, effect });
    }

    /// Whether the chosen write was reached.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.as_ref().is_some_and(|plan| self.writes.load(Ordering::SeqCst) >= plan.at_write)
    }

    /// Everything works again, as after a restart.
    pub fn revive(&self) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.down.store(false, Ordering::SeqCst);
        self.full.store(false, Ordering::SeqCst);
    }

    /// How often each operation was called so far.
    #[must_use]
    pub fn counts(&self) -> CallCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, add: impl FnOnce(&mut CallCounts)) {
        add(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn alive(&self, operation: Operation, name: &str) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(unavailable(operation, name));
        }
        Ok(())
    }

    /// The effect of the write that begins now.
    fn next_effect(&self) -> Option<Effect> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.as_ref().filter(|plan| plan.at_write == number).map(|plan| plan.effect)
    }

    async fn write<T>(
        &self,
        operation: Operation,
        name: &str,
        apply: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.alive(operation, name)?;
        if self.full.load(Ordering::SeqCst) && operation == Operation::Create {
            return Err(full(name));
        }
        match self.next_effect() {
            None => apply.await,
            Some(Effect::CrashBefore) => {
                self.down.store(true, Ordering::SeqCst);
                Err(unavailable(operation, name))
            }
            Some(Effect::CrashAfter) => {
                let _ = apply.await;
                self.down.store(true, Ordering::SeqCst);
                Err(unavailable(operation, name))
            }
            Some(Effect::LostAcknowledgement) => {
                apply.await?;
                Err(unavailable(operation, name))
            }
            Some(Effect::Unavailable) => Err(unavailable(operation, name)),
            Some(Effect::Full) => {
                self.full.store(true, Ordering::SeqCst);
                Err(full(name))
            }
            Some(Effect::NoAnswer) => std::future::pending().await,
        }
    }
}

fn unavailable(operation: Operation, name: &str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, name, "injected fault")
}

fn full(name: &str) -> Error {
    Error::new(ErrorKind::Full, Operation::Create, name, "injected: no space left")
}

#[async_trait]
impl Store for FaultyStore {
    async fn create(&self, name: &str, bytes: Bytes) -> Result<Creation> {
        self.count(|counts| counts.creates += 1);
        self.write(Operation::Create, name, self.inner.create(name, bytes)).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.count(|counts| counts.gets += 1);
        self.alive(Operation::Read, name)?;
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.count(|counts| counts.range_gets += 1);
        self.alive(Operation::Read, name)?;
        self.inner.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<ObjectInfo> {
        self.count(|counts| counts.heads += 1);
        self.alive(Operation::Head, name)?;
        self.inner.head(name).await
    }

    fn list<'a>(&'a self, prefix: &str) -> Listing<'a> {
        self.count(|counts| counts.lists += 1);
        match self.alive(Operation::List, prefix) {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.count(|counts| counts.deletes += 1);
        self.write(Operation::Delete, name, self.inner.delete(name)).await
    }

    async fn keep(&self, name: &str) -> Result<bool> {
        self.alive(Operation::Keep, name)?;
        self.inner.keep(name).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    fn store() -> FaultyStore {
        FaultyStore::new(Arc::new(MemoryStore::new()))
    }

    #[tokio::test]
    async fn a_faulty_store_without_a_plan_keeps_the_contract() {
        crate::check_conformance(Arc::new(store())).await.unwrap();
    }

    #[tokio::test]
    async fn a_crash_before_leaves_nothing_and_a_crash_after_leaves_the_object() {
        for (effect, there) in [(Effect::CrashBefore, false), (Effect::CrashAfter, true)] {
            let store = store();
            store.fail_at(2, effect);
            store.create("a", Bytes::new()).await.unwrap();
            assert!(store.create("b", Bytes::new()).await.unwrap_err().is_retryable());
            assert!(store.has_failed());
            assert!(store.get("a").await.is_err(), "a dead process reads nothing");
            store.revive();
            assert_eq!(store.get("b").await.is_ok(), there);
        }
    }
}
