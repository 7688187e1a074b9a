//! A connection by the replication protocol: TLS, who we are, and what the server is.
//!
//! `tokio-postgres` can neither ask for such a connection nor carry a copy in both directions,
//! so this is the handshake of <https://www.postgresql.org/docs/current/protocol-flow.html>, with
//! the parts of it that are delicate (SCRAM, MD5) from `postgres-protocol`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dbbackup_contract::{Failure, Reason, SecretString, TlsMode};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5912;

use super::session::ReplicationSession;
use super::wire::{ServerError, Wire, WireError, long, text};
use crate::ServerConnection;
use crate::connection::{APPLICATION_NAME, connect_tcp, in_time, plain_may_help, reach};
use crate::credentials::Credentials;
use crate::errors::{Attempt, handshake_failure, no_password, no_tls, refused_by_server};
use crate::tls::{TlsMaterial, client_config};
use crate::versions::known_server;

impl ReplicationSession {
    /// Connects for physical replication.
    ///
    /// # Errors
    /// As for any connection; `NoPgHbaEntry` with the line that lets replication in.
    pub(crate) async fn open(server: &ServerConnection) -> Result<Self, Failure> {
        in_time(server, open(server)).await
    }
}

async fn open(server: &ServerConnection) -> Result<ReplicationSession, Failure> {
    let access = &server.access;
    let credentials = Credentials::read(&access.credentials)?;
    let material = TlsMaterial::read(&access.tls)?;
    let tls = TlsConnector::from(Arc::new(client_config(&access.tls, &material)?));
    let (stream, address) = reach(server).await?;
    let attempt = Attempt::of(access, &credentials.user, None, &stream);
    let encrypted = (access.tls.mode != TlsMode::Disable).then_some(&tls);
    let failure = match start(stream, encrypted, &credentials, &attempt).await {
        Ok(session) => return Ok(session),
        Err(failure) => failure,
    };
    if plain_may_help(access.tls.mode, &failure)
        && let Ok(stream) = connect_tcp(address, server.connect_timeout).await
        && let Ok(session) = start(stream, None, &credentials, &attempt).await
    {
        return Ok(session);
    }
    Err(failure)
}

async fn start(
    stream: TcpStream,
    tls: Option<&TlsConnector>,
    credentials: &Credentials,
    attempt: &Attempt<'_>,
) -> Result<ReplicationSession, Failure> {
    let lost = |error: WireError| handshake_failure(&error, attempt);
    let (mut wire, binding) = match tls {
        None => (Wire::new(stream), None),
        Some(tls) => match encrypt(stream, tls, attempt).await? {
            Encrypted::Yes(stream) => {
                let binding = binding_of(&stream);
                (Wire::new(*stream), binding)
            }
            Encrypted::No(stream) => (Wire::new(stream), None),
        },
    };
    let parameters = [
        ("user", credentials.user.as_str()),
        ("replication", "true"),
        ("application_name", APPLICATION_NAME),
    ];
    wire.send(|out| frontend::startup_message(parameters, out)).await.map_err(lost)?;
    authenticate(&mut wire, credentials, binding.as_deref(), attempt).await?;
    let version = until_ready(&mut wire, attempt).await?;
    let major = known_server(&version)?;
    Ok(ReplicationSession::new(wire, major))
}

enum Encrypted {
    Yes(Box<TlsStream<TcpStream>>),
    /// The server cannot, and TLS is only preferred.
    No(TcpStream),
}

async fn encrypt(
    mut stream: TcpStream,
    tls: &TlsConnector,
    attempt: &Attempt<'_>,
) -> Result<Encrypted, Failure> {
    let io = |error: std::io::Error| handshake_failure(&WireError::from(error), attempt);
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(io)?;
    // One byte alone: what comes unasked behind it was put there by somebody else
    // (CVE-2021-23222), and the TLS handshake fails on it.
    match stream.read_u8().await.map_err(io)? {
        b'S' => {
            let name = ServerName::try_from(attempt.host.to_owned()).map_err(|error| {
                let message = format!("{}: {error}", attempt.host);
                Failure::new(Reason::TlsVerificationFailed, message)
            })?;
            Ok(Encrypted::Yes(Box::new(tls.connect(name, stream).await.map_err(io)?)))
        }
        b'N' if attempt.mode == TlsMode::Prefer => Ok(Encrypted::No(stream)),
        b'N' => Err(no_tls(attempt)),
        _ => Err(handshake_failure(&WireError::Malformed("it knows nothing of TLS"), attempt)),
    }
}

/// What binds a password's proof to this very TLS connection (RFC 5929,
/// `tls-server-end-point`): the certificate's digest by the hash of its signature, MD5 and SHA-1
/// replaced by SHA-256. `None` of signatures without such a hash.
fn binding_of(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let own = stream.get_ref().1.peer_certificates()?.first()?;
    match Certificate::from_der(own).ok()?.signature_algorithm.oid {
        rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => Some(Sha256::digest(own).to_vec()),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => {
            Some(Sha384::digest(own).to_vec())
        }
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => {
            Some(Sha512::digest(own).to_vec())
        }
        _ => None,
    }
}

