//! The log that makes a base consistent: received while its files are, read record by record,
//! and kept beside them.

use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{BackupSink, Shape, StreamWriter};
use jiff::Timestamp;
use tokio::sync::watch;

use super::document::LOG;
use crate::base::whole_pages::WholePages;
use crate::lsn::Lsn;
use crate::replication::{REPORT_EVERY, Received, ReplicationSession, WalMessage};
use crate::wal::{Fact, Lineage, WalReader, facts_of};

/// Which log is received.
pub(super) struct LogRange<'a> {
    /// The slot that keeps it.
    pub(super) slot: &'a str,
    /// From the beginning of the segment of this position on.
    pub(super) start: Lsn,
    pub(super) timeline: u32,
    pub(super) lineage: Lineage,
    /// Where it ends, once the server has told.
    pub(super) end: watch::Receiver<Option<Lsn>>,
}

/// What was received.
pub(super) struct BaseLog {
    /// Pages that it holds whole.
    pub(super) whole: WholePages,
    /// Bytes of it.
    pub(super) bytes: u64,
    /// Where the record begins that ends where the files are consistent.
    pub(super) last_record: Lsn,
    /// The server's clock when it sent the last of it.
    pub(super) clock: Option<Timestamp>,
}

/// Receives the log until its end is known and reached.
///
/// # Errors
/// What the server says; that it is damaged, or goes on in another timeline.
pub(super) async fn receive(
    session: ReplicationSession,
    range: LogRange<'_>,
    sink: &dyn BackupSink,
) -> Result<BaseLog, Failure> {
    let segment_bytes = range.lineage.segment_bytes;
    let from = range.start.floor(segment_bytes);
    let mut stream = session.stream(Some(range.slot), from, range.timeline).await?;
    let mut end = range.end;
    let mut log = Log {
        reader: WalReader::new(from, range.lineage, range.timeline),
        whole: WholePages::default(),
        segments: Segments { sink, timeline: range.timeline, segment_bytes, open: None },
        position: from,
        clock: None,
        last_record: from,
    };
    loop {
        let until = *end.borrow_and_update();
        if until.is_some_and(|until| log.position >= until) {
            break;
        }
        tokio::select! {
            biased;
            // Nothing more may come when the end is told.
            told = end.changed(), if until.is_none() => {
                told.map_err(|_| Failure::new(Reason::Internal, "the files were given up"))?;
            }
            message = stream.next() => match message? {
                WalMessage::Data { start, bytes, clock, .. } => {
                    let received = log.received();
                    {
                        let bytes = until_end(start, bytes, until);
                        let mut taking = std::pin::pin!(log.take(start, bytes, clock));
                        loop {
                            match tokio::time::timeout(REPORT_EVERY, &mut taking).await {
                                Ok(taken) => break taken?,
                                Err(_) => stream.report(received, Timestamp::now(), false).await?,
                            }
                        }
                    }
                    stream.report(log.received(), Timestamp::now(), false).await?;
                }
                WalMessage::KeepAlive { wants_reply: true, .. } => {
                    stream.report(log.received(), Timestamp::now(), false).await?;
                }
                WalMessage::KeepAlive { .. } => {}
                WalMessage::NextTimeline(timeline, at) => {
                    let message = format!(
                        "the server went over to timeline {timeline} at {at}, while its files were read"
                    );
                    return Err(Failure::new(Reason::ServerGoneAway, message));
                }
            },
        }
    }
    log.finish(from, *end.borrow()).await
}

/// What of the bytes at `start` is not behind the end.
fn until_end(start: Lsn, bytes: Bytes, end: Option<Lsn>) -> Bytes {
    let Some(end) = end else { return bytes };
    let left = end.0.saturating_sub(start.0);
    bytes.slice(..usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()))
}

struct Log<'a> {
    reader: WalReader,
    whole: WholePages,
    segments: Segments<'a>,
    position: Lsn,
    clock: Option<Timestamp>,
    last_record: Lsn,
}

