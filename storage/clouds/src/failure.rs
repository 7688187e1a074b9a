//! What a failed request means under the contract.

use std::error::Error as StdError;
use std::time::Duration;

use dbbackup_storage::{Error, ErrorKind, Operation, causes, on_one_line, server_says};
use http::HeaderMap;

/// A request that failed, before it is known what it was for.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) kind: ErrorKind,
    /// The status of the answer; 0 where there was none.
    pub(crate) status: u16,
    /// The service's own word for it; empty where there was none.
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) retry_after: Option<Duration>,
}

/// What a service says of a failure.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Failed {
    /// The failure of this operation.
    pub(crate) fn of(self, operation: Operation, name: impl Into<String>) -> Error {
        Error::new(self.kind, operation, name, self.detail).retry_after(self.retry_after)
    }

    /// A failure in our words.
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, status: 0, code: String::new(), detail: detail.into(), retry_after: None }
    }

    /// An answer with a status that is no success. `meaning` says what its code means,
    /// and what we add to the service's words; where it does not know it, the status
    /// decides.
    pub(crate) fn answered(
        status: u16,
        headers: &HeaderMap,
        said: Said,
        meaning: Option<(ErrorKind, &str)>,
    ) -> Self {
        let Said { code, message } = said;
        let (kind, ours) = meaning.unwrap_or_else(|| by_status(status));
        let detail = server_says(ours, status, &code, &message);
        let pause = headers.get(http::header::RETRY_AFTER);
        let pause = pause.and_then(|text| text.to_str().ok()?.trim().parse().ok());
        let retry_after = pause.map(Duration::from_secs);
        Self { kind, status, code, detail: on_one_line(&detail), retry_after }
    }

    /// No answer came within this time.
    pub(crate) fn silent(limit: Duration) -> Self {
        let text = format!("no answer for {} s", limit.as_secs().max(1));
        Self::new(ErrorKind::Unavailable, text)
    }

    /// The answer broke off.
    pub(crate) fn broken(error: &(dyn StdError + 'static)) -> Self {
        Self::new(ErrorKind::Unavailable, format!("the answer broke off: {}", told(error)))
    }

    /// There are more bytes than was asked for.
    pub(crate) fn too_large(length: usize) -> Self {
        let text = format!("{length} bytes are more than any object has");
        Self::new(ErrorKind::Truncated, text)
    }

    /// No answer came to a request.
    pub(crate) fn undelivered(error: &(dyn StdError + 'static)) -> Self {
        let tls = causes(error).find_map(|error| error.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidMessage(_)) => {
                Self::new(ErrorKind::Misconfigured, "the endpoint does not speak TLS (https)")
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                let text = format!("the server's certificate is not accepted: {why:?}");
                Self::new(ErrorKind::Misconfigured, text)
            }
            _ => Self::new(ErrorKind::Unavailable, told(error)),
        }
    }

    /// There are no credentials to sign a request with.
    pub(crate) fn without_credentials(error: &(dyn StdError + 'static)) -> Self {
        let refused = causes(error).find_map(|error| error.downcast_ref::<Refused>());
        match refused {
            Some(refused) if matches!(refused.status, 400..=404) => {
                let text = format!("no credentials are given to us: {refused}");
                Self::new(ErrorKind::PermissionDenied, on_one_line(&text))
            }
            Some(refused) => {
                let text = format!("no credentials could be had: {refused}");
                Self::new(ErrorKind::Unavailable, on_one_line(&text))
            }
            None => Self::new(
                ErrorKind::Unavailable,
                format!("the service that gives credentials does not answer: {}", told(error)),
            ),
        }
    }
}

/// What a service that gives credentials says when it gives none.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// 0 where it said nothing in time.
    pub(crate) status: u16,
    pub(crate) words: String,
}

impl StdError for Refused {}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            0 => f.write_str("it is silent"),
            status => write!(f, "the service that gives them says {status}: {}", self.words),
        }
    }
}

/// What a status means with a word that is not known, or without one.
fn by_status(status: u16) -> (ErrorKind, &'static str) {
    match status {
        401 | 403 => (ErrorKind::PermissionDenied, "these credentials may not do that"),
        404 => (ErrorKind::NotFound, ""),
        416 => (ErrorKind::Truncated, ""),
        400 => (ErrorKind::Unsuitable, "the server refuses the request"),
        405 | 501 => (ErrorKind::Unsuitable, "the server cannot do that"),
        507 => (ErrorKind::Full, ""),
        429 => (ErrorKind::Unavailable, "the server asks for fewer requests"),
        408 | 409 | 425 | 500.. => (ErrorKind::Unavailable, ""),
        _ => (ErrorKind::Misconfigured, "that is no such service"),
    }
}

/// A failure in the words of its causes.
fn told(error: &(dyn StdError + 'static)) -> String {
    let empty = ["error sending request", "client error (Connect)", "client error (SendRequest)"];
    let text = dbbackup_storage::told(error, &empty);
    text.trim_start_matches("HTTP error: error sending request: ").to_owned()
}
