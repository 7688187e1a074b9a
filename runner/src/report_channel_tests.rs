//! The channel against a real TLS server on this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use dbbackup_contract::{InspectReport, RunState};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

/// One request as the server saw it.
struct Request {
    authorization: String,
    message: Message,
}

/// A server that answers one request a connection, with the statuses it was given.
struct Server {
    endpoint: ReportEndpoint,
    requests: mpsc::Receiver<Request>,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn serve_with(statuses: Vec<u16>) -> Server {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let chain = vec![CertificateDer::from(certified.cert.der().to_vec())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for status in statuses {
            let Ok((stream, _)) = listener.accept() else { return };
            if let Some(request) = answer(stream, &config, status) {
                let _ = sender.send(request);
            }
        }
    });
    Server {
        endpoint: ReportEndpoint {
            url: format!("https://localhost:{port}/v1/report"),
            ca_pem: certified.cert.pem(),
        },
        requests,
    }
}

/// Status 0 cuts the connection instead of answering.
fn answer(stream: TcpStream, config: &Arc<rustls::ServerConfig>, status: u16) -> Option<Request> {
    let connection = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
    let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
    let (mut length, mut authorization, mut line) = (0, String::new(), String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if lower.starts_with("authorization:") {
            authorization = line["authorization:".len()..].trim().to_owned();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if status == 0 {
        return None;
    }
    let mut stream = reader.into_inner();
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .unwrap();
    stream.conn.send_close_notify();
    let _ = stream.flush();
    Some(Request { authorization, message: serde_json::from_slice(&body).unwrap() })
}

fn token() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"the-token\n").unwrap();
    file
}

fn report() -> Report {
    Report::Inspect(InspectReport {
        state: Some(RunState::NotCommitted),
        backup: None,
        error: None,
    })
}

#[test]
fn progress_and_report_arrive_with_the_pods_token() {
    let (server, token) = (serve_with(vec![200, 200]), token());
    let channel = ReportChannel::open_with_token(&server.endpoint, "uid-1", token.path()).unwrap();
    channel.progress(Progress { bytes_done: 7, ..Progress::default() });
    let first = server.requests.recv().unwrap();
    assert_eq!(first.authorization, "Bearer the-token");
    assert_eq!(first.message.subject_uid, "uid-1");
    assert!(
        matches!(first.message.body, ReportBody::Progress(progress) if progress.bytes_done == 7)
    );
    assert!(channel.finish(&report()));
    let second = server.requests.recv().unwrap();
    assert_eq!(second.message.body, ReportBody::Report(Box::new(report())));
}

#[test]
fn the_newest_progress_is_tried_again_until_it_arrives() {
    let (server, token) = (serve_with(vec![503, 0, 200]), token());
    let channel = ReportChannel::open_with_token(&server.endpoint, "uid-1", token.path()).unwrap();
    channel.progress(Progress { bytes_done: 7, ..Progress::default() });
    for _ in 0..2 {
        let heard = server.requests.recv().unwrap().message.body;
        assert!(matches!(heard, ReportBody::Progress(progress) if progress.bytes_done == 7));
    }
}

#[test]
fn the_newest_state_of_a_log_arrives_and_the_report_after_it() {
    let (server, token) = (serve_with(vec![503, 200, 200]), token());
    let channel = ReportChannel::open_with_token(&server.endpoint, "uid-1", token.path()).unwrap();
    let status = |bytes| LogStatus { behind_bytes: bytes, ..LogStatus::default() };
    channel.log(status(1));
    server.requests.recv().unwrap();
    channel.log(status(2));
    channel.log(status(3));
    let heard = server.requests.recv().unwrap().message.body;
    assert_eq!(heard, ReportBody::Log(Box::new(status(3))));
    assert!(channel.finish(&report()));
    assert!(matches!(server.requests.recv().unwrap().message.body, ReportBody::Report(_)));
}

#[test]
fn a_report_is_tried_again_until_it_arrives() {
    let (server, token) = (serve_with(vec![0, 503, 404, 200]), token());
    let channel = ReportChannel::open_with_token(&server.endpoint, "uid-1", token.path()).unwrap();
    assert!(channel.finish(&report()));
    let statuses_seen = server.requests.iter().count();
    assert_eq!(statuses_seen, 3, "one connection was cut before an answer");
}

#[test]
fn a_refused_report_is_not_tried_again() {
    let (server, token) = (serve_with(vec![403, 200]), token());
    let channel = ReportChannel::open_with_token(&server.endpoint, "uid-1", token.path()).unwrap();
    assert!(!channel.finish(&report()));
    assert!(server.requests.recv().is_ok());
    assert!(server.requests.try_recv().is_err());
}

#[test]
fn a_server_of_another_ca_hears_nothing() {
    let (server, other, token) = (serve_with(vec![200]), serve_with(vec![]), token());
    let endpoint = ReportEndpoint { ca_pem: other.endpoint.ca_pem, ..server.endpoint.clone() };
    let sender = Sender {
        agent: agent(&endpoint.ca_pem).unwrap(),
        url: endpoint.url,
        subject_uid: "uid-1".to_owned(),
        token_file: token.path().to_owned(),
    };
    let refused = sender.send(ReportBody::Progress(Progress::default())).unwrap_err();
    assert!(matches!(refused, SendError::Other(_)), "{refused}");
    assert!(server.requests.try_recv().is_err());
}

#[test]
fn an_endpoint_without_a_certificate_is_refused_before_anything_starts() {
    let endpoint = ReportEndpoint { url: "https://x/v1/report".into(), ca_pem: "nonsense".into() };
    let failure = ReportChannel::open(&endpoint, "u").err().unwrap();
    assert_eq!(failure.reason, Reason::TaskInvalid);
}
