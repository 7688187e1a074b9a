//! What a failed request means under the contract.
//!
//! The source of codes and their status: "Error responses" of the Amazon S3 API
//! reference; codes of other servers are marked.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use dbbackup_storage::{Error, ErrorKind, Operation, causes, on_one_line, server_says};

/// A request that failed, before it is known what it was for.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) kind: ErrorKind,
    /// The status of the answer; 0 where there was none.
    pub(crate) status: u16,
    /// S3's own word for it; empty where there was none.
    pub(crate) code: String,
    detail: String,
    retry_after: Option<Duration>,
}

impl Failed {
    /// The failure of this operation.
    pub(crate) fn of(self, operation: Operation, name: impl Into<String>) -> Error {
        Error::new(self.kind, operation, name, self.detail).retry_after(self.retry_after)
    }

    /// The same, as the answer to a request that S3 never answers without a word.
    pub(crate) fn with_a_word(mut self) -> Self {
        if self.code.is_empty() && matches!(self.status, 300..=400 | 404..=406 | 410) {
            self.kind = ErrorKind::Misconfigured;
            self.detail = format!("what answers there is no S3 server (status {})", self.status);
        }
        self
    }

    /// No answer came within this time.
    pub(crate) fn silent(limit: Duration) -> Self {
        let text = format!("no answer for {} s", limit.as_secs().max(1));
        Self::without_answer(ErrorKind::Unavailable, text)
    }

    /// The answer broke off.
    pub(crate) fn broken(error: &(dyn StdError + 'static)) -> Self {
        Self::without_answer(
            ErrorKind::Unavailable,
            format!("the answer broke off: {}", told(error)),
        )
    }

    fn without_answer(kind: ErrorKind, detail: String) -> Self {
        Self { kind, status: 0, code: String::new(), detail, retry_after: None }
    }

    /// Whether the server met a precondition of ours that does not hold.
    pub(crate) fn is_exists(&self) -> bool {
        self.status == 412 || self.code == "PreconditionFailed"
    }

    /// Whether another write of the same object was under way: this one had no effect.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code == "ConditionalRequestConflict"
    }

    /// Whether the server knows nothing of what a header asks for.
    pub(crate) fn is_refused_header(&self) -> bool {
        let codes = ["NotImplemented", "InvalidArgument", "InvalidRequest"];
        self.status == 501 || (self.status == 400 && codes.contains(&self.code.as_str()))
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failed
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match &error {
            SdkError::ServiceError(answered) => Self::from(Answer {
                status: answered.raw().status().as_u16(),
                code: answered.err().code().unwrap_or_default().to_owned(),
                message: answered.err().message().unwrap_or_default().to_owned(),
                header: &|name| answered.raw().headers().get(name),
            }),
            SdkError::ResponseError(unreadable) => {
                let status = unreadable.raw().status();
                let kind = if status.is_success() || status.is_server_error() {
                    ErrorKind::Unavailable
                } else {
                    ErrorKind::Misconfigured
                };
                let text = told(&error);
                Self::without_answer(kind, format!("the answer is none of S3's ({status}): {text}"))
            }
            _ => undelivered(&error),
        }
    }
}

/// What a server answered.
struct Answer<'a> {
    status: u16,
    code: String,
    message: String,
    header: &'a dyn Fn(&'static str) -> Option<&'a str>,
}

impl From<Answer<'_>> for Failed {
    fn from(answer: Answer<'_>) -> Self {
        let Answer { status, code, message, header } = answer;
        let (kind, ours) = meaning(status, &code);
        let mut detail = server_says(ours, status, &code, &message);
        if kind == ErrorKind::Misconfigured
            && let Some(region) = header("x-amz-bucket-region")
        {
            let _ = write!(detail, " (the bucket's region is {region})");
        }
        let retry_after = header("retry-after").and_then(|text| pause(text, SystemTime::now()));
        Self { kind, status, code, detail: on_one_line(&detail), retry_after }
    }
}

