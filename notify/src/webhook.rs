//! One POST to an address.

use std::time::Duration;

use dbbackup_contract::{Failure, Notice, Reason, SecretString, WebhookFormat};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, StatusCode, Url, redirect};
use serde::Serialize;

use crate::signature::SigningKey;
use crate::trust::{tls_fault, unproved};
use crate::{answer, invalid, words};

/// A receiver that runs takes a connection sooner.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A webhook. Its address may hold a secret, so it is one.
#[derive(Debug)]
pub struct Webhook {
    /// Its address.
    pub url: SecretString,
    /// What it is sent.
    pub format: WebhookFormat,
    /// The value of the header `Authorization`.
    pub authorization: Option<SecretString>,
    /// The key that signs what is sent.
    pub signing_key: Option<SecretString>,
    /// The CA's certificates (PEM); the system's CAs where absent.
    pub ca: Option<Vec<u8>>,
}

/// A request that is ready.
pub(crate) struct Prepared {
    client: Client,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
    /// `the webhook at hooks.example.com`: more of the address is told to nobody.
    who: String,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    notice: &'a Notice,
    /// The same, for people.
    text: String,
}

#[derive(Serialize)]
struct Chat {
    text: String,
}

impl Webhook {
    pub(crate) fn prepare(&self, notice: &Notice) -> Result<Prepared, Failure> {
        let url = address(&self.url)?;
        let who = format!("the webhook at {}", url.host_str().unwrap_or_default());
        let body = match self.format {
            WebhookFormat::Generic => {
                serde_json::to_vec(&Body { notice, text: words::sentence(notice) })
            }
            WebhookFormat::Slack => serde_json::to_vec(&Chat { text: words::chat(notice) }),
        };
        let body = body.map_err(|error| Failure::new(Reason::Internal, error.to_string()))?;
        Ok(Prepared {
            client: client(self.ca.as_deref())?,
            url,
            headers: self.headers(notice, &body)?,
            body,
            who,
        })
    }

    fn headers(&self, notice: &Notice, body: &[u8]) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).map_err(|_| {
                Failure::new(Reason::Internal, format!("the header {name} cannot be written"))
            })?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<_, Failure>(())
        };
        let now = jiff::Timestamp::now().as_second();
        set("webhook-id", &notice.id)?;
        set("webhook-timestamp", &now.to_string())?;
        if let Some(key) = &self.signing_key {
            set("webhook-signature", &SigningKey::read(key)?.sign(&notice.id, now, body))?;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            let mut value = HeaderValue::from_str(authorization.expose())
                .map_err(|_| invalid("the value of the header Authorization is not one line"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

fn address(url: &SecretString) -> Result<Url, Failure> {
    let none = || invalid("the webhook's address is no URL of http:// or https://");
    let url = Url::parse(url.expose()).map_err(|_| none())?;
    let fits = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    if fits { Ok(url) } else { Err(none()) }
}

/// Goes by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, as all other programs do. It follows
/// nobody elsewhere: what is sent is for the address that was written down.
fn client(ca: Option<&[u8]>) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .user_agent("dbbackup")
        .connect_timeout(CONNECT_LIMIT)
        .http1_only()
        .redirect(redirect::Policy::none());
    if let Some(pem) = ca {
        let none = |_| invalid("the CA of the webhook holds no certificate in PEM");
        let trusted = Certificate::from_pem_bundle(pem).map_err(none)?;
        if trusted.is_empty() {
            return Err(invalid("the CA of the webhook holds no certificate in PEM"));
        }
        builder = builder.tls_certs_only(trusted);
    }
    builder.build().map_err(|_| invalid("the CA of the webhook holds what is no certificate"))
}

impl Prepared {
    pub(crate) fn who(&self) -> &str {
        &self.who
    }

    pub(crate) async fn send(self) -> Result<(), Failure> {
        let Self { client, url, headers, body, who } = self;
        let request = client.post(url.clone()).headers(headers).body(body).build();
        let request = request.map_err(|error| undelivered(&who, error))?;
        // Also what is made of a user and a password in the address.
        let authorization = request.headers().get(AUTHORIZATION).cloned();
        let mut response = match client.execute(request).await {
            Ok(response) => response,
            Err(error) => return Err(undelivered(&who, error)),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let mut said = Vec::new();
        while said.len() < answer::MOST_READ
            && let Ok(Some(part)) = response.chunk().await
        {
            said.extend_from_slice(&part[..part.len().min(answer::MOST_READ - said.len())]);
        }
        let query = url.query_pairs().map(|(_, value)| value.into_owned()).collect::<Vec<_>>();
        let words = authorization.as_ref().and_then(|it| it.to_str().ok()).unwrap_or_default();
        let secrets = url
            .path_segments()
            .into_iter()
            .flatten()
            .chain(query.iter().map(String::as_str))
            .chain(url.password())
            .chain(words.split_whitespace());
        Err(refused(&who, status, &answer::told(&said, secrets)))
    }
}

/// What another try may change is retried: an overloaded or broken receiver, and one that
/// asks for patience.
fn refused(who: &str, status: StatusCode, answer: &str) -> Failure {
    let message = format!("{who} answered with status {}{answer}", status.as_u16());
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Failure::new(Reason::NotificationFailed, message)
        }
        _ if status.is_server_error() => Failure::new(Reason::NotificationFailed, message),
        _ if status.is_redirection() => {
            let message = format!("{message}: redirects are not followed");
            Failure::new(Reason::NotificationRefused, message)
                .with_hint("Write the address down that it leads to.")
        }
        _ => Failure::new(Reason::NotificationRefused, message),
    }
}

fn undelivered(who: &str, error: reqwest::Error) -> Failure {
    // The address is in its words otherwise.
    let error = error.without_url();
    if let Some(fault) = tls_fault(&error) {
        return unproved(who, fault);
    }
    // The innermost cause says most: "connection refused", "failed to lookup address".
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = words::plain(&cause.to_string(), 200);
    Failure::new(Reason::NotificationFailed, format!("{who} cannot be reached: {cause}"))
}
