//! Archiving: a server's log into parts that are durable, at most `max_lag` behind what it writes
//! (ADR 61).
//!
//! connect → which server, which timeline → where the archive ends → the slot → stream, cut, keep,
//! acknowledge. The server may forget what was kept, and nothing else. What is lost is said: a gap
//! with its bounds, behind which the next base begins.

mod ancestry;
pub(crate) mod cutter;
mod follow;
pub(crate) mod part;
mod retire;
mod slot;
mod source;
mod tail;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub use self::retire::drop_slot;
pub use self::slot::slot_name;
use crate::ServerConnection;

/// A log to archive.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// The server, by an address that leads to the primary.
    pub server: ServerConnection,
    /// The slot that keeps what was not archived yet. It is made where it is missing.
    pub slot: String,
    /// How old what is not kept yet may become.
    pub max_lag: Duration,
    /// For how long nothing has to happen until that is kept, too: [`QUIET_AFTER`]. It becomes no
    /// older than twice that.
    pub quiet_after: Duration,
}

/// How long a server is idle until the archive says so: the times since its last transaction can
/// be recovered to then.
pub const QUIET_AFTER: Duration = Duration::from_secs(300);

/// What an archive has: a sequence of parts with numbers.
#[async_trait]
pub trait LogParts: Send + Sync {
    /// A part with its bytes; `None` where it is gone, since another one replaces it.
    ///
    /// # Errors
    /// That it cannot be read.
    async fn part(&self, number: u32) -> Result<Option<(serde_json::Value, Bytes)>, Failure>;
}

/// The bytes of a part that has to be there.
///
/// # Errors
/// `ObjectMissing` where it is gone; that it cannot be read.
pub(crate) async fn bytes_of(archive: &dyn LogParts, number: u32) -> Result<Bytes, Failure> {
    let found = archive.part(number).await?;
    found.map(|(_, bytes)| bytes).ok_or_else(|| {
        Failure::new(Reason::ObjectMissing, format!("part {number} of the log is gone"))
    })
}

/// Where an archive is kept.
#[async_trait]
pub trait LogArchive: LogParts {
    /// The number of the last part; `None` where there is none.
    fn last(&self) -> Option<u32>;

    /// Appends a part; it is durable when its number is there. `replaces` are the first and the last of
    /// earlier parts whose bytes it has, too.
    ///
    /// # Errors
    /// `Fenced` where somebody else appends to the same archive.
    async fn append(
        &mut self,
        about: serde_json::Value,
        bytes: Bytes,
        replaces: Option<(u32, u32)>,
    ) -> Result<u32, Failure>;
}

/// How an archive stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveState {
    /// The timeline.
    pub timeline: u32,
    /// Up to here all is durable.
    pub kept: String,
    /// Bytes that the server has written behind that.
    pub behind_bytes: u64,
    /// Up to this time of the server's clock all is durable; while nothing happens it is the present.
    pub kept_time: Option<Timestamp>,
    /// The server's clock when it was last heard of.
    pub clock: Option<Timestamp>,
}

/// Hears how an archive stands. Called often; must not block.
pub trait ArchiveWatcher: Send + Sync {
    /// It stands so now.
    fn update(&self, state: ArchiveState);

    /// The server had its log no longer between two positions, and the archive says so: what is
    /// archived goes on at `end`.
    fn gap(&self, start: &str, end: &str, timeline: u32);
}

/// Archives until it is told to stop, or the connection ends: whoever calls it calls it again.
/// What was received is kept before it returns.
///
/// # Errors
/// `Fenced`, what the server or the archive says; a stop is none.
pub async fn archive(
    options: &ArchiveOptions,
    archive: &mut dyn LogArchive,
    watcher: &dyn ArchiveWatcher,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    follow::follow(options, archive, watcher, cancel).await
}
