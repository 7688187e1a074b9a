//! The channel over real connections. The API server behind it answers in the same process.

use std::sync::atomic::{AtomicUsize, Ordering};

use kube::client::Body;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::report::certificate::{Material, issue};

struct Server {
    address: std::net::SocketAddr,
    material: Material,
    metrics: Arc<Metrics>,
    /// Questions that the API server was asked.
    asked: Arc<AtomicUsize>,
    _stop: tokio_util::sync::DropGuard,
}

impl Server {
    /// A channel before an API server that answers each question with `status`, and knows no token.
    async fn new(limits: Limits, status: u16) -> Self {
        Self::with(limits, status, |_| json!({"spec": {}})).await
    }

    /// A channel before an API server that answers by the path of the question.
    async fn with(limits: Limits, status: u16, says: fn(&str) -> Value) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let api = tower::service_fn(move |request: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let json = serde_json::to_vec(&says(request.uri().path())).unwrap();
            let response = Response::builder().status(status).body(Body::from(json)).unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut channel = Channel::new(Client::new(api, "default"), Arc::clone(&metrics));
        channel.limits = limits;
        let material = issue(&["localhost".to_owned()], None, Timestamp::now()).unwrap();
        let (_, tls) = watch::channel(Arc::new(material.server_config().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::new(channel), tls, stop.clone()));
        Self { address, material, metrics, asked, _stop: stop.drop_guard() }
    }

    /// A connection from 127.0.0.`last`, with nothing sent yet.
    async fn connect(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::from([127, 0, 0, last]), 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn shake_hands(&self, socket: TcpStream) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.material.ca_pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    fn counted(&self, result: &str) -> u64 {
        self.metrics.reports.with_label_values(&[result]).get()
    }
}

/// Sends a message with this token, and gives the answer in lower case.
async fn post(stream: &mut TlsStream<TcpStream>, token: &str) -> String {
    post_with(stream, token, "").await
}

async fn post_with(stream: &mut TlsStream<TcpStream>, token: &str, body: &str) -> String {
    let request = format!(
        "POST {REPORT_PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8(answer.clone()).unwrap().to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_none_or(|length| length.parse() == Ok(body.len())) {
                return text;
            }
        }
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "no whole answer came");
    }
}

/// Whether the other side has closed it without a word.
async fn is_closed(mut socket: TcpStream) -> bool {
    matches!(socket.read(&mut [0]).await, Ok(0) | Err(_))
}

fn limits() -> Limits {
    Limits { most: 8, crowded: 6, share: 2, patience: Duration::from_secs(3600) }
}

#[tokio::test]
async fn who_fills_the_channel_from_one_address_keeps_no_other_out() {
    let server = Server::new(limits(), 201).await;
    let mut held = Vec::new();
    for _ in 0..limits().crowded {
        held.push(server.connect(1).await);
    }
    assert!(is_closed(server.connect(1).await).await);
    assert_eq!(server.counted(BUSY), 1);

    // Another address is heard, and makes room once it was.
    let mut other = server.shake_hands(server.connect(2).await).await;
    let answer = post(&mut other, "bad").await;
    assert!(answer.starts_with("http/1.1 401 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_bad_token_is_asked_about_once() {
    let server = Server::new(limits(), 201).await;
    let mut stream = server.shake_hands(server.connect(1).await).await;
    for (token, asked) in [("bad", 1), ("bad", 1), ("worse", 2), ("bad", 2)] {
        let answer = post(&mut stream, token).await;
        assert!(answer.starts_with("http/1.1 401 "), "{answer}");
        assert_eq!(server.asked.load(Ordering::SeqCst), asked, "{token}");
    }
    assert_eq!(server.counted("refused"), 4);
}

/// A runner gives a report up after a 401, and tries again after a 503.
#[tokio::test]
async fn a_token_that_nobody_could_look_at_is_not_refused() {
    let server = Server::new(limits(), 500).await;
    let mut stream = server.shake_hands(server.connect(1).await).await;
    for asked in 1..=2 {
        let answer = post(&mut stream, "good").await;
        assert!(answer.starts_with("http/1.1 503 "), "{answer}");
        assert_eq!(server.asked.load(Ordering::SeqCst), asked);
    }
    assert_eq!(server.counted(BUSY), 2);
}

#[tokio::test]
async fn who_says_nothing_is_shown_out() {
    let patience = Duration::from_millis(50);
    let server = Server::new(Limits { patience, ..limits() }, 201).await;
    assert!(is_closed(server.connect(1).await).await);
}

#[tokio::test]
async fn headers_have_a_bound() {
    let server = Server::new(limits(), 201).await;
    let mut stream = server.shake_hands(server.connect(1).await).await;
    let answer = post(&mut stream, &"x".repeat(BUFFER)).await;
    assert!(answer.starts_with("http/1.1 431 "), "{answer}");
}

/// What an API server says of the token, the pod and the Job of a runner.
fn of_a_runner(path: &str) -> Value {
    let owned_by = |version: &str, kind: &str, name: &str| {
        let owner = json!({"apiVersion": version, "kind": kind, "name": name, "uid": "u", "controller": true});
        json!({"metadata": {"name": "x", "uid": "u", "ownerReferences": [owner]}})
    };
    match path.rsplit('/').nth(1) {
        Some("pods") => owned_by("batch/v1", "Job", "j"),
        Some("jobs") => owned_by("dbbackup.dev/v1alpha1", "Backup", "b"),
        _ => json!({"spec": {}, "status": {
            "authenticated": true, "audiences": ["dbbackup.dev"],
            "user": {"username": "system:serviceaccount:shop:default", "extra": {
                "authentication.kubernetes.io/pod-name": ["p"],
                "authentication.kubernetes.io/pod-uid": ["u"],
            }},
        }}),
    }
}

/// Headers are short, and messages need not be.
#[tokio::test]
async fn a_message_may_be_longer_than_headers() {
    let server = Server::with(limits(), 201, of_a_runner).await;
    let mut stream = server.shake_hands(server.connect(1).await).await;
    for _ in 0..2 {
        let answer = post_with(&mut stream, "good", &" ".repeat(MAX_BODY)).await;
        assert!(answer.contains("no message"), "{answer}");
        // Token, pod and Job, and then known.
        assert_eq!(server.asked.load(Ordering::SeqCst), 3);
    }
}
