//! Messages of the protocol over a connection, one by one
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
//!
//! Memory: one message, of [`MAX_MESSAGE_BYTES`] at most, and what was read ahead of it.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest message that is taken. Pieces of a copy have 128 KiB at most; texts of errors and
/// histories of timelines are the only others that may be long.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;
/// A message's kind and its length.
const HEADER: usize = 5;

/// What the protocol is spoken over.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its kind.
    pub(super) tag: u8,
    /// Without kind and length.
    pub(super) body: Bytes,
}

/// Why a message cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The connection is lost.
    #[error("the connection to the server was lost: {0}")]
    Io(#[from] io::Error),
    /// The other side has ended it.
    #[error("the server has ended the connection")]
    Closed,
    /// What came is not of the protocol.
    #[error("the server does not speak as PostgreSQL does: {0}")]
    Malformed(&'static str),
}

/// A connection.
pub(super) struct Wire {
    transport: Box<dyn Transport>,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Wire {
    pub(super) fn new(transport: impl Transport + 'static) -> Self {
        Self {
            transport: Box::new(transport),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
        }
    }

    /// Sends what `write` puts into the buffer.
    pub(super) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), WireError> {
        self.outgoing.clear();
        write(&mut self.outgoing)?;
        self.transport.write_all(&self.outgoing).await?;
        self.transport.flush().await?;
        Ok(())
    }

    /// The next message. What was read of one is kept when this is given up before its end.
    pub(super) async fn next(&mut self) -> Result<Message, WireError> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(message);
            }
            self.incoming.reserve(READ_BYTES);
            if self.transport.read_buf(&mut self.incoming).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }

    fn whole(&mut self) -> Result<Option<Message>, WireError> {
        let Some(header) = self.incoming.first_chunk::<HEADER>() else { return Ok(None) };
        let [tag, length @ ..] = *header;
        // It counts itself.
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=MAX_MESSAGE_BYTES).contains(&length) {
            return Err(WireError::Malformed("a message has an impossible length"));
        }
        if self.incoming.len() < length + 1 {
            return Ok(None);
        }
        let mut body = self.incoming.split_to(length + 1).freeze();
        body.advance(HEADER);
        Ok(Some(Message { tag, body }))
    }
}

/// A text that ends with a zero; what follows stays in `body`.
pub(super) fn text(body: &mut Bytes) -> Result<String, WireError> {
    let end = body.iter().position(|byte| *byte == 0);
    let end = end.ok_or(WireError::Malformed("a text has no end"))?;
    let text = String::from_utf8_lossy(&body[..end]).into_owned();
    body.advance(end + 1);
    Ok(text)
}

/// A number of two bytes.
pub(super) fn short(body: &mut Bytes) -> Result<i16, WireError> {
    body.try_get_i16().map_err(|_| WireError::Malformed("a message is too short"))
}

/// A number of four bytes.
pub(super) fn long(body: &mut Bytes) -> Result<i32, WireError> {
    body.try_get_i32().map_err(|_| WireError::Malformed("a message is too short"))
}

/// A number of eight bytes.
pub(super) fn wide(body: &mut Bytes) -> Result<u64, WireError> {
    body.try_get_u64().map_err(|_| WireError::Malformed("a message is too short"))
}

/// What the server says went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    /// SQLSTATE.
    pub(super) code: String,
    /// The primary message.
    pub(super) text: String,
    /// More about it: positions of the log stand here.
    pub(super) detail: String,
}

impl ServerError {
    /// Of an `ErrorResponse` or a `NoticeResponse`.
    pub(super) fn of(mut body: Bytes) -> Result<Self, WireError> {
        let mut error = Self::default();
        while let Some(field) = body.try_get_u8().ok().filter(|field| *field != 0) {
            let text = text(&mut body)?;
            match field {
                b'C' => error.code = text,
                b'M' => error.text = text,
                b'D' => error.detail = text,
                _ => {}
            }
        }
        Ok(error)
    }
}

/// A row of texts; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// The values of a `DataRow`.
pub(super) fn row(mut body: Bytes) -> Result<Row, WireError> {
    (0..short(&mut body)?)
        .map(|_| {
            let Ok(length) = usize::try_from(long(&mut body)?) else { return Ok(None) };
            if length > body.len() {
                return Err(WireError::Malformed("a value is longer than its message"));
            }
            let value = body.split_to(length);
            Ok(Some(String::from_utf8_lossy(&value).into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Vec<Message>, WireError> {
        let (mut other, own) = tokio::io::duplex(64);
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move { other.write_all(&bytes).await });
        let (mut wire, mut messages) = (Wire::new(own), Vec::new());
        let end = loop {
            match wire.next().await {
                Ok(message) => messages.push(message),
                Err(error) => break error,
            }
        };
        drop(wire);
        let _ = writing.await;
        match end {
            WireError::Closed => Ok(messages),
            error => Err(error),
        }
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_arrive() {
        let long = [b"d\0\0\x01\x04".as_slice(), &[7; 256]].concat();
        let all = [b"Z\0\0\0\x05I".as_slice(), &long, b"c\0\0\0\x04"].concat();
        let messages = read(&all).await.unwrap();
        let tags: Vec<_> = messages.iter().map(|it| (it.tag, it.body.len())).collect();
        assert_eq!(tags, [(b'Z', 1), (b'd', 256), (b'c', 0)]);
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_before_anything_is_kept() {
        for length in [0_u32, 3, 5_000_000, u32::MAX] {
            let bytes = [b"d".as_slice(), &length.to_be_bytes(), &[0; 50]].concat();
            assert!(matches!(read(&bytes).await, Err(WireError::Malformed(_))), "{length}");
        }
    }

    #[test]
    fn rows_and_errors_are_read_and_what_is_cut_is_refused() {
        let body = Bytes::from_static(b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(row(body.clone()).unwrap(), [Some("ab".into()), None, Some(String::new())]);
        for cut in 0..body.len() {
            assert!(row(body.slice(..cut)).is_err(), "{cut}");
        }
        let error = Bytes::from_static(b"SFATAL\0C57P01\0Mgone\0Dwhy\0\0");
        let error = ServerError::of(error).unwrap();
        assert_eq!((&*error.code, &*error.text, &*error.detail), ("57P01", "gone", "why"));
    }
}
