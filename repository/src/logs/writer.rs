//! Appending to a log.

use std::sync::Arc;

use dbbackup_storage::collect_listing;

use super::part::{Draft, LogPart, PartNumbers};
use super::reader::numbers_in;
use super::{LogId, LogReader};
use crate::repository::{Inner, Repository};
use crate::{Error, Result};

/// Appends to a log, as the only one.
#[derive(Debug)]
pub struct LogWriter {
    inner: Arc<Inner>,
    log: LogId,
    last: Option<LogPart>,
}

impl Repository {
    /// Opens a log behind its last part.
    ///
    /// # Errors
    /// What the store says; `RepositoryDamaged` where the last part cannot be read: what
    /// follows it is not known then.
    pub async fn append_to_log(&self, log: &LogId) -> Result<LogWriter> {
        self.inner.may_write()?;
        let inner = Arc::clone(&self.inner);
        let listed = collect_listing(inner.store.list(&log.folder())).await?;
        let highest = numbers_in(log, listed).keys().next_back().copied();
        let mut writer = LogWriter { inner, log: log.clone(), last: None };
        // A listing may lag behind what was appended.
        let mut number = highest.unwrap_or(0);
        while writer.inner.exists(&log.object(number)).await? {
            writer.last = Some(LogReader::about(&writer.inner, log, number).await?);
            number = next(number)?;
        }
        Ok(writer)
    }
}

impl LogWriter {
    /// The last part; `None` of a log that has none.
    #[must_use]
    pub fn last(&self) -> Option<&LogPart> {
        self.last.as_ref()
    }

    /// Appends a part; when it returns the part is durable. `replaces` are earlier ones whose
    /// bytes are in `content`.
    ///
    /// # Errors
    /// `Fenced` where somebody else has appended meanwhile: this writer is of no use any more.
    pub async fn append(
        &mut self,
        about: serde_json::Value,
        content: &[u8],
        replaces: Option<PartNumbers>,
    ) -> Result<&LogPart> {
        let number = self.last.as_ref().map_or(Ok(0), |last| next(last.number))?;
        let previous = self.last.as_ref().map(|last| last.tag.clone());
        let draft = Draft { number, previous, replaces, about, content };
        let (part, object) = draft.seal(&self.inner, &self.log)?;
        if !self.inner.create(&self.log.object(number), object).await? {
            let message = format!("somebody else has written part {number} of this log");
            return Err(Error::Fenced(message));
        }
        Ok(self.last.insert(part))
    }
}

fn next(number: u32) -> Result<u32> {
    let next = number.checked_add(1);
    next.ok_or_else(|| Error::Misuse("a log has no more than 4,294,967,295 parts".to_owned()))
}
