//! `START_REPLICATION`: a server's log, as it is written.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dbbackup_contract::{Failure, Reason};
use jiff::Timestamp;
use postgres_protocol::message::frontend::{self, CopyData};

use super::session::{ReplicationSession, broken, odd};
use super::wire::{ServerError, WireError, row, wide};
use crate::errors::failure_of_code;
use crate::lsn::Lsn;
use crate::sql::ident;
use crate::wal::{microseconds_of, time_of};

const DOING: &str = "receiving the server's log";
/// How often the server hears of us at least: it ends a connection that is silent for
/// `wal_sender_timeout`, a minute unless set otherwise.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A log on its way.
pub(crate) struct WalStream {
    session: ReplicationSession,
    has_begun: bool,
}

/// What comes next of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WalMessage {
    /// A piece of it.
    Data {
        /// Where it begins.
        start: Lsn,
        /// How far the server's log went when it sent this.
        server_end: Lsn,
        /// The server's clock then.
        clock: Option<Timestamp>,
        bytes: Bytes,
    },
    /// The server is alive.
    KeepAlive {
        /// How far its log went when it sent this.
        server_end: Lsn,
        /// The server's clock then.
        clock: Option<Timestamp>,
        /// Whether it wants to hear of us at once: else it ends the connection.
        wants_reply: bool,
    },
    /// This timeline is over: the next one, and where it begins.
    NextTimeline(u32, Lsn),
}

/// How far we are, as the server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Received.
    pub(crate) written: Lsn,
    /// Durable: what the server may forget, and what a synchronous commit waits for.
    pub(crate) flushed: Lsn,
}

impl ReplicationSession {
    /// Lets the server send its log from `start` on.
    ///
    /// # Errors
    /// What the server says: that it has it no more (`58P01`), or is not that far.
    pub(crate) async fn stream(
        mut self,
        slot: Option<&str>,
        start: Lsn,
        timeline: u32,
    ) -> Result<WalStream, Failure> {
        let slot = slot.map(|name| format!("SLOT {} ", ident(name))).unwrap_or_default();
        let command = format!("START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}");
        self.command(&command, DOING).await?;
        Ok(WalStream { session: self, has_begun: false })
    }
}

impl WalStream {
    /// What comes next. Given up before its end it loses nothing.
    ///
    /// # Errors
    /// What the server says, or that it is gone.
    pub(crate) async fn next(&mut self) -> Result<WalMessage, Failure> {
        loop {
            let message = self.session.next(DOING).await?;
            match message.tag {
                b'W' => self.has_begun = true,
                b'd' if self.has_begun => {
                    if let Some(message) = read(message.body)? {
                        return Ok(message);
                    }
                }
                b'c' => {
                    let done = |out: &mut BytesMut| {
                        frontend::copy_done(out);
                        Ok(())
                    };
                    self.session.wire.send(done).await.map_err(lost)?;
                }
                b'E' => return Err(why_not(&ServerError::of(message.body).map_err(lost)?)),
                // Asked for a timeline's very end the server answers so at once.
                b'D' => {
                    let row = row(message.body).map_err(lost)?;
                    let value = |index: usize| row.get(index)?.as_deref();
                    let next = || Some((value(0)?.parse().ok()?, value(1)?.parse().ok()?));
                    let (timeline, start) = next().ok_or_else(|| odd(DOING))?;
                    return Ok(WalMessage::NextTimeline(timeline, start));
                }
                b'Z' => return Err(odd(DOING)),
                _ => {}
            }
        }
    }

    /// Tells the server how far we are. Where it `asks`, the server answers with a
    /// [`WalMessage::KeepAlive`]; unasked it is silent while nothing happens.
    ///
    /// # Errors
    /// That it is gone.
    pub(crate) async fn report(
        &mut self,
        own: Received,
        now: Timestamp,
        asks: bool,
    ) -> Result<(), Failure> {
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        status.put_u64(own.written.0);
        status.put_u64(own.flushed.0);
        // Applied: what waits for that waits for us no longer than for being durable.
        status.put_u64(own.flushed.0);
        status.put_i64(microseconds_of(now));
        status.put_u8(asks.into());
        let sent = self.session.wire.send(|out| {
            CopyData::new(status.freeze())?.write(out);
            Ok(())
        });
        sent.await.map_err(lost)
    }

    /// The connection, once [`WalMessage::NextTimeline`] has come.
    ///
    /// # Errors
    /// What the server says, or that it is gone.
    pub(crate) async fn into_session(mut self) -> Result<ReplicationSession, Failure> {
        loop {
            let message = self.session.next(DOING).await?;
            match message.tag {
                b'Z' => return Ok(self.session),
                b'E' => return Err(self.session.refused(message, DOING)?),
                _ => {}
            }
        }
    }
}

/// Why the server sends no log.
fn why_not(error: &ServerError) -> Failure {
    let message = format!("{DOING}: {}", error.text);
    match error.code.as_str() {
        // `undefined_file`: "requested WAL segment … has already been removed".
        "58P01" => Failure::new(Reason::LogMissing, message),
        code => failure_of_code(code, &error.text, message),
    }
}

fn read(mut body: Bytes) -> Result<Option<WalMessage>, Failure> {
    let kind = body.try_get_u8().map_err(|_| odd(DOING))?;
    let next = |body: &mut Bytes| wide(body).map_err(lost);
    match kind {
        b'w' => {
            let (start, server_end) = (Lsn(next(&mut body)?), Lsn(next(&mut body)?));
            let clock = time_of(next(&mut body)?.cast_signed());
            Ok(Some(WalMessage::Data { start, server_end, clock, bytes: body }))
        }
        b'k' => {
            let server_end = Lsn(next(&mut body)?);
            let clock = time_of(next(&mut body)?.cast_signed());
            let wants_reply = body.try_get_u8().map_err(|_| odd(DOING))? != 0;
            Ok(Some(WalMessage::KeepAlive { server_end, clock, wants_reply }))
        }
        _ => Ok(None),
    }
}

fn lost(error: WireError) -> Failure {
    broken(&error, DOING)
}
