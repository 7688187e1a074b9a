//! Reads files and standard input on a thread of its own, a few pieces ahead.

use std::io::Read;

use bytes::Bytes;
use dbbackup_contract::{Failure, Reason};
use tokio::sync::mpsc;

/// Bytes of one piece: large enough that hand-over costs nothing beside hashing, and
/// that a stream cuts nearly all of it where it lies.
const PIECE: usize = 512 * 1024;
/// Pieces read ahead. With the one in hand: 2.5 MiB in all.
const AHEAD: usize = 3;

/// Pieces of one input, in order.
pub(crate) struct ByteSource {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    name: String,
}

impl ByteSource {
    /// Begins to read `input`, which messages call `name`.
    pub(crate) fn read(input: impl Read + Send + 'static, name: &str) -> Self {
        let (sender, pieces) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || pump(input, &sender));
        Self { pieces, name: name.to_owned() }
    }

    /// Begins to read standard input, on a thread that nobody waits for: a read
    /// of a terminal or a pipe cannot be interrupted.
    ///
    /// # Errors
    /// `OutOfMemory` where no thread can be had.
    pub(crate) fn standard_input() -> Result<Self, Failure> {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let reader = std::thread::Builder::new().name("standard input".to_owned());
        reader.spawn(move || pump(std::io::stdin(), &sender)).map_err(|error| {
            Failure::new(Reason::OutOfMemory, format!("no thread can be started: {error}"))
        })?;
        Ok(Self { pieces, name: "standard input".to_owned() })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.pieces.recv().await.transpose().map_err(|error| unreadable(&self.name, &error))
    }
}

/// Reads until the end, an error, or until nobody wants more.
fn pump(mut input: impl Read, sender: &mpsc::Sender<std::io::Result<Bytes>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let outcome = input.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let ended = matches!(outcome, Ok(0) | Err(_));
        let item = match outcome {
            Ok(0) => return,
            Ok(_) => Ok(Bytes::from(piece)),
            Err(error) => Err(error),
        };
        if sender.blocking_send(item).is_err() || ended {
            return;
        }
    }
}

/// A local file that cannot be read.
pub(crate) fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => Reason::UsageError,
        _ => Reason::LocalFileError,
    };
    Failure::new(reason, format!("cannot read {name}: {error}"))
        .with_hint("Check the path, and that this user may read it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut source: ByteSource) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = source.next().await? {
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn every_byte_comes_in_order() {
        let input: Vec<u8> = (0..PIECE * 3 + 17).map(|n| (n * 7 % 251) as u8).collect();
        let read = all(ByteSource::read(std::io::Cursor::new(input.clone()), "x")).await.unwrap();
        assert!(read == input);
    }

    #[tokio::test]
    async fn an_error_in_the_middle_is_an_error_and_not_an_end() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                if self.0 == 0 {
                    return Err(std::io::Error::other("the disk broke"));
                }
                self.0 -= 1;
                buffer[0] = 1;
                Ok(1)
            }
        }
        let failure = all(ByteSource::read(Breaks(10), "the input")).await.unwrap_err();
        assert_eq!(failure.reason, Reason::LocalFileError);
        assert!(failure.message.contains("the disk broke"));
    }
}
