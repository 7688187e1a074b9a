//! The servers that are backed up and restored to.

use dbbackup_contract::TlsMode;
use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CaRef, CredentialsRef, LocalRef};

/// The server that is backed up. Exactly one engine is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.postgresql)").message("say which server is backed up: source.postgresql"))]
pub struct SourceSpec {
    /// A PostgreSQL server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<PostgresqlSource>,
}

/// The server that is restored to. Exactly one engine is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.postgresql)").message("say which server is restored to: target.postgresql"))]
pub struct TargetSpec {
    /// A PostgreSQL server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<PostgresqlTarget>,
}

/// A PostgreSQL server that is backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresqlSource {
    /// Host name or address of the server itself, not of a connection pooler. A Service is NAME.NAMESPACE.svc.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = no_url(), validation = no_port(), validation = name_or_address())]
    pub host: String,
    /// TCP port.
    #[serde(default = "postgresql_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Which databases. Left out, the whole server is backed up, with its roles and other globals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<DatabasesSpec>,
    /// The secret with user name and password (keys: username, password).
    pub credentials_secret_ref: CredentialsRef,
    /// How the connection is protected. Left out, the server must prove its name by a trusted certificate.
    #[serde(default)]
    pub tls: TlsSpec,
}

/// A PostgreSQL server that is restored to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresqlTarget {
    /// Host name or address of the server itself, not of a connection pooler. A Service is NAME.NAMESPACE.svc.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = no_url(), validation = no_port(), validation = name_or_address())]
    pub host: String,
    /// TCP port.
    #[serde(default = "postgresql_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The secret with user name and password (keys: username, password).
    pub credentials_secret_ref: CredentialsRef,
    /// How the connection is protected. Left out, the server must prove its name by a trusted certificate.
    #[serde(default)]
    pub tls: TlsSpec,
}

impl PostgresqlSource {
    /// The same server, to restore to.
    #[must_use]
    pub fn as_target(&self) -> PostgresqlTarget {
        PostgresqlTarget {
            host: self.host.clone(),
            port: self.port,
            credentials_secret_ref: self.credentials_secret_ref.clone(),
            tls: self.tls.clone(),
        }
    }
}

/// Databases of a server. Entries are names or globs with * and ?; anything else in them is literal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabasesSpec {
    /// Databases to take, by name; * stands for any characters and ? for one (shop_*). All where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub include: Vec<String>,
    /// Databases to leave out, by name; * stands for any characters and ? for one. Applied after include.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    pub exclude: Vec<String>,
}

/// How a connection is protected, and what the server must prove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.caRef) || self.mode in ['VerifyCA', 'VerifyFull']").message("caRef is looked at only with mode VerifyCA or VerifyFull: set tls.mode to one of them, or leave caRef out"))]
pub struct TlsSpec {
    /// Disable, Prefer (TLS where the server has it, unverified), Require (TLS, unverified), VerifyCA (a certificate of a trusted CA), VerifyFull (for this host name, too). A server without a certificate needs Prefer.
    #[serde(default)]
    pub mode: TlsMode,
    /// The CA that signed the server's certificate; the image's public CAs where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// A secret of type kubernetes.io/tls with the client's own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<LocalRef>,
}

/// A host is no URL: what a URL has more stands in fields of its own.
pub(crate) fn no_url() -> Rule {
    Rule::new("!self.contains('://')").message("host is a name or an address alone, not a URL: port, databases and credentialsSecretRef have fields of their own")
}

/// Nor has it a port, also behind brackets.
pub(crate) fn no_port() -> Rule {
    Rule::new("self.contains('://') || !self.matches('^([^:]*|[[].*[]]):[^:]*$')")
        .message("host is a name or an address without a port: the port has its own field")
}

/// It is a host name, an IPv4 or an IPv6 address: nothing that could end a connection
/// string's field.
pub(crate) fn name_or_address() -> Rule {
    Rule::new("self.contains('://') || self.matches('^([^:]*|[[].*[]]):[^:]*$') || self.matches('^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?)$')").message("host is a name of letters, digits, dots and hyphens, an IPv4 address, or an IPv6 address without brackets")
}

fn postgresql_port() -> u16 {
    5432
}
