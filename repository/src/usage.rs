//! How much a repository holds.

use futures::StreamExt as _;

use crate::Result;
use crate::names::{META, PACKS};
use crate::repository::Repository;

/// How much a repository holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Snapshots that can be read.
    pub snapshots: u64,
    /// Bytes of these snapshots as they would be restored.
    pub logical_bytes: u64,
    /// Bytes of packs and tables, those that nothing refers to included.
    pub stored_bytes: u64,
}

impl Repository {
    /// Counts what is there: one listing, and one read for each snapshot.
    ///
    /// # Errors
    /// What the store says.
    pub async fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for snapshot in self.snapshots(None).await?.snapshots {
            usage.snapshots += 1;
            usage.logical_bytes += snapshot.about().bytes.read;
        }
        for folder in [PACKS, META] {
            let mut listing = self.inner.store.list(folder);
            while let Some(object) = listing.next().await {
                usage.stored_bytes += object?.size;
            }
        }
        Ok(usage)
    }
}
