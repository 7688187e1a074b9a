//! A long line: a proxy that lets bytes through as slowly and as late as a network does,
//! for measurements. All connections share it, each direction of it has its own capacity.
//! What TCP adds on a real one (slow start, loss) is not in it.
//!
//! `line LISTEN TARGET BYTES_A_SECOND ROUND_TRIP_MS`, such as
//! `line 127.0.0.1:9100 127.0.0.1:9000 125000000 50`. Ends with its standard input.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that are taken from a connection at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces of one connection that are on the line: 16 MiB, more than a gigabit a second and
/// 50 ms hold.
const PIECES_UNDER_WAY: usize = 256;
/// Pauses that are shorter than the timer can tell are made up for later.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);

/// One direction.
struct Line {
    bytes_a_second: f64,
    delay: Duration,
    free: Mutex<Instant>,
}

impl Line {
    fn new(bytes_a_second: f64, delay: Duration) -> Arc<Self> {
        Arc::new(Self { bytes_a_second, delay, free: Mutex::new(Instant::now()) })
    }

    /// When `bytes` have left: the line is busy until then.
    fn take(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let took = Duration::from_secs_f64(bytes as f64 / self.bytes_a_second);
        *free = (*free).max(Instant::now()) + took;
        *free
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, target, speed, round_trip] = &arguments[..] else {
        return Err("usage: line LISTEN TARGET BYTES_A_SECOND ROUND_TRIP_MS".into());
    };
    let delay = Duration::from_millis(round_trip.parse()?) / 2;
    let (up, down) = (Line::new(speed.parse()?, delay), Line::new(speed.parse()?, delay));
    let listener = TcpListener::bind(listen).await?;
    let mut ended = tokio::spawn(async { tokio::io::stdin().read_u8().await });
    loop {
        let (client, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = &mut ended => return Ok(()),
        };
        let (up, down, target) = (Arc::clone(&up), Arc::clone(&down), target.clone());
        tokio::spawn(async move {
            // The handshake.
            sleep(2 * up.delay).await;
            let Ok(server) = TcpStream::connect(&target).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::join!(carry(from_client, to_server, &up), carry(from_server, to_client, &down));
        });
    }
}

/// Carries all bytes of one direction of a connection.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    line: &Arc<Line>,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Bytes)>(PIECES_UNDER_WAY);
    let read = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            match from.read_buf(&mut piece).await {
                Ok(bytes) if bytes > 0 => {
                    let left = line.take(bytes);
                    if sender.send((left + line.delay, piece.freeze())).await.is_err() {
                        return;
                    }
                    if left > Instant::now() + SHORTEST_PAUSE {
                        sleep_until(left).await;
                    }
                }
                _ => return,
            }
        }
    };
    let write = async move {
        while let Some((arrives, piece)) = pieces.recv().await {
            sleep_until(arrives).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
