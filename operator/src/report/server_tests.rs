//! The channel over real connections. The API server behind it answers in the same process.

use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::authentication::v1::TokenReview;
use kube::client::Body;
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
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let api = tower::service_fn(move |_: Request<Body>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let json = serde_json::to_vec(&TokenReview::default()).unwrap();
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
    let request = format!(
        "POST {REPORT_PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
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
