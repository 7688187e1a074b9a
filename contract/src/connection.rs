//! How the runner reaches a server: addresses and the files that hold secrets.

use serde::{Deserialize, Serialize};

/// One value of a secret or config map, mounted as a file.
///
/// The whole object is mounted as the folder `dir` (optional volume), so that
/// an empty folder means that the object does not exist, and other files alone
/// mean that it lacks the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretFile {
    /// Folder of the mounted object.
    pub dir: String,
    /// File in that folder: the key of the object.
    pub key: String,
    /// The object, as messages call it: `the Secret shop-db`. Empty for a file of
    /// somebody who runs the program by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// Which field of which object names it:
    /// `source.postgresql.credentialsSecretRef of the BackupSchedule nightly`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub named_by: String,
}

impl SecretFile {
    /// A file of somebody who runs the program by hand.
    #[must_use]
    pub fn local(dir: String, key: String) -> Self {
        Self { dir, key, object: String::new(), named_by: String::new() }
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        std::path::Path::new(&self.dir).join(&self.key)
    }

    /// Whether it is a value of a mounted object, not a file of somebody's own.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        !self.object.is_empty()
    }

    /// ` (FIELD of OBJECT)`: where a person finds what to correct.
    #[must_use]
    pub fn place(&self) -> String {
        if self.named_by.is_empty() { String::new() } else { format!(" ({})", self.named_by) }
    }

    /// The value, in a message: `the key password of the Secret shop-db (FIELD of OBJECT)`.
    #[must_use]
    pub fn described(&self) -> String {
        if self.is_mounted() {
            format!("the key {} of {}{}", self.key, self.object, self.place())
        } else {
            self.path().display().to_string()
        }
    }
}

/// Who connects to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum UserName {
    /// The name stands in a file, beside the password: the operator's way.
    File(SecretFile),
    /// The name itself: from a URI on the command line.
    Literal(String),
}

/// User name and password of a server. A password is always a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialFiles {
    /// The user's name.
    pub username: UserName,
    /// The password; absent where the server asks for none (client certificate, `trust`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretFile>,
}

/// How much a connection proves about the server. The names are those of the
/// API; PostgreSQL calls them `disable`, `prefer`, `require`, `verify-ca`, `verify-full`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS where the server has it, unverified; else plain.
    Prefer,
    /// TLS, unverified.
    Require,
    /// TLS with a certificate of a trusted CA.
    #[serde(rename = "VerifyCA")]
    VerifyCa,
    /// TLS with a certificate of a trusted CA for this host name.
    #[default]
    VerifyFull,
}

impl TlsMode {
    /// PostgreSQL's own name (`sslmode`).
    #[must_use]
    pub const fn as_sslmode(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// TLS of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsAccess {
    /// What the connection must prove.
    pub mode: TlsMode,
    /// The CA's certificates (PEM); the system's CAs where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretFile>,
    /// The client's own certificate (PEM), with `client_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretFile>,
    /// The key of the client's certificate (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<SecretFile>,
}

/// A PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PostgresqlAccess {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password.
    pub credentials: CredentialFiles,
    /// TLS.
    #[serde(default)]
    pub tls: TlsAccess,
}

/// Which databases of a server are backed up. Entries are globs with `*` and
/// `?`; anything else in them is literal. Nothing said means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DatabaseSelection {
    /// Databases to take; all where empty.
    pub include: Vec<String>,
    /// Databases to leave out, applied after `include`.
    pub exclude: Vec<String>,
}

impl DatabaseSelection {
    /// Whether the whole server is meant, with its roles and other globals.
    #[must_use]
    pub fn is_whole_server(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}