impl Log<'_> {
    async fn take(
        &mut self,
        start: Lsn,
        bytes: Bytes,
        clock: Option<Timestamp>,
    ) -> Result<(), Failure> {
        if start != self.position {
            let message =
                format!("the server sent its log from {start} on, not from {}", self.position);
            return Err(Failure::new(Reason::DataCorrupted, message));
        }
        self.reader.push(&bytes);
        while let Some(record) = self.reader.next()? {
            self.last_record = record.start;
            for fact in facts_of(&record)? {
                if let Fact::Page(page) = fact
                    && page.is_whole
                    && let Some(fork) = page.fork
                {
                    self.whole.insert(page.relation, fork, page.number);
                }
            }
        }
        self.position = self.position.plus(bytes.len() as u64);
        self.clock = clock.or(self.clock);
        self.segments.write(start, bytes).await
    }

    fn received(&self) -> Received {
        Received { written: self.position, flushed: self.position }
    }

    async fn finish(self, from: Lsn, end: Option<Lsn>) -> Result<BaseLog, Failure> {
        let end = end.unwrap_or(self.position);
        // Where the server says that the log ends a record ends.
        if self.reader.end() < end {
            let at = self.reader.end();
            let message = format!("the log can be read until {at}, and has to be until {end}");
            return Err(Failure::new(Reason::DataCorrupted, message));
        }
        self.segments.finish().await?;
        Ok(BaseLog {
            whole: self.whole,
            bytes: self.position.0 - from.0,
            last_record: self.last_record,
            clock: self.clock,
        })
    }
}

/// The log in streams, one for each of the server's files.
struct Segments<'a> {
    sink: &'a dyn BackupSink,
    timeline: u32,
    segment_bytes: u64,
    open: Option<Box<dyn StreamWriter>>,
}

impl Segments<'_> {
    /// Writes what follows. A file begins where its first byte comes.
    async fn write(&mut self, mut start: Lsn, mut bytes: Bytes) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let within = start.0 % self.segment_bytes;
            let writer = match &mut self.open {
                Some(writer) => writer,
                none => {
                    let name = segment_name(self.timeline, start, self.segment_bytes);
                    none.insert(self.sink.open(&format!("{LOG}{name}"), Shape::Bytes).await?)
                }
            };
            let left = usize::try_from(self.segment_bytes - within).unwrap_or(usize::MAX);
            let piece = bytes.split_to(left.min(bytes.len()));
            start = start.plus(piece.len() as u64);
            writer.write(piece).await?;
            if start.0.is_multiple_of(self.segment_bytes)
                && let Some(writer) = self.open.take()
            {
                writer.finish().await?;
            }
        }
        Ok(())
    }

    async fn finish(self) -> Result<(), Failure> {
        match self.open {
            Some(writer) => writer.finish().await,
            None => Ok(()),
        }
    }
}

/// The name of the file that has a position (`XLogFileName`).
pub(crate) fn segment_name(timeline: u32, at: Lsn, segment_bytes: u64) -> String {
    let number = at.0 / segment_bytes;
    let each = (1 << 32) / segment_bytes;
    format!("{timeline:08X}{:08X}{:08X}", number / each, number % each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_log_are_named_as_the_server_names_them() {
        let lsn = |text: &str| text.parse().unwrap();
        assert_eq!(segment_name(1, lsn("0/2000028"), 16 << 20), "000000010000000000000002");
        assert_eq!(segment_name(0x1A, lsn("16/B374D848"), 16 << 20), "0000001A00000016000000B3");
        assert_eq!(segment_name(2, lsn("1/FFFFFFFF"), 1 << 30), "000000020000000100000003");
    }

    #[test]
    fn what_is_behind_the_end_is_cut_off() {
        let bytes = Bytes::from_static(b"0123456789");
        let cut = |end| until_end(Lsn(100), bytes.clone(), end).len();
        assert_eq!(
            [cut(None), cut(Some(Lsn(104))), cut(Some(Lsn(200))), cut(Some(Lsn(50)))],
            [10, 4, 10, 0]
        );
    }
}
