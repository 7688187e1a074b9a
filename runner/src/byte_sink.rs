//! Writes standard output on a thread of its own, a few pieces behind.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Pieces that wait to be written: a mebibyte each at most.
const BEHIND: usize = 3;

/// Takes bytes in order. Nobody waits for its thread: a write to a pipe that
/// nobody reads cannot be interrupted.
pub(crate) struct ByteSink {
    pieces: mpsc::Sender<Bytes>,
    written: oneshot::Receiver<std::io::Result<()>>,
}

impl ByteSink {
    /// Standard output, without a buffer of its own.
    ///
    /// # Errors
    /// Where it is closed, or no thread can be had.
    pub(crate) fn standard_output() -> std::io::Result<Self> {
        let mut output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        let (pieces, mut queue) = mpsc::channel::<Bytes>(BEHIND);
        let (report, written) = oneshot::channel();
        let writer = std::thread::Builder::new().name("standard output".to_owned());
        writer.spawn(move || {
            let mut outcome = Ok(());
            while outcome.is_ok()
                && let Some(piece) = queue.blocking_recv()
            {
                outcome = output.write_all(&piece);
            }
            let _ = report.send(outcome);
        })?;
        Ok(Self { pieces, written })
    }

    /// Hands over the next piece; false where no more is wanted, and
    /// [`ByteSink::finish`] says why.
    pub(crate) async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// What the operating system said of the first piece that could not be.
    pub(crate) async fn finish(self) -> std::io::Result<()> {
        drop(self.pieces);
        let died = |_| std::io::Error::other("the thread that writes has died");
        self.written.await.map_err(died)?
    }
}
