//! Servers that speak a cloud's protocol, for the tests of several crates: each started
//! for one test on a free port of this machine, and ended by its own id when dropped.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const ACCOUNT: &str = "acme";
/// Base64, as all account keys.
pub(crate) const ACCOUNT_KEY: &str = "YWNjb3VudC1rZXktb2YtdGhlLXRlc3Rz";
/// The container, or the bucket.
pub(crate) const BUCKET: &str = "backups";

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Azurite, Microsoft's emulator of Azure storage, in memory.
    Azurite,
    /// fake-gcs-server, in memory. It asks nobody for credentials.
    FakeGcs,
}

/// What a server shows over TLS (PEM), and the authority that has signed it.
pub(crate) struct Tls<'a> {
    pub(crate) certificate: &'a str,
    pub(crate) key: &'a str,
    pub(crate) ca: &'a str,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) kind: Kind,
    /// The authority of its certificate, if it speaks TLS.
    ca: Option<String>,
    /// Its certificates, its log.
    folder: tempfile::TempDir,
    process: Child,
}

/// The folder with the program; made where it is missing.
fn program(kind: Kind) -> PathBuf {
    let name = match kind {
        Kind::Azurite => "azurite",
        Kind::FakeGcs => "fake-gcs-server",
    };
    let script = Path::new(file!()).with_file_name("cloud-server");
    // `file!` is relative to the workspace; tests run in their package's folder.
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join(&script))
        .find(|script| script.exists())
        .expect("the script lies beside this file");
    let output = Command::new(&script).arg(name).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{} {name} failed", script.display());
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("program")
}

impl Server {
    /// A server with an empty bucket.
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, None)
    }

    /// The same, over TLS.
    pub(crate) fn start_with(kind: Kind, tls: Option<&Tls<'_>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        if let Some(tls) = tls {
            std::fs::write(at("certificate"), tls.certificate).unwrap();
            std::fs::write(at("key"), tls.key).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port_text = port.to_string();
        // A test that is killed takes its server along.
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL").arg(program(kind)).current_dir(folder.path());
        match kind {
            Kind::Azurite => {
                command
                    .args(["--blobHost", "127.0.0.1", "--blobPort", &port_text, "--silent"])
                    .args(["--inMemoryPersistence", "--disableTelemetry"])
                    .env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{ACCOUNT_KEY}"));
                if tls.is_some() {
                    // Tokens are taken over TLS alone.
                    command.args(["--cert", &at("certificate"), "--key", &at("key")]);
                    command.args(["--oauth", "basic"]);
                }
            }
            Kind::FakeGcs => {
                assert!(tls.is_none(), "the other one is tried with TLS");
                command
                    .args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port_text])
                    .args(["-backend", "memory", "-public-host", &format!("127.0.0.1:{port}")]);
            }
        }
        let log = std::fs::File::create(at("log")).unwrap();
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let ca = tls.map(|tls| tls.ca.to_owned());
        let mut server = Self { port, kind, ca, folder, process };
        server.wait();
        server.make_bucket();
        server
    }

    fn wait(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().unwrap();
            let fine = ended.is_none() && started.elapsed() < LIMIT;
            assert!(fine, "{:?} does not start: {}", self.kind, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `endpoint` has to say for it.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoint_at(self.port)
    }

    /// The same, behind a proxy at this port.
    pub(crate) fn endpoint_at(&self, port: u16) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        match self.kind {
            // Without names of their own, accounts stand in the path.
            Kind::Azurite => format!("{scheme}://127.0.0.1:{port}/{ACCOUNT}"),
            Kind::FakeGcs => format!("{scheme}://127.0.0.1:{port}"),
        }
    }

    /// Makes the bucket, past the driver.
    fn make_bucket(&self) {
        match self.kind {
            Kind::Azurite => {
                let target = format!("/{ACCOUNT}/{BUCKET}?restype=container&{}", sas("rlcwd"));
                self.ask("PUT", &target, "x-ms-version: 2023-11-03\r\n", b"");
            }
            Kind::FakeGcs => {
                let body = format!("{{\"name\": \"{BUCKET}\"}}");
                let header = "Content-Type: application/json\r\n";
                self.ask("POST", "/storage/v1/b", header, body.as_bytes());
            }
        }
    }

    /// Puts an object there, past the driver. The name is encoded for an address.
    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        match self.kind {
            Kind::Azurite => {
                let headers = "x-ms-version: 2023-11-03\r\nx-ms-blob-type: BlockBlob\r\n";
                let target = format!("/{ACCOUNT}/{BUCKET}/{name}?{}", sas("rlcwd"));
                self.ask("PUT", &target, headers, content);
            }
            Kind::FakeGcs => {
                let target =
                    format!("/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}");
                self.ask("POST", &target, "Content-Type: text/plain\r\n", content);
            }
        }
    }

    fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\n\
             Connection: close\r\n{headers}\r\n",
            self.port,
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        let mut answer = Vec::new();
        match &self.ca {
            None => {
                stream.write_all(&request).unwrap();
                let _ = stream.read_to_end(&mut answer);
            }
            Some(ca) => {
                let mut stream = rustls::StreamOwned::new(trusting(ca), stream);
                stream.write_all(&request).unwrap();
                // Its end is not always announced.
                let _ = stream.read_to_end(&mut answer);
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 20"), "{method} {target}: {answer}");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client that trusts this authority (PEM).
fn trusting(ca: &str) -> rustls::ClientConnection {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    rustls::ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap()
}

/// A shared access signature of the account with these rights to containers and blobs
/// ("Create an account SAS" of Azure's reference).
pub(crate) fn sas(rights: &str) -> String {
    let (version, end) = ("2022-11-02", "2099-01-01T00:00:00Z");
    let signed = format!("{ACCOUNT}\n{rights}\nb\nco\n\n{end}\n\nhttps,http\n{version}\n\n");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(ACCOUNT_KEY.as_bytes()).unwrap());
    let signature = BASE64.encode(hmac::sign(&key, signed.as_bytes()).as_ref());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv={version}&ss=b&srt=co&sp={rights}&se={end}&spr=https,http&sig={signature}")
}
