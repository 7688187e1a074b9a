//! Why a connection cannot be made.

use dbbackup_contract::{Failure, PostgresqlAccess, Reason, TlsMode};
use tokio::net::TcpStream;

use super::failure_of_code;

/// Where and as whom a connection was tried.
pub(crate) struct Attempt<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    /// `None` for replication.
    pub(crate) database: Option<&'a str>,
    pub(crate) mode: TlsMode,
    /// Our own address, as the server sees it unless something translates addresses.
    pub(crate) own_address: Option<std::net::IpAddr>,
}

impl<'a> Attempt<'a> {
    /// Over a connection that was made.
    pub(crate) fn of(
        access: &'a PostgresqlAccess,
        user: &'a str,
        database: Option<&'a str>,
        stream: &TcpStream,
    ) -> Self {
        Self {
            host: &access.host,
            port: access.port,
            user,
            database,
            mode: access.tls.mode,
            own_address: stream.local_addr().ok().map(|own| own.ip()),
        }
    }
}

/// The failure of a handshake, once the address had answered.
pub(crate) fn connect_failure(error: &tokio_postgres::Error, attempt: &Attempt<'_>) -> Failure {
    match error.as_db_error() {
        Some(db) => refused_by_server(db.code().code(), db.message(), attempt),
        None => handshake_failure(error, attempt),
    }
}

/// The failure of a handshake of which the server says nothing.
pub(crate) fn handshake_failure(
    error: &(dyn std::error::Error + 'static),
    attempt: &Attempt<'_>,
) -> Failure {
    let Attempt { host, port, .. } = attempt;
    let causes = causes(error);
    if causes.contains("server does not support TLS") {
        return no_tls(attempt);
    }
    if let Some(tls) = tls_cause(error) {
        let reason = match tls {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Reason::TlsVerificationFailed
            }
            _ => Reason::TlsRefused,
        };
        return Failure::new(reason, format!("{host}:{port}: {tls}"));
    }
    if causes.contains("password missing") {
        return no_password(attempt);
    }
    if NO_POSTGRESQL.iter().any(|words| causes.contains(words)) {
        let message = format!("{host}:{port}: what is there does not answer as PostgreSQL does");
        return Failure::new(Reason::ServerUnreachable, message).with_hint(
            "Check host and port: another service may listen there, or a proxy whose server is away.",
        );
    }
    Failure::new(Reason::ServerGoneAway, format!("{host}:{port}: {causes}"))
}

/// The server cannot do what the mode wants.
pub(crate) fn no_tls(attempt: &Attempt<'_>) -> Failure {
    let Attempt { host, port, mode, .. } = attempt;
    let message = format!("{host}:{port}: the server does not speak TLS, and the mode is {mode:?}");
    Failure::new(Reason::TlsRefused, message)
}

/// The server asks for a password.
pub(crate) fn no_password(attempt: &Attempt<'_>) -> Failure {
    let Attempt { host, port, user, .. } = attempt;
    let message =
        format!("{host}:{port}: the server asks {user} for a password, and there is none");
    Failure::new(Reason::WrongPassword, message)
}

/// The failure of a handshake that the server ends, by its SQLSTATE and its words.
pub(crate) fn refused_by_server(code: &str, text: &str, attempt: &Attempt<'_>) -> Failure {
    let message = format!("{}:{}: {text}", attempt.host, attempt.port);
    let failure = failure_of_code(code, text, message);
    match failure.reason {
        Reason::NoPgHbaEntry => {
            let line = pg_hba_line(text, attempt);
            let hint = format!("Add this line to pg_hba.conf and reload the server: {line}");
            failure.with_hint(hint)
        }
        _ => failure,
    }
}

/// What `tokio-postgres`, and we for replication, say where the other side's first bytes are no
/// message of the protocol, or there are none.
const NO_POSTGRESQL: [&str; 6] = [
    "early eof",
    "bytes remaining on stream",
    "invalid message length",
    "unexpected message",
    "does not speak as PostgreSQL does",
    "has ended the connection",
];

/// The line that would have let this connection in.
///
/// The server's message names the address that it saw; ours may have been
/// translated on the way.
fn pg_hba_line(message: &str, attempt: &Attempt<'_>) -> String {
    let seen = message
        .split(['"', '»', '«', '“', '”', '\''])
        .find_map(|part| part.parse::<std::net::IpAddr>().ok());
    let address = match seen.or(attempt.own_address) {
        Some(address @ std::net::IpAddr::V4(_)) => format!("{address}/32"),
        Some(address) => format!("{address}/128"),
        None => "0.0.0.0/0".to_owned(),
    };
    let kind = if attempt.mode == TlsMode::Disable { "host" } else { "hostssl" };
    // Without TLS the server would only be reached by a line that allows both.
    let kind = if attempt.mode == TlsMode::Prefer { "host" } else { kind };
    format!(
        "{kind} {} {} {address} scram-sha-256",
        attempt.database.map_or_else(|| "replication".to_owned(), hba_name),
        hba_name(attempt.user)
    )
}

/// A name as `pg_hba.conf` wants it: in quotes where it is not a plain word.
fn hba_name(name: &str) -> String {
    let plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !matches!(name, "all" | "sameuser" | "samerole" | "samegroup" | "replication");
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn tls_cause(error: &(dyn std::error::Error + 'static)) -> Option<rustls::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        // An I/O error hides what it wraps from `source`.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = wrapped.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls.clone());
        }
        source = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_what_the_server_saw() {
        let attempt = Attempt {
            host: "db",
            port: 5432,
            user: "backup user",
            database: Some("shop"),
            mode: TlsMode::Prefer,
            own_address: None,
        };
        let message = "no pg_hba.conf entry for host \"10.1.2.3\", user \"backup user\", …";
        assert_eq!(
            pg_hba_line(message, &attempt),
            "host shop \"backup user\" 10.1.2.3/32 scram-sha-256"
        );
    }
}
