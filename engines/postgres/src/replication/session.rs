//! A connection by the replication protocol, between commands.

use dbbackup_contract::{Failure, Reason};
use postgres_protocol::message::frontend;

use super::wire::{Message, Row, ServerError, Wire, WireError, row};
use crate::errors::failure_of_code;
use crate::lsn::Lsn;

/// A connection on which a command may be given.
pub(crate) struct ReplicationSession {
    pub(super) wire: Wire,
    /// `17`: one of those that are known.
    pub(crate) major: u32,
}

/// Which server it is, and where its log stands (`IDENTIFY_SYSTEM`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemIdentity {
    /// Of the whole cluster, the same on its standbys.
    pub(crate) system_identifier: u64,
    /// The present timeline.
    pub(crate) timeline: u32,
    /// What is safely written of the log; of a standby, what it has received.
    pub(crate) position: Lsn,
}

/// A history of timelines (`TIMELINE_HISTORY`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimelineHistory {
    /// `00000002.history`.
    pub(crate) name: String,
    /// As the server has it.
    pub(crate) text: String,
}

impl ReplicationSession {
    pub(super) fn new(wire: Wire, major: u32) -> Self {
        Self { wire, major }
    }

    /// Asks which server it is.
    ///
    /// # Errors
    /// What the server says, or that it is gone.
    pub(crate) async fn identify(&mut self) -> Result<SystemIdentity, Failure> {
        let doing = "asking the server which one it is";
        let rows = self.rows("IDENTIFY_SYSTEM", doing).await?;
        let identity = || {
            let row = rows.first()?;
            let value = |index: usize| row.get(index)?.as_deref();
            Some(SystemIdentity {
                system_identifier: value(0)?.parse().ok()?,
                timeline: value(1)?.parse().ok()?,
                position: value(2)?.parse().ok()?,
            })
        };
        identity().ok_or_else(|| odd(doing))
    }

    /// The history of a timeline; of the first there is none.
    ///
    /// # Errors
    /// As of [`ReplicationSession::identify`].
    pub(crate) async fn history(&mut self, timeline: u32) -> Result<TimelineHistory, Failure> {
        let doing = format!("asking for the history of timeline {timeline}");
        let rows = self.rows(&format!("TIMELINE_HISTORY {timeline}"), &doing).await?;
        let mut values = rows.into_iter().next().unwrap_or_default().into_iter();
        match (values.next().flatten(), values.next().flatten()) {
            (Some(name), Some(text)) => Ok(TimelineHistory { name, text }),
            _ => Err(odd(&doing)),
        }
    }

    /// Gives a command and takes all rows of its answers.
    pub(super) async fn rows(&mut self, command: &str, doing: &str) -> Result<Vec<Row>, Failure> {
        self.command(command, doing).await?;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let message = self.next(doing).await?;
            match message.tag {
                b'D' => rows.push(row(message.body).map_err(|error| broken(&error, doing))?),
                b'E' => failure = Some(self.refused(message, doing)?),
                b'Z' => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Gives a command.
    pub(super) async fn command(&mut self, command: &str, doing: &str) -> Result<(), Failure> {
        let sent = self.wire.send(|out| frontend::query(command, out)).await;
        sent.map_err(|error| broken(&error, doing))
    }

    /// The next message.
    pub(super) async fn next(&mut self, doing: &str) -> Result<Message, Failure> {
        self.wire.next().await.map_err(|error| broken(&error, doing))
    }

    /// What an `ErrorResponse` says.
    pub(super) fn refused(&self, message: Message, doing: &str) -> Result<Failure, Failure> {
        let error = ServerError::of(message.body).map_err(|error| broken(&error, doing))?;
        Ok(failure_of_code(&error.code, &error.text, format!("{doing}: {}", error.text)))
    }
}

/// A connection that is of no use any more.
pub(super) fn broken(error: &WireError, doing: &str) -> Failure {
    Failure::new(Reason::ServerGoneAway, format!("{doing}: {error}"))
}

/// An answer that is none.
pub(super) fn odd(doing: &str) -> Failure {
    Failure::new(Reason::Internal, format!("{doing}: the server's answer cannot be read"))
}
