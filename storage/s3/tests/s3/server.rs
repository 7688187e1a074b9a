//! S3 servers of others, for the tests of several crates: each started for one test on a free port of this machine,
//! and ended by its own id when dropped.

#![allow(dead_code, reason = "each test program uses its part")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const ACCESS_KEY: &str = "dbbackup";
pub(crate) const SECRET_KEY: &str = "dbbackup-secret";

/// Whose server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// MinIO, on a folder.
    Minio,
    /// Versity's gateway, on a folder.
    Versity,
    /// moto, in memory. It asks nobody for credentials.
    Moto,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    kind: Kind,
    tls: bool,
    /// What it keeps, its certificates, its log.
    folder: tempfile::TempDir,
    command: Command,
    process: Child,
}

/// The folder with the program; made where it is missing.
fn program(kind: Kind) -> PathBuf {
    let name = match kind {
        Kind::Minio => "minio",
        Kind::Versity => "versitygw",
        Kind::Moto => "moto",
    };
    let script = Path::new(file!()).with_file_name("s3-server");
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
    pub(crate) fn start(kind: Kind) -> Self {
        Self::start_with(kind, None)
    }

    /// A server that speaks TLS with this certificate and key (PEM).
    pub(crate) fn start_with(kind: Kind, tls: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for made in ["data", "certs", "home"] {
            std::fs::create_dir(at(made)).unwrap();
        }
        if let Some((certificate, key)) = tls {
            std::fs::write(at("certs/public.crt"), certificate).unwrap();
            std::fs::write(at("certs/private.key"), key).unwrap();
        }
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        // A test that is killed takes its server along.
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL").arg(program(kind)).env("HOME", at("home"));
        match kind {
            Kind::Minio => command
                .args(["server", "--quiet", "--address", &address])
                .args(["--console-address", "127.0.0.1:0", "--certs-dir", &at("certs")])
                .arg(at("data"))
                .env("MINIO_ROOT_USER", ACCESS_KEY)
                .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
                // Nothing that it does by itself: it asks the network for updates, and scans.
                .envs([("MINIO_UPDATE", "off"), ("MINIO_BROWSER", "off")]),
            Kind::Versity => {
                command.args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", &address]);
                if tls.is_some() {
                    command.args(["--cert", &at("certs/public.crt")]);
                    command.args(["--key", &at("certs/private.key")]);
                }
                command.args(["--quiet", "posix", &at("data")])
            }
            Kind::Moto => {
                assert!(tls.is_none(), "only the others are tried with TLS");
                command.args(["-H", "127.0.0.1", "-p", &port.to_string()])
            }
        };
        let log = std::fs::File::create(at("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().unwrap();
        let mut server = Self { port, kind, tls: tls.is_some(), folder, command, process };
        server.wait();
        server
    }

    /// Ends it as a crash would. What it keeps stays.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again at the same place.
    pub(crate) fn start_again(&mut self) {
        self.process = self.command.spawn().unwrap();
        self.wait();
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

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, self.port)
    }

    /// Makes a bucket without asking the server: it takes the folders that it finds for
    /// buckets.
    pub(crate) fn make_folder(&self, bucket: &str) {
        assert_eq!(self.kind, Kind::Versity);
        std::fs::create_dir(self.folder.path().join("data").join(bucket)).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
