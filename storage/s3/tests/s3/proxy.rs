//! A proxy before a server that answers in its place, cuts answers off, keeps
//! silent, or takes headers away.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a request.
pub(crate) enum Act {
    /// It passes.
    Pass,
    /// It passes without this header.
    Without(&'static str),
    /// It is answered so, and does not pass.
    Answer(String),
    /// It passes, and so many bytes of the answer come back.
    Cut(usize),
    /// Nothing comes back, ever.
    Silence,
}

impl Act {
    /// An error as S3 writes it.
    pub(crate) fn error(status: u16, code: &str, headers: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
             <Message>said by the test</Message></Error>"
        );
        Self::Answer(format!(
            "HTTP/1.1 {status} Said\r\n{headers}Content-Type: application/xml\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }
}

type Plan = Box<dyn FnMut(&str) -> Act + Send>;

pub(crate) struct Proxy {
    port: u16,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server at `port`; `plan` sees the head of each request.
    pub(crate) async fn before(
        server: u16,
        plan: impl FnMut(&str) -> Act + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan: Arc<Mutex<Plan>> = Arc::new(Mutex::new(Box::new(plan)));
        let task = tokio::spawn(async move {
            // They end with the task: whoever drops the set ends what is in it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve(client, server, Arc::clone(&plan)));
            }
        });
        Self { port, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, one connection.
async fn serve(mut client: TcpStream, server: u16, plan: Arc<Mutex<Plan>>) -> Option<()> {
    let (head, body) = request(&mut client).await?;
    let act = (plan.lock().unwrap())(&head);
    let (head, most) = match act {
        Act::Pass => (head, usize::MAX),
        Act::Without(header) => (without(&head, header), usize::MAX),
        Act::Cut(most) => (head, most),
        Act::Answer(answer) => {
            client.write_all(answer.as_bytes()).await.ok()?;
            return client.shutdown().await.ok();
        }
        Act::Silence => std::future::pending().await,
    };
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.ok()?;
    let head = without(&head, "connection").replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await.ok()?;
    server.write_all(&body).await.ok()?;
    let mut passed = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = server.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        let rest = read.min(most - passed);
        client.write_all(&buffer[..rest]).await.ok()?;
        passed += rest;
        if passed == most {
            return None;
        }
    }
}

/// The head of a request, up to its empty line, and its body.
async fn request(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    let end = loop {
        let read = client.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).unwrap();
    if head.to_lowercase().contains("expect: 100-continue") {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
    while body.len() < length {
        let read = client.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&buffer[..read]);
    }
    Some((without(&head, "expect"), body))
}

/// The value of a header.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn without(head: &str, name: &str) -> String {
    let lines = head.split("\r\n");
    let kept = lines.filter(|line| {
        line.split_once(':').is_none_or(|(found, _)| !found.eq_ignore_ascii_case(name))
    });
    kept.collect::<Vec<_>>().join("\r\n")
}
