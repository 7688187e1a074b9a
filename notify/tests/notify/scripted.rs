//! A mail server that misbehaves: it answers each command by a line that it is given, and
//! keeps what it is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

pub(crate) struct Scripted {
    pub(crate) port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Answers a command by the first line whose beginning it has; by nothing else.
    pub(crate) async fn start(answers: &'static [(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let known = Arc::clone(&known);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let _ = stream.write_all(b"220 mail.example.com\r\n").await;
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                        known.lock().unwrap().push(line.trim_end().to_owned());
                        let answer = answers.iter().find(|(command, _)| line.starts_with(command));
                        if let Some((_, answer)) = answer {
                            let _ = stream.write_all(format!("{answer}\r\n").as_bytes()).await;
                        }
                        line.clear();
                    }
                });
            }
        });
        Self { port, said }
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}
