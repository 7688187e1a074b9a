//! Connections of our own to a server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dbbackup_contract::{Failure, Reason, TlsMode};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use crate::ServerConnection;
use crate::credentials::Credentials;
use crate::errors::{Attempt, connect_failure, query_failure};
use crate::tls::{TlsMaterial, client_config};
use crate::versions::known_server;

/// What the server's list of sessions calls ours.
pub(crate) const APPLICATION_NAME: &str = "dbbackup";

/// What a server says of itself, unasked, when a connection begins.
const VERSION_PARAMETER: &str = "server_version";

/// The server notices after a minute that a client has vanished, and lets go of
/// its locks; not after the kernel's two hours.
const KEEP_ALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];
/// The same for a client that vanishes while the server has unsent data for it.
/// Linux also counts how long a client that lives takes nothing: this is not for a
/// dump, which waits as long as the repository may.
const UNSENT_LIMIT: (&str, &str) = ("tcp_user_timeout", "60s");

/// The keep-alives as what a connection may ask for when it begins: for a dump.
pub(crate) fn keep_alive_options() -> String {
    let options = KEEP_ALIVES.map(|(name, value)| format!("-c {name}={value}"));
    options.join(" ")
}

/// The keep-alives as statements, on one line: for sessions that take what they get.
pub(crate) fn keep_alive_statements() -> String {
    let all = KEEP_ALIVES.iter().chain([&UNSENT_LIMIT]);
    all.map(|(name, value)| format!("SET {name} = '{value}'; ")).collect()
}

/// For our session only: limits that the server's owner set for applications
/// must not cut a backup short, names are never looked up in a foreign schema,
/// and we never wait long for a lock.
const SESSION_SETTINGS: &str = "
    SET statement_timeout = 0;
    SET lock_timeout = '30s';
    SET idle_in_transaction_session_timeout = 0;
    SET default_transaction_read_only = off;
    SET client_min_messages = error;
    SET search_path = pg_catalog;
    SET datestyle = 'ISO, YMD';
    SET standard_conforming_strings = on;
    SELECT set_config(name, '0', false) FROM pg_settings
        WHERE name IN ('idle_session_timeout', 'transaction_timeout');
    SELECT pg_backend_pid()";

/// A connection, and when it is lost.
pub(crate) struct Session {
    client: Client,
    lost: CancellationToken,
    /// What the server calls its version: `17.11 (Debian 17.11-0+deb13u1)`.
    pub(crate) version: String,
    /// `17`: one of those that are known.
    pub(crate) major: u32,
    /// Its process on the server: what the server's list of sessions calls it.
    pub(crate) pid: i32,
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Session {
    /// Connects to `database`.
    pub(crate) async fn open(server: &ServerConnection, database: &str) -> Result<Self, Failure> {
        Self::open_with(server, database, "").await
    }

    /// Connects to `database`, and asks for settings from the beginning on.
    pub(crate) async fn open_with(
        server: &ServerConnection,
        database: &str,
        options: &str,
    ) -> Result<Self, Failure> {
        in_time(server, open(server, database, options)).await
    }

    /// Connects to a server that runs beside this process, by its socket. It asks for no password.
    pub(crate) async fn open_local(
        socket: &Path,
        role: &str,
        database: &str,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let opening = open_local(socket, role, database);
        tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            let message = "the recovered server takes a connection and then does not answer";
            Err(Failure::new(Reason::ServerUnreachable, message))
        })
    }

    /// Ends when the connection is lost.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Runs statements that give no rows.
    pub(crate) async fn run(&self, sql: &str, doing: &str) -> Result<(), Failure> {
        self.client.batch_execute(sql).await.map_err(|error| query_failure(&error, doing))
    }
}

async fn open_local(socket: &Path, role: &str, database: &str) -> Result<Session, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let message = format!("the recovered server's socket {}: {error}", socket.display());
        Failure::new(Reason::ServerUnreachable, message)
    })?;
    let mut config = Config::new();
    config.user(role).dbname(database).application_name(APPLICATION_NAME);
    config.ssl_mode(SslMode::Disable);
    let attempt = Attempt {
        host: "the recovered server",
        port: 5432,
        user: role,
        database: Some(database),
        mode: TlsMode::Disable,
        own_address: None,
    };
    begin(stream, &config, NoTls, &attempt).await
}

