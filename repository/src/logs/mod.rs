//! Logs of servers, kept beside the snapshots as they are written (`docs/format.md`, "Logs").
//!
//! A log is a sequence of parts. Whoever appends one creates the next number: of two who append at the
//! same time the slower one learns it, and ends.

mod part;
mod reader;
mod tidy;
mod writer;

pub use self::part::{LogPart, MAX_PART_BYTES, PartNumbers};
pub use self::reader::LogReader;
pub use self::writer::LogWriter;

use std::collections::BTreeSet;

use dbbackup_storage::{ObjectInfo, collect_listing};

use crate::names::{LOGS, base32, parse_number};
use crate::{Repository, Result};

/// Bytes of the keyed hash in a name.
const NAME_BYTES: usize = 16;

/// Name of a log. It tells nobody without the repository's key whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(String);

impl LogId {
    /// 26 characters of base32.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folder(&self) -> String {
        format!("{LOGS}{}/", self.0)
    }

    fn object(&self, number: u32) -> String {
        format!("{LOGS}{}/{number}", self.0)
    }
}

impl Repository {
    /// All logs that it has, by their names.
    ///
    /// # Errors
    /// What the store says.
    pub async fn logs(&self) -> Result<Vec<LogId>> {
        let listed = collect_listing(self.inner.store.list(LOGS)).await?;
        let name = |object: &ObjectInfo| {
            let (log, number) = object.name.strip_prefix(LOGS)?.split_once('/')?;
            parse_number(number)?;
            Some(LogId(log.to_owned()))
        };
        let names: BTreeSet<_> = listed.iter().filter_map(name).collect();
        Ok(names.into_iter().collect())
    }

    /// The log of a server (its own identity) in a series.
    #[must_use]
    pub fn log_id(&self, series: &str, server: &str) -> LogId {
        let content = [series, server].join("\0");
        let mac = self.inner.keys.name_mac("log", content.as_bytes());
        LogId(base32(&mac[..NAME_BYTES]))
    }
}
