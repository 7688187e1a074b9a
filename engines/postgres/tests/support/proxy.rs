//! A proxy before a server that can stop passing bytes, cut connections, or make
//! something happen when a statement passes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    /// Nothing passes once so many bytes came from the server; 0 is no limit.
    stop_after: AtomicU64,
    passed: AtomicU64,
    stopped: AtomicBool,
    cut: CancellationToken,
    /// What happens before bytes that hold this text reach the server, once.
    at: Mutex<Option<(String, Hook)>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl Proxy {
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            stop_after: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            cut: CancellationToken::new(),
            at: Mutex::new(None),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
                        return;
                    };
                    let (client_read, client_write) = client.into_split();
                    let (server_read, server_write) = server.into_split();
                    tokio::select! {
                        () = pass(client_read, server_write, &state, false) => {}
                        () = pass(server_read, client_write, &state, true) => {}
                        () = state.cut.cancelled() => {}
                    }
                });
            }
        });
        Self { port, state }
    }

    /// From now on nothing passes once `bytes` more came from the server.
    pub fn stop_after(&self, bytes: u64) {
        let limit = self.state.passed.load(Ordering::SeqCst) + bytes.max(1);
        self.state.stop_after.store(limit, Ordering::SeqCst);
    }

    /// Calls `hook` when a client says `text`, before the server hears it.
    pub fn at(&self, text: &str, hook: impl FnOnce() + Send + 'static) {
        *self.state.at.lock().unwrap() = Some((text.to_owned(), Box::new(hook)));
    }

    /// Whether what [`Proxy::at`] waited for was said.
    pub fn was_said(&self) -> bool {
        self.state.at.lock().unwrap().is_none()
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.cut.cancel();
    }
}

impl State {
    fn hear(&self, said: &[u8]) {
        let mut at = self.at.lock().unwrap();
        let text = at.as_ref().map(|(text, _)| text.as_bytes().to_vec());
        if text.is_some_and(|text| said.windows(text.len()).any(|window| window == text)) {
            let (_, hook) = at.take().unwrap();
            hook();
        }
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    state: &State,
    counts: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if !counts {
            state.hear(&buffer[..read]);
        }
        if counts {
            let passed = state.passed.fetch_add(read as u64, Ordering::SeqCst) + read as u64;
            let limit = state.stop_after.load(Ordering::SeqCst);
            if limit > 0 && passed >= limit {
                state.stopped.store(true, Ordering::SeqCst);
            }
        }
        while state.stopped.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
