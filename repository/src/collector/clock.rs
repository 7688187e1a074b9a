//! The store's time: the ages of objects are told by it, never by the clock of
//! the machine that happens to collect.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::repository::Inner;
use crate::{Error, Result};

/// What the store's clock said, and how long ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreClock {
    then: Timestamp,
    read: Instant,
}

impl StoreClock {
    /// Reads the clock off an object that was created just now.
    pub(crate) async fn read(inner: &Inner, just_created: &str) -> Result<Self> {
        let read = Instant::now();
        let object = inner.store.head(just_created).await.map_err(Error::needed)?;
        Ok(Self { then: timestamp(object.modified), read })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.then.checked_add(self.read.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// How long ago `time` was; nothing, if it lies in the future.
    pub(crate) fn age(&self, time: SystemTime) -> Duration {
        age_at(self.now(), time)
    }
}

/// How old something of `time` was at `now`.
pub(crate) fn age_at(now: Timestamp, time: SystemTime) -> Duration {
    Duration::try_from(now.duration_since(timestamp(time))).unwrap_or_default()
}

/// Times that a store makes up are as far away as possible.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}
