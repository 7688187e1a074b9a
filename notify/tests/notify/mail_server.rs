//! A mail server: aiosmtpd, started for one test on a free port of this machine.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct MailServer {
    pub(crate) port: u16,
    /// Certificates, mail and log.
    folder: tempfile::TempDir,
    process: Child,
}

/// The program; made where it is missing.
fn program() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/notify/smtp-server");
    let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script} failed");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("program")
}

impl MailServer {
    /// `mode` is starttls, tls or none; certificate and key (PEM) go with the first two.
    pub(crate) fn start(mode: &str, tls: Option<(String, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // A test that is killed takes its server along.
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL").arg(program());
        command.args([&port.to_string(), &at("mail"), mode]);
        if let Some((certificate, key)) = tls {
            std::fs::write(at("certificate"), certificate).unwrap();
            std::fs::write(at("key"), key).unwrap();
            command.args([at("certificate"), at("key")]);
        }
        let log = std::fs::File::create(at("log")).unwrap();
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { port, folder, process };
        server.wait();
        server
    }

    fn wait(&mut self) {
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.try_wait().unwrap();
            let fine = ended.is_none() && started.elapsed() < LIMIT;
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            assert!(fine, "the mail server does not start: {log:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has taken.
    pub(crate) fn mails(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("mail/new")) else {
            return Vec::new();
        };
        entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