async fn authenticate(
    wire: &mut Wire,
    credentials: &Credentials,
    binding: Option<&[u8]>,
    attempt: &Attempt<'_>,
) -> Result<(), Failure> {
    let lost = |error: WireError| handshake_failure(&error, attempt);
    loop {
        let mut body = authentication(wire, attempt).await?;
        match long(&mut body).map_err(lost)? {
            0 => return Ok(()),
            3 => {
                let password = password(credentials, attempt)?.expose().as_bytes();
                wire.send(|out| frontend::password_message(password, out)).await.map_err(lost)?;
            }
            5 => {
                let salt = body.first_chunk::<4>().copied();
                let salt = salt.ok_or(WireError::Malformed("a salt is missing")).map_err(lost)?;
                let password = password(credentials, attempt)?.expose();
                let hash = md5_hash(credentials.user.as_bytes(), password.as_bytes(), salt);
                let answer = |out: &mut BytesMut| frontend::password_message(hash.as_bytes(), out);
                wire.send(answer).await.map_err(lost)?;
            }
            10 => {
                let password = password(credentials, attempt)?;
                scram(wire, body, password, binding, attempt).await?;
            }
            kind => {
                let message = format!(
                    "{}:{}: the server asks for a way to authenticate that is not known here (number {kind})",
                    attempt.host, attempt.port
                );
                return Err(Failure::new(Reason::WrongPassword, message).with_hint(
                    "Let pg_hba.conf ask for scram-sha-256, or for a client certificate (cert).",
                ));
            }
        }
    }
}

/// The next `Authentication…` message, without its kind.
async fn authentication(wire: &mut Wire, attempt: &Attempt<'_>) -> Result<Bytes, Failure> {
    let lost = |error: WireError| handshake_failure(&error, attempt);
    loop {
        let message = wire.next().await.map_err(lost)?;
        match message.tag {
            b'R' => return Ok(message.body),
            b'E' => {
                let error = ServerError::of(message.body).map_err(lost)?;
                return Err(refused_by_server(&error.code, &error.text, attempt));
            }
            // Notices, and what protocol version is spoken.
            b'N' | b'v' => {}
            _ => return Err(lost(WireError::Malformed("it answers something else"))),
        }
    }
}

fn password<'a>(
    credentials: &'a Credentials,
    attempt: &Attempt<'_>,
) -> Result<&'a SecretString, Failure> {
    credentials.password.as_ref().ok_or_else(|| no_password(attempt))
}

async fn scram(
    wire: &mut Wire,
    mut offered: Bytes,
    password: &SecretString,
    binding: Option<&[u8]>,
    attempt: &Attempt<'_>,
) -> Result<(), Failure> {
    let lost = |error: WireError| handshake_failure(&error, attempt);
    let mut mechanisms = Vec::new();
    while offered.len() > 1 {
        mechanisms.push(text(&mut offered).map_err(lost)?);
    }
    let offers = |name: &str| mechanisms.iter().any(|it| it == name);
    let (binding, mechanism) = match binding {
        Some(own) if offers(SCRAM_SHA_256_PLUS) => {
            (ChannelBinding::tls_server_end_point(own.to_vec()), SCRAM_SHA_256_PLUS)
        }
        // That we could have is said, so that nobody between can have taken the offer out.
        Some(_) => (ChannelBinding::unrequested(), SCRAM_SHA_256),
        None => (ChannelBinding::unsupported(), SCRAM_SHA_256),
    };
    if !offers(mechanism) {
        return Err(lost(WireError::Malformed("it offers no SCRAM that is known")));
    }
    let mut scram = ScramSha256::new(password.expose().as_bytes(), binding);
    wire.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))
        .await
        .map_err(lost)?;
    let wrong = |error: std::io::Error| {
        let message = format!("{}:{}: SCRAM: {error}", attempt.host, attempt.port);
        Failure::new(Reason::WrongPassword, message)
    };
    let first = step(wire, 11, attempt).await?;
    scram.update(&first).map_err(wrong)?;
    wire.send(|out| frontend::sasl_response(scram.message(), out)).await.map_err(lost)?;
    // The server proves that it knows the password, too.
    let last = step(wire, 12, attempt).await?;
    scram.finish(&last).map_err(wrong)
}

/// The next message of the exchange, which has to be of this kind.
async fn step(wire: &mut Wire, kind: i32, attempt: &Attempt<'_>) -> Result<Bytes, Failure> {
    let lost = |error: WireError| handshake_failure(&error, attempt);
    let mut body = authentication(wire, attempt).await?;
    match long(&mut body).map_err(lost)? {
        found if found == kind => Ok(body),
        _ => Err(lost(WireError::Malformed("it leaves SCRAM before its end"))),
    }
}

/// Takes what the server says of itself. Gives its version.
async fn until_ready(wire: &mut Wire, attempt: &Attempt<'_>) -> Result<String, Failure> {
    let lost = |error: WireError| handshake_failure(&error, attempt);
    let mut version = String::new();
    loop {
        let mut message = wire.next().await.map_err(lost)?;
        match message.tag {
            b'S' => {
                let name = text(&mut message.body).map_err(lost)?;
                if name == "server_version" {
                    version = text(&mut message.body).map_err(lost)?;
                }
            }
            b'E' => {
                let error = ServerError::of(message.body).map_err(lost)?;
                return Err(refused_by_server(&error.code, &error.text, attempt));
            }
            b'Z' => return Ok(version),
            _ => {}
        }
    }
}