async fn open(
    server: &ServerConnection,
    database: &str,
    options: &str,
) -> Result<Session, Failure> {
    let access = &server.access;
    let credentials = Credentials::read(&access.credentials)?;
    let material = TlsMaterial::read(&access.tls)?;
    let mut config = Config::new();
    config.user(&credentials.user).dbname(database).application_name(APPLICATION_NAME);
    if !options.is_empty() {
        config.options(options);
    }
    if let Some(password) = &credentials.password {
        config.password(password.expose());
    }
    config.ssl_mode(match access.tls.mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    let tls = MakeRustlsConnect::new(client_config(&access.tls, &material)?);
    let (stream, address) = reach(server).await?;
    let attempt = Attempt::of(access, &credentials.user, Some(database), &stream);
    let failure = match start(stream, &config, tls.clone(), &attempt).await {
        Ok(session) => return Ok(session),
        Err(failure) => failure,
    };
    if plain_may_help(access.tls.mode, &failure)
        && let Ok(stream) = connect_tcp(address, server.connect_timeout).await
    {
        config.ssl_mode(SslMode::Disable);
        if let Ok(session) = start(stream, &config, tls, &attempt).await {
            return Ok(session);
        }
    }
    Err(failure)
}

/// Waits for a connection, but not for ever.
///
/// # Errors
/// `ServerUnreachable` where nothing comes after the address has answered; those of `opening`.
pub(crate) async fn in_time<T>(
    server: &ServerConnection,
    opening: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (host, port) = (&server.access.host, server.access.port);
    match tokio::time::timeout(server.connect_timeout * 2, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(Failure::new(
            Reason::ServerUnreachable,
            format!("{host}:{port} accepts connections and then does not answer"),
        )),
    }
}

/// A connection to the first address of a server that takes one.
pub(crate) async fn reach(server: &ServerConnection) -> Result<(TcpStream, SocketAddr), Failure> {
    let access = &server.access;
    let mut last = None;
    for address in addresses(&access.host, access.port).await? {
        match connect_tcp(address, server.connect_timeout).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => {
                last = Some(Failure::new(
                    Reason::ServerUnreachable,
                    format!("{}:{} ({address}): {error}", access.host, access.port),
                ));
            }
        }
    }
    Err(last.unwrap_or_else(|| host_not_found(&access.host, "it has no address")))
}

/// As libpq: where TLS is only preferred, a server that refuses it (by `pg_hba.conf`, or in the
/// handshake) is asked again without.
pub(crate) fn plain_may_help(mode: TlsMode, failure: &Failure) -> bool {
    mode == TlsMode::Prefer
        && matches!(
            failure.reason,
            Reason::NoPgHbaEntry | Reason::TlsRefused | Reason::TlsVerificationFailed
        )
}

async fn start(
    stream: TcpStream,
    config: &Config,
    mut tls: MakeRustlsConnect,
    attempt: &Attempt<'_>,
) -> Result<Session, Failure> {
    if config.get_ssl_mode() == SslMode::Disable {
        return begin(stream, config, NoTls, attempt).await;
    }
    let connector =
        <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::make_tls_connect(&mut tls, attempt.host)
            .map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
    begin(stream, config, connector, attempt).await
}

/// A session over a stream that leads to the server.
async fn begin<S, T>(
    stream: S,
    config: &Config,
    tls: T,
    attempt: &Attempt<'_>,
) -> Result<Session, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S>,
    T::Stream: Send + 'static,
{
    let connected = config.connect_raw(stream, tls).await;
    let (client, connection) = connected.map_err(|error| connect_failure(&error, attempt))?;
    let version = connection.parameter(VERSION_PARAMETER).unwrap_or_default().to_owned();
    let lost = CancellationToken::new();
    let guard = lost.clone().drop_guard();
    tokio::spawn(async move {
        let _guard = guard;
        // How it ended is told to whoever waits for an answer.
        let _ = connection.await;
    });
    // Before the first statement: another server may not understand even those.
    let major = known_server(&version)?;
    let pid = set_up(&client).await?;
    Ok(Session { client, lost, version, major, pid })
}

/// Makes the session ours; returns its process on the server.
async fn set_up(client: &Client) -> Result<i32, Failure> {
    let doing = "setting up the session";
    let answers = client
        .simple_query(&format!("{}{SESSION_SETTINGS}", keep_alive_statements()))
        .await
        .map_err(|error| query_failure(&error, doing))?;
    let last = answers.iter().rev().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    last.ok_or_else(|| Failure::new(Reason::Internal, format!("{doing}: no process was named")))
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    match lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(host_not_found(host, &error.to_string())),
    }
}

fn host_not_found(host: &str, why: &str) -> Failure {
    Failure::new(Reason::HostNotFound, format!("host {host} is not known: {why}"))
}

pub(crate) async fn connect_tcp(
    address: SocketAddr,
    limit: Duration,
) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A peer that vanished must be noticed, however long nothing is said: after
    // a minute, not after the kernel's two hours.
    socket.set_keepalive(true)?;
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(&socket, 3)?;
    socket.set_nodelay(true)?;
    match tokio::time::timeout(limit, socket.connect(address)).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}