/// What an error of S3 means, and what we add to the server's own words.
fn meaning(status: u16, code: &str) -> (ErrorKind, &'static str) {
    use ErrorKind::{
        Full, Misconfigured, Misuse, NotFound, PermissionDenied, Truncated, Unavailable, Unsuitable,
    };
    match code {
        "NoSuchKey" => (NotFound, ""),
        "NoSuchBucket" => (Misconfigured, "there is no such bucket"),
        "InvalidBucketName" => (Misconfigured, "no bucket can have this name"),
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            (Misconfigured, "the bucket lies in another region or at another endpoint")
        }
        "InvalidStorageClass" => (Misconfigured, "the server has no such storage class"),
        "KMS.NotFoundException" | "KMS.DisabledException" | "InvalidEncryptionAlgorithmError" => {
            (Misconfigured, "the server cannot encrypt in this way")
        }
        // The second: Versity's gateway, with the status 404.
        "InvalidAccessKeyId" | "XAdminUserNotFound" => {
            (PermissionDenied, "the server does not know this access key")
        }
        "SignatureDoesNotMatch" => {
            (PermissionDenied, "the secret access key does not belong to the access key")
        }
        "ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException" => {
            (PermissionDenied, "the credentials have expired")
        }
        "InvalidToken" | "InvalidSecurity" | "UnrecognizedClientException" => {
            (PermissionDenied, "the session token is not valid")
        }
        "RequestTimeTooSkewed" | "RequestExpired" => {
            (PermissionDenied, "this machine's clock and the server's differ by minutes")
        }
        "AccessDenied" => (PermissionDenied, "these credentials may not do that"),
        "InvalidObjectState" => (Unsuitable, "the object lies in an archive; order it back first"),
        "EntityTooLarge" => (Unsuitable, "the server takes no object of this size"),
        "InvalidRange" => (Truncated, ""),
        "KeyTooLongError" => (Misuse, ""),
        // The second and third: MinIO.
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => (Full, ""),
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => (Unavailable, "the server asks for fewer requests"),
        // What was sent was cut or changed on its way.
        "RequestTimeout"
        | "IncompleteBody"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "ConditionalRequestConflict"
        | "OperationAborted" => (Unavailable, ""),
        _ if status == 400 && !code.is_empty() => (Unsuitable, "the server refuses the request"),
        _ => by_status(status),
    }
}

/// What a status means without a word of S3, as after a HEAD, or with one that is not known.
fn by_status(status: u16) -> (ErrorKind, &'static str) {
    match status {
        301 => {
            (ErrorKind::Misconfigured, "the bucket lies in another region or at another endpoint")
        }
        400 => (
            ErrorKind::PermissionDenied,
            "the request is refused: expired credentials, or a wrong region",
        ),
        401 | 403 => (ErrorKind::PermissionDenied, "these credentials may not do that"),
        404 => (ErrorKind::NotFound, ""),
        416 => (ErrorKind::Truncated, ""),
        405 | 501 => (ErrorKind::Unsuitable, "the server cannot do that"),
        507 => (ErrorKind::Full, ""),
        307 | 408 | 409 | 425 | 429 | 500.. => (ErrorKind::Unavailable, ""),
        _ => (ErrorKind::Misconfigured, ""),
    }
}

/// A request to which no answer came.
fn undelivered<E>(error: &SdkError<E, HttpResponse>) -> Failed
where
    E: StdError + Send + Sync + 'static,
{
    let credentials = causes(error).find_map(|error| error.downcast_ref::<CredentialsError>());
    if let Some(error) = credentials {
        return without_credentials(error);
    }
    let tls = causes(error).find_map(|error| error.downcast_ref::<rustls::Error>());
    let (kind, detail) = match (tls, error) {
        (Some(rustls::Error::InvalidMessage(_)), _) => {
            (ErrorKind::Misconfigured, "the endpoint does not speak TLS (https)".to_owned())
        }
        (Some(rustls::Error::InvalidCertificate(why)), _) => {
            let text = format!("the server's certificate is not accepted: {why:?}");
            (ErrorKind::Misconfigured, text)
        }
        (_, SdkError::ConstructionFailure(_)) => (ErrorKind::Misconfigured, told(error)),
        (_, SdkError::DispatchFailure(failure)) if failure.is_user() => {
            (ErrorKind::Misconfigured, told(error))
        }
        _ => (ErrorKind::Unavailable, told(error)),
    };
    Failed::without_answer(kind, detail)
}

