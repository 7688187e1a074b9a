//! What a client program needs to connect: a password file, certificates, an
//! environment without secrets.
//!
//! The files lie in a folder of our own (mode 0700, each file 0600) below the
//! scratch folder, which is memory, and are removed with it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use dbbackup_contract::{Failure, Reason};
use zeroize::Zeroizing;

use crate::ServerConnection;
use crate::credentials::Credentials;
use crate::tls::TlsMaterial;

static NEXT_FOLDER: AtomicU64 = AtomicU64::new(0);

/// The files of one client, removed when dropped.
pub(crate) struct ClientFiles {
    folder: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl ClientFiles {
    /// Reads the secrets as they stand now and writes what `libpq` needs.
    pub(crate) fn write(
        server: &ServerConnection,
        database: &str,
        application_name: &str,
    ) -> Result<Self, Failure> {
        let access = &server.access;
        let credentials = Credentials::read(&access.credentials)?;
        let material = TlsMaterial::read(&access.tls)?;
        let number = NEXT_FOLDER.fetch_add(1, Ordering::Relaxed);
        let folder = server.scratch_dir.join(format!("libpq-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| local_failure(&folder, &error))?;
        // From here on dropping removes it.
        let mut files = Self { folder, env: Vec::new() };

        let mut password_file = Zeroizing::new(String::new());
        if let Some(password) = &credentials.password {
            password_file.push_str("*:*:*:*:");
            for c in password.expose().chars() {
                if matches!(c, ':' | '\\') {
                    password_file.push('\\');
                }
                password_file.push(c);
            }
            password_file.push('\n');
        }
        files.put("PGPASSFILE", "pgpass", password_file.as_bytes())?;
        if !material.roots.is_empty() {
            files.put("PGSSLROOTCERT", "root.crt", material.roots_pem().as_bytes())?;
        }
        if let Some(client) = &material.client {
            files.put("PGSSLCERT", "client.crt", &client.certificate)?;
            files.put("PGSSLKEY", "client.key", &client.key)?;
        }
        // libpq looks for files of its own below the home folder: this one has none.
        files.set("HOME", files.folder.clone());
        files.set("PGHOST", &access.host);
        files.set("PGPORT", access.port.to_string());
        files.set("PGUSER", &credentials.user);
        files.set("PGDATABASE", database);
        files.set("PGAPPNAME", application_name);
        files.set("PGSSLMODE", access.tls.mode.as_sslmode());
        files.set("PGGSSENCMODE", "disable");
        files.set("PGCONNECT_TIMEOUT", server.connect_timeout.as_secs().max(2).to_string());
        Ok(files)
    }

    /// The environment that leads a client to the files and the server.
    pub(crate) fn env(&self) -> Vec<(OsString, OsString)> {
        self.env.clone()
    }

    /// Writes another file into the folder, and says where it is.
    pub(crate) fn add(&self, name: &str, content: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content))
            .map_err(|error| local_failure(&path, &error))?;
        Ok(path)
    }

    fn set(&mut self, variable: &str, value: impl Into<OsString>) {
        self.env.push((variable.into(), value.into()));
    }

    fn put(&mut self, variable: &str, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.add(name, content)?;
        self.set(variable, path);
        Ok(())
    }
}

impl Drop for ClientFiles {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "client files stay behind");
        }
    }
}

fn local_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Reason::LocalFileError, format!("cannot write {}: {error}", path.display()))
}
