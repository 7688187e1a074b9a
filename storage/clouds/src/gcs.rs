//! Google Cloud Storage: its JSON API.
//!
//! The source of codes: "HTTP status and error codes for JSON" of its reference.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_storage::ErrorKind;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredential;
use serde::Deserialize;
use url::Url;

use crate::GcsPlace;
use crate::credentials::{self, Provider};
use crate::failure::{Failed, Said};
use crate::service::{PAGE, Page, Seen, Service, request};

const ENDPOINT: &str = "https://storage.googleapis.com";

/// A bucket.
#[derive(Debug)]
pub(crate) struct Gcs {
    endpoint: Url,
    bucket: String,
    credentials: Provider<GcpCredential>,
}

impl Gcs {
    pub(crate) fn new(place: &GcsPlace, endpoint: Option<&str>) -> Result<Self, String> {
        let endpoint =
            Url::parse(endpoint.unwrap_or(ENDPOINT)).map_err(|error| error.to_string())?;
        let bucket = place.bucket.clone();
        let credentials = credentials::gcs(&bucket, &place.credentials)?;
        Ok(Self { endpoint, bucket, credentials })
    }

    /// The address of the bucket's objects, or of one of them.
    fn objects(&self, api: &[&str], key: Option<&str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            let bucket = ["storage", "v1", "b", &self.bucket, "o"];
            // A key is one part: the slashes in it are encoded.
            path.pop_if_empty().extend(api).extend(bucket).extend(key);
        }
        url
    }
}

#[async_trait]
impl Service for Gcs {
    fn create(&self, key: &str, bytes: Bytes) -> HttpRequest {
        let length = HeaderValue::from(bytes.len());
        let mut url = self.objects(&["upload"], None);
        url.query_pairs_mut()
            .append_pair("uploadType", "media")
            .append_pair("name", key)
            .append_pair("ifGenerationMatch", "0");
        let mut request = request(Method::POST, &url, bytes.into());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, length);
        request
    }

    fn read(&self, key: &str) -> HttpRequest {
        let mut url = self.objects(&[], Some(key));
        url.query_pairs_mut().append_pair("alt", "media");
        request(Method::GET, &url, HttpRequestBody::empty())
    }

    fn look(&self, key: &str) -> HttpRequest {
        request(Method::GET, &self.objects(&[], Some(key)), HttpRequestBody::empty())
    }

    fn seen(&self, _: &HeaderMap, body: &[u8]) -> Option<Seen> {
        serde_json::from_slice::<Item>(body).ok()?.seen()
    }

    fn list(&self, begin: &str, token: Option<&str>) -> HttpRequest {
        let mut url = self.objects(&[], None);
        url.query_pairs_mut()
            .append_pair("maxResults", PAGE)
            .append_pair("fields", "items(name,size,timeCreated),nextPageToken")
            .append_pair("prefix", begin)
            .extend_pairs(token.map(|token| ("pageToken", token)));
        request(Method::GET, &url, HttpRequestBody::empty())
    }

    fn page(&self, body: &[u8]) -> Result<Page, String> {
        let listed: Listed = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let objects = listed.items.into_iter().map(|item| {
            let seen = item.seen().ok_or("an object without size or time")?;
            Ok((item.name, seen))
        });
        let objects = objects.collect::<Result<_, &str>>()?;
        Ok(Page { objects, next: listed.next_page_token.filter(|token| !token.is_empty()) })
    }

    fn delete(&self, key: &str) -> HttpRequest {
        request(Method::DELETE, &self.objects(&[], Some(key)), HttpRequestBody::empty())
    }

    async fn sign(&self, request: &mut HttpRequest) -> Result<(), Failed> {
        let credential = self.credentials.get().await?;
        let header = HeaderValue::from_str(&format!("Bearer {}", credential.bearer));
        let mut header = header.map_err(|_| {
            Failed::new(ErrorKind::Misconfigured, "the token is no text of a header")
        })?;
        header.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, header);
        Ok(())
    }

    fn said(&self, _: &HeaderMap, body: &[u8]) -> Said {
        match serde_json::from_slice::<Told>(body) {
            Ok(Told { error }) => Said {
                code: error.errors.into_iter().next().map(|first| first.reason).unwrap_or_default(),
                message: error.message,
            },
            // What is asked for as a whole is refused in plain text.
            Err(_) => Said {
                code: String::new(),
                message: String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
            },
        }
    }

    fn meaning(&self, status: u16, said: &Said) -> Option<(ErrorKind, &'static str)> {
        use ErrorKind::{Misconfigured, NotFound, PermissionDenied, Unavailable};
        Some(match (status, said.code.as_str()) {
            (404, _) if said.message.contains("bucket does not exist") => {
                (Misconfigured, "there is no such bucket")
            }
            (404, _) => (NotFound, ""),
            (401, _) => (PermissionDenied, "the credentials are not valid"),
            (403, "rateLimitExceeded" | "userRateLimitExceeded") => {
                (Unavailable, "the server asks for fewer requests")
            }
            (403, "accountDisabled" | "billingNotEnabled" | "userProjectMissing") => {
                (Misconfigured, "the project cannot be used")
            }
            (301..=308, _) => (Misconfigured, "what answers there is no Google Cloud Storage"),
            _ => return None,
        })
    }

    fn is_exists(&self, failed: &Failed) -> bool {
        failed.status == 412
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    items: Vec<Item>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    /// A number as text: JavaScript's numbers are too small for it.
    size: String,
    time_created: jiff::Timestamp,
}

impl Item {
    fn seen(&self) -> Option<Seen> {
        let modified = SystemTime::from(self.time_created);
        Some(Seen { size: self.size.parse().ok()?, modified })
    }
}

#[derive(Debug, Deserialize)]
struct Told {
    error: ToldError,
}

#[derive(Debug, Deserialize)]
struct ToldError {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<ToldReason>,
}

#[derive(Debug, Deserialize)]
struct ToldReason {
    #[serde(default)]
    reason: String,
}