/// Why there are no credentials to sign a request with.
fn without_credentials(error: &CredentialsError) -> Failed {
    let text = told(error);
    let (kind, detail) = match error {
        CredentialsError::CredentialsNotLoaded(_) => (
            ErrorKind::Misconfigured,
            format!("no credentials are said, and the environment has none: {text}"),
        ),
        CredentialsError::InvalidConfiguration(_) => {
            (ErrorKind::Misconfigured, format!("the credentials cannot be used: {text}"))
        }
        CredentialsError::ProviderTimedOut(_) => (
            ErrorKind::Unavailable,
            format!("the service that gives credentials does not answer: {text}"),
        ),
        _ if is_denied(&text) => {
            (ErrorKind::PermissionDenied, format!("no credentials are given to us: {text}"))
        }
        _ => (ErrorKind::Unavailable, format!("no credentials could be had: {text}")),
    };
    Failed::without_answer(kind, on_one_line(&detail))
}

/// Whether STS or a metadata service says that it will not, whoever asks again.
fn is_denied(text: &str) -> bool {
    let words = [
        "AccessDenied",
        "InvalidIdentityToken",
        "ExpiredToken",
        "IDPRejectedClaim",
        "not authorized",
        "Not authorized",
    ];
    words.iter().any(|word| text.contains(word))
}

/// A failure in the words of its causes.
fn told(error: &(dyn StdError + 'static)) -> String {
    let empty = ["dispatch failure", "io error", "other", "timeout", "failed to construct request"];
    dbbackup_storage::told(error, &empty)
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::from_str(text.trim(), DateTimeFormat::HttpDate).ok()?;
    SystemTime::try_from(at).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str, header: Option<(&'static str, &'static str)>) -> Error {
        Failed::from(Answer {
            status,
            code: code.to_owned(),
            message: "Some\n words.".to_owned(),
            header: &|asked| header.filter(|(name, _)| *name == asked).map(|(_, value)| value),
        })
        .of(Operation::Read, "packs/a")
    }

    #[test]
    fn every_answer_has_a_meaning() {
        for (status, code, kind) in [
            (404, "NoSuchKey", ErrorKind::NotFound),
            (404, "", ErrorKind::NotFound),
            (404, "NoSuchBucket", ErrorKind::Misconfigured),
            (301, "PermanentRedirect", ErrorKind::Misconfigured),
            (400, "AuthorizationHeaderMalformed", ErrorKind::Misconfigured),
            (400, "InvalidStorageClass", ErrorKind::Misconfigured),
            (403, "AccessDenied", ErrorKind::PermissionDenied),
            (403, "SignatureDoesNotMatch", ErrorKind::PermissionDenied),
            (403, "InvalidAccessKeyId", ErrorKind::PermissionDenied),
            (400, "ExpiredToken", ErrorKind::PermissionDenied),
            (403, "RequestTimeTooSkewed", ErrorKind::PermissionDenied),
            (403, "Unheard", ErrorKind::PermissionDenied),
            (503, "SlowDown", ErrorKind::Unavailable),
            (429, "", ErrorKind::Unavailable),
            (500, "InternalError", ErrorKind::Unavailable),
            (503, "", ErrorKind::Unavailable),
            (400, "RequestTimeout", ErrorKind::Unavailable),
            (409, "ConditionalRequestConflict", ErrorKind::Unavailable),
            (416, "InvalidRange", ErrorKind::Truncated),
            (403, "InvalidObjectState", ErrorKind::Unsuitable),
            (501, "NotImplemented", ErrorKind::Unsuitable),
            (400, "InvalidRequest", ErrorKind::Unsuitable),
            (400, "", ErrorKind::PermissionDenied),
            (507, "XMinioStorageFull", ErrorKind::Full),
        ] {
            assert_eq!(answer(status, code, None).kind, kind, "{status} {code}");
        }
    }

    #[test]
    fn a_failure_says_ours_then_the_servers_words() {
        assert_eq!(
            answer(400, "ExpiredToken", None).to_string(),
            "cannot read packs/a: the credentials have expired; the server says ExpiredToken \
             (400): Some words."
        );
        let redirected = answer(301, "", Some(("x-amz-bucket-region", "eu-central-1")));
        assert!(redirected.detail.contains("the bucket's region is eu-central-1"));
    }

    #[test]
    fn a_pause_that_is_asked_for_is_passed_on() {
        let asked = answer(503, "SlowDown", Some(("retry-after", "7")));
        assert_eq!(asked.retry_after, Some(Duration::from_secs(7)));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 5);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(pause(date, now), Some(Duration::from_secs(5)));
        assert_eq!(pause("soon", now), None);
    }
}
