//! A server's log into a repository, until somebody stops it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_contract::{Failure, PostgresqlAccess, Reason};
use dbbackup_postgres::{
    self as postgres, ArchiveOptions, ArchiveWatcher, ArchivedLog, LogArchive, LogPartHead,
    LogParts,
};
use dbbackup_repository::{LogId, LogReader, LogWriter, PartNumbers, Repository};
use serde_json::Value;
use tokio::time::Instant;

use super::{Order, server_connection};

/// The first pause after a failure that may pass, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Who has worked for so long begins with the first pause again.
const WELL_FOR: Duration = Duration::from_secs(60);

/// What is archived.
pub(crate) struct Archiving<'a> {
    /// The server.
    pub(crate) server: &'a PostgresqlAccess,
    /// The series that its bases belong to.
    pub(crate) series: &'a str,
    /// The slot on the server.
    pub(crate) slot: &'a str,
    /// How old what is not kept yet may become.
    pub(crate) max_lag: Duration,
}

/// Hears how archiving goes, also while there is no connection. Must not block.
pub(crate) trait LogWatcher: ArchiveWatcher {
    /// It failed in a way that may pass, and is tried again.
    fn waits(&self, _failure: &Failure) {}

    /// Whether it wants to know what the log has from before.
    fn wants_log(&self) -> bool {
        false
    }

    /// The server, and what its log has; `None` where that cannot be read.
    fn knows(&self, _server: &str, _log: Option<&ArchivedLog>) {}
}

/// Archives until the order is cancelled. What may pass is tried again, for as long as it takes:
/// the slot keeps the log meanwhile.
///
/// # Errors
/// What does not pass: `Fenced`, a wrong password, another server.
pub(crate) async fn archive(
    order: &Order<'_>,
    what: &Archiving<'_>,
    watcher: &dyn LogWatcher,
) -> Result<(), Failure> {
    let repository = order.open().await?;
    let options = ArchiveOptions {
        server: server_connection(order, what.server),
        slot: what.slot.to_owned(),
        max_lag: what.max_lag,
        quiet_after: postgres::QUIET_AFTER,
    };
    let (mut identity, mut pause) = (None, PAUSES[0]);
    while !order.cancel.is_cancelled() {
        let began = Instant::now();
        let run = run(order, what, &options, &repository, &mut identity, watcher);
        let failure = match run.await {
            Ok(()) => return Ok(()),
            Err(failure) if failure.reason == Reason::Interrupted => return Ok(()),
            Err(failure) if !failure.is_retryable() => return Err(failure),
            Err(failure) => failure,
        };
        if began.elapsed() > WELL_FOR {
            pause = PAUSES[0];
        }
        tracing::warn!(%failure, pause_seconds = pause.as_secs(), "archiving is tried again");
        watcher.waits(&failure);
        tokio::select! {
            () = order.cancel.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSES[1]);
    }
    Ok(())
}

async fn run(
    order: &Order<'_>,
    what: &Archiving<'_>,
    options: &ArchiveOptions,
    repository: &Repository,
    identity: &mut Option<String>,
    watcher: &dyn LogWatcher,
) -> Result<(), Failure> {
    let own = order.step(postgres::identify(&options.server)).await?;
    let known = identity.get_or_insert_with(|| own.clone());
    if *known != own {
        let message = format!("the server is {own}, and was {known} when archiving began");
        return Err(Failure::new(Reason::TimelineForeign, message));
    }
    let log = repository.log_id(what.series, &own);
    let writer = order.step(repository.append_to_log(&log)).await?;
    let kept = KeptLog { repository, log: log.clone() };
    let mut archive = GrowingLog { kept: KeptLog { repository, log }, writer };
    let archiving = Box::pin(postgres::archive_log(options, &mut archive, watcher, order.cancel));
    if !watcher.wants_log() {
        return archiving.await;
    }
    // Beside it: that takes minutes for a log of a tebibyte.
    tokio::select! {
        ended = archiving => ended,
        never = async {
            watcher.knows(&own, known_log(&kept).await.as_ref());
            std::future::pending().await
        } => never,
    }
}

/// What a log has, for who only tells it; `None` where it is damaged, which a check finds and
/// keeps nobody from appending to it.
async fn known_log(kept: &KeptLog<'_>) -> Option<ArchivedLog> {
    loop {
        match kept.archived().await {
            Ok(log) => return Some(log),
            Err(failure) if failure.is_retryable() => {
                tracing::debug!(%failure, "what the log has cannot be read yet");
                tokio::time::sleep(PAUSES[1]).await;
            }
            Err(failure) => {
                tracing::warn!(%failure, "what the log has cannot be read");
                return None;
            }
        }
    }
}

/// Who appends to a log that somebody else appends to, too, needs another hint than a backup.
fn of_two(failure: Failure) -> Failure {
    if failure.reason != Reason::Fenced {
        return failure;
    }
    failure.with_hint(
        "Two archivers write the same log. One that a lost node still runs ends by itself, and nothing \
         is to be done. If it comes again, look for a dbbackup-runner archive that somebody has started \
         by hand, or for a second cluster that was restored with this one's id, and stop one of them.",
    )
}

/// A log of a repository, for an engine to read.
pub(crate) struct KeptLog<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) log: LogId,
}

/// One that it appends to.
struct GrowingLog<'a> {
    kept: KeptLog<'a>,
    writer: LogWriter,
}

impl KeptLog<'_> {
    /// What it has, without its bytes.
    ///
    /// # Errors
    /// What the repository says; `RepositoryDamaged` for a part that makes no sense.
    pub(crate) async fn archived(&self) -> Result<ArchivedLog, Failure> {
        archived(&self.repository.read_log(&self.log).await?)
    }
}

/// What a log has, as the engine understands it.
///
/// # Errors
/// `RepositoryDamaged` for a part that makes no sense.
pub(super) fn archived(reader: &LogReader) -> Result<ArchivedLog, Failure> {
    let heads = reader.parts().iter().map(|part| LogPartHead {
        number: part.number,
        time: part.time,
        about: part.about.clone(),
    });
    ArchivedLog::read(heads.collect())
}

#[async_trait]
impl LogParts for KeptLog<'_> {
    async fn part(&self, number: u32) -> Result<Option<(Value, Bytes)>, Failure> {
        let found = self.repository.log_part(&self.log, number).await?;
        Ok(found.map(|(part, bytes)| (part.about, bytes)))
    }
}

#[async_trait]
impl LogParts for GrowingLog<'_> {
    async fn part(&self, number: u32) -> Result<Option<(Value, Bytes)>, Failure> {
        self.kept.part(number).await
    }
}

#[async_trait]
impl LogArchive for GrowingLog<'_> {
    fn last(&self) -> Option<u32> {
        self.writer.last().map(|part| part.number)
    }

    async fn append(
        &mut self,
        about: Value,
        bytes: Bytes,
        replaces: Option<(u32, u32)>,
    ) -> Result<u32, Failure> {
        let replaces = replaces.map(|(first, last)| PartNumbers { first, last });
        let appended = self.writer.append(about, &bytes, replaces).await;
        Ok(appended.map_err(|error| of_two(error.into()))?.number)
    }
}
