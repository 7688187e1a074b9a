//! Each TLS mode against a server with a certificate, by our connection and by `libpq`'s.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use dbbackup_contract::{Reason, TlsAccess, TlsMode};
use support::{
    MemoryBackup, TestServer, assert_all_succeeded, back_up, backup_of, connection, connection_as,
    secret,
};

/// Certificates that `openssl` made.
struct Authority {
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        let authority = Self { dir };
        authority.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} -keyout ca.key -out ca.crt \
             -addext basicConstraints=critical,CA:TRUE"
        ));
        authority
    }

    /// Certificate and key for `name`.
    fn issue(&self, name: &str, extension: &str) -> (String, String) {
        std::fs::write(self.dir.join("ext"), extension).unwrap();
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
             -extfile ext -out {name}.crt"
        ));
        (self.read(&format!("{name}.crt")), self.read(&format!("{name}.key")))
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.join(file)).unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&self.dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn every_mode_proves_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(dir.path(), "ours");
    let other = Authority::new(dir.path(), "other");
    let (certificate, key) = ours.issue("localhost", "subjectAltName=DNS:localhost\n");
    let server = TestServer::start(17, &[]);
    server.write("server.crt", &certificate);
    server.write("server.key", &key);
    server.write("ca.crt", &ours.read("ca.crt"));
    server.sql("postgres", "ALTER SYSTEM SET ssl = on");
    server.sql("postgres", "ALTER SYSTEM SET ssl_ca_file = 'ca.crt'");
    server.sql("postgres", "CREATE ROLE certain LOGIN SUPERUSER");
    server.write(
        "pg_hba.conf",
        "hostssl all certain 127.0.0.1/32 cert\nhostssl all all 127.0.0.1/32 scram-sha-256\n\
         host all postgres 127.0.0.1/32 reject\n",
    );
    server.reload();
    let started = std::time::Instant::now();
    while !server.try_sql("postgres", "SELECT 1").0 {
        assert!(started.elapsed().as_secs() < 20, "TLS does not come up: {}", server.log());
    }

    let ca = |authority: &Authority, name: &str| {
        Some(secret(&dir.path().join(name), "ca.crt", &authority.read("ca.crt")))
    };
    let good = ca(&ours, "good");
    let wrong = ca(&other, "wrong");
    let try_mode = async |host: &str, mode: TlsMode, ca: &Option<_>| {
        let mut way = connection(&server, dir.path());
        way.access.host = host.to_owned();
        way.access.tls = TlsAccess { mode, ca: ca.clone(), ..TlsAccess::default() };
        let made = back_up(&backup_of(way, &[]), &MemoryBackup::default()).await?;
        assert_all_succeeded(&made.databases);
        Ok::<(), dbbackup_contract::Failure>(())
    };
    for (host, mode, ca, expected) in [
        ("localhost", TlsMode::VerifyFull, &good, None),
        ("127.0.0.1", TlsMode::VerifyFull, &good, Some(Reason::TlsVerificationFailed)),
        ("127.0.0.1", TlsMode::VerifyCa, &good, None),
        ("localhost", TlsMode::VerifyFull, &wrong, Some(Reason::TlsVerificationFailed)),
        ("localhost", TlsMode::VerifyCa, &wrong, Some(Reason::TlsVerificationFailed)),
        ("localhost", TlsMode::VerifyFull, &None, Some(Reason::TlsVerificationFailed)),
        ("localhost", TlsMode::Require, &None, None),
        ("localhost", TlsMode::Require, &wrong, Some(Reason::TlsVerificationFailed)),
        ("localhost", TlsMode::Prefer, &None, None),
        ("localhost", TlsMode::Disable, &None, Some(Reason::NoPgHbaEntry)),
    ] {
        let outcome = try_mode(host, mode, ca).await;
        let reason = outcome.as_ref().err().map(|failure| failure.reason);
        assert_eq!(reason, expected, "{host} {mode:?} {}: {outcome:?}", ca.is_some());
    }

    // By certificate, without a password.
    let (certificate, key) = ours.issue("certain", "extendedKeyUsage=clientAuth\n");
    let folder = dir.path().join("client");
    let mut way = connection_as(&server, dir.path(), "certain", "");
    way.access.credentials.password = None;
    way.access.host = "localhost".to_owned();
    way.access.tls = TlsAccess {
        mode: TlsMode::VerifyFull,
        ca: good,
        client_certificate: Some(secret(&folder, "tls.crt", &certificate)),
        client_key: Some(secret(&folder, "tls.key", &key)),
    };
    let made = back_up(&backup_of(way, &[]), &MemoryBackup::default()).await.unwrap();
    assert_all_succeeded(&made.databases);
}
