//! A proxy before a server that holds back a chosen statement of ours, so that
//! a run can be killed between any two of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(Clone)]
pub struct Gate {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    held: AtomicUsize,
    reached: Notify,
    cut: Notify,
    passed: Mutex<Vec<String>>,
}

impl Gate {
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            held: AtomicUsize::new(usize::MAX),
            reached: Notify::new(),
            cut: Notify::new(),
            passed: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let (mut client, mut to_client) = client.into_split();
                    let (mut from_server, mut server) = server.into_split();
                    tokio::select! {
                        _ = state.pass(&mut client, &mut server) => {}
                        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                        () = state.cut.notified() => {}
                    }
                });
            }
        });
        Self { port, state }
    }

    /// Counts anew, and holds back statement `number`, counted from 0.
    pub fn hold(&self, number: usize) {
        self.state.passed.lock().unwrap().clear();
        self.state.held.store(number, Ordering::SeqCst);
    }

    /// Ends when that statement is held back; it never gets to the server.
    pub async fn reached(&self) {
        self.state.reached.notified().await;
    }

    /// Ends all connections, as the end of a process would.
    pub fn cut(&self) {
        self.state.cut.notify_waiters();
    }

    /// What was passed on since [`Gate::hold`].
    pub fn passed(&self) -> Vec<String> {
        self.state.passed.lock().unwrap().clone()
    }
}

impl State {
    /// Passes messages of the protocol on until the client goes.
    async fn pass(
        &self,
        client: &mut OwnedReadHalf,
        server: &mut OwnedWriteHalf,
    ) -> std::io::Result<()> {
        const TLS_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
        let mut start = message(client, None).await?;
        if start == TLS_REQUEST {
            server.write_all(&start).await?;
            start = message(client, None).await?;
        }
        // Not those of psql and pg_dump: "dbbackup restore …".
        let ours = contains(&start, b"application_name\0dbbackup\0");
        server.write_all(&start).await?;
        let mut in_transaction = false;
        loop {
            let kind = client.read_u8().await?;
            let message = message(client, Some(kind)).await?;
            if ours && kind == b'Q' {
                let sql = String::from_utf8_lossy(&message[5..message.len() - 1]).into_owned();
                if is_step(&sql, &mut in_transaction) && self.is_held(sql) {
                    self.reached.notify_one();
                    // Until the client is gone; then its session ends.
                    return client.read_u8().await.map(drop);
                }
            }
            server.write_all(&message).await?;
        }
    }

    fn is_held(&self, sql: String) -> bool {
        let mut passed = self.passed.lock().unwrap();
        let held = passed.len() == self.held.load(Ordering::SeqCst);
        passed.push(sql);
        held
    }
}

/// Whether the server's state is another after `sql`, and not only within a transaction.
fn is_step(sql: &str, in_transaction: &mut bool) -> bool {
    match sql {
        "BEGIN" => *in_transaction = true,
        "ROLLBACK" => *in_transaction = false,
        "COMMIT" => {
            *in_transaction = false;
            return true;
        }
        _ => {}
    }
    // A transaction in one message.
    if sql.starts_with("BEGIN; ") && sql.ends_with(" COMMIT;") {
        return true;
    }
    let changes = ["CREATE ", "ALTER ", "DROP ", "COMMENT ", "GRANT ", "REVOKE ", "SET ROLE "];
    !*in_transaction && changes.iter().any(|word| sql.starts_with(word))
}

/// The next message, its kind included; the first one of a session has none.
async fn message(from: &mut OwnedReadHalf, kind: Option<u8>) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut bytes: Vec<u8> = kind.into_iter().collect();
    bytes.extend_from_slice(&length.to_be_bytes());
    let at = bytes.len();
    bytes.resize(at + usize::try_from(length).unwrap() - 4, 0);
    from.read_exact(&mut bytes[at..]).await?;
    Ok(bytes)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
