//! Requests: who is trusted, how long an answer may take, and what comes instead of one.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use dbbackup_storage::Limits;
use futures::StreamExt as _;
use http::HeaderMap;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use crate::failure::{Failed, Refused};

/// Servers close what idles; what is sent into a connection that is just being closed fails.
const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// A service that gives credentials may take a second or two.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(20);
/// What is read of an answer that says that something failed, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// A client, with the limits of one place.
#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    limits: Limits,
}

/// An answer that says that all went well.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    response: HttpResponse,
}

impl Http {
    /// A client that trusts these authorities (PEM) alone, or the system's.
    ///
    /// # Errors
    /// What is wrong with the authorities.
    pub(crate) fn new(ca_pem: Option<&[u8]>, limits: Limits) -> Result<Self, String> {
        Ok(Self { client: client(ca_pem, limits.connect)?, limits })
    }

    /// Waits for the answer to a request that sends so many bytes. `Err(Ok(…))` is an
    /// answer that says that it failed: status, headers and body.
    pub(crate) async fn send(
        &self,
        request: HttpRequest,
    ) -> Result<Answer, Result<(u16, HeaderMap, Bytes), Failed>> {
        let sending = request.body().content_length() as u64 / self.limits.slowest_upload.max(1);
        let limit = self.limits.silence + Duration::from_secs(sending);
        let response = match tokio::time::timeout(limit, self.client.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Err(Failed::undelivered(&error))),
            Err(_) => return Err(Err(Failed::silent(limit))),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = Answer { headers: headers.clone(), response };
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.body(answer, MAX_REFUSAL).await.unwrap_or_default();
        Err(Ok((status.as_u16(), headers, body)))
    }

    /// The bytes of an answer.
    ///
    /// # Errors
    /// It broke off, or has more than `most` bytes (`Truncated`).
    pub(crate) async fn body(&self, answer: Answer, most: usize) -> Result<Bytes, Failed> {
        let said = answer.headers.get(http::header::CONTENT_LENGTH);
        let said = said.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if let Some(length) = said.filter(|length| *length > most) {
            return Err(Failed::too_large(length));
        }
        let mut bytes = BytesMut::with_capacity(said.unwrap_or(0));
        let mut stream = answer.response.into_body().bytes_stream();
        loop {
            match tokio::time::timeout(self.limits.silence, stream.next()).await {
                Ok(Some(Ok(part))) if bytes.len() + part.len() > most => {
                    return Err(Failed::too_large(bytes.len() + part.len()));
                }
                Ok(Some(Ok(part))) => bytes.extend_from_slice(&part),
                Ok(Some(Err(error))) => return Err(Failed::broken(&error)),
                Ok(None) => return Ok(bytes.freeze()),
                Err(_) => return Err(Failed::silent(self.limits.silence)),
            }
        }
    }
}

/// Goes by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, as all other programs do.
fn client(ca_pem: Option<&[u8]>, connect: Duration) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent("dbbackup")
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE_LIMIT)
        // One connection for everything would be as fast as one.
        .http1_only()
        .redirect(reqwest::redirect::Policy::none());
    if let Some(pem) = ca_pem {
        let unreadable = |error| format!("the CA is no PEM: {error}");
        let trusted = reqwest::Certificate::from_pem_bundle(pem).map_err(unreadable)?;
        if trusted.is_empty() {
            return Err("the CA's file holds no certificate (PEM)".to_owned());
        }
        builder = builder.tls_certs_only(trusted);
    }
    builder.build().map_err(|error| format!("the CA is no certificate: {error}"))
}

/// Reaches the services that give credentials. They are the clouds' own: the CA of
/// the storage says nothing of them.
#[derive(Debug)]
pub(crate) struct Credentialing;

impl HttpConnector for Credentialing {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = client(None, CREDENTIALS_LIMIT / 2).map_err(|error| {
            object_store::Error::Generic { store: "credentials", source: error.into() }
        })?;
        Ok(HttpClient::new(Patient(client)))
    }
}

#[derive(Debug)]
struct Patient(reqwest::Client);

#[async_trait]
impl HttpService for Patient {
    /// A refusal becomes an error of ours: the library's own does not give its status.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Ok(answered) = tokio::time::timeout(CREDENTIALS_LIMIT, self.0.call(request)).await
        else {
            return Err(HttpError::new(HttpErrorKind::Timeout, Refused::default()));
        };
        let response = answered?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.unwrap_or_default();
        let words = String::from_utf8_lossy(&body[..body.len().min(MAX_REFUSAL)]).into_owned();
        Err(HttpError::new(HttpErrorKind::Unknown, Refused { status, words }))
    }
}
