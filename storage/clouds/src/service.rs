//! What differs between the clouds: how a request looks, who signs it, and what an
//! answer means.

use std::fmt::Debug;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_storage::ErrorKind;
use http::{HeaderMap, Method};
use object_store::client::{HttpRequest, HttpRequestBody};
use url::Url;

use crate::failure::{Failed, Said};

/// Most objects of a page of a listing. What the clouds give at most differs.
pub(crate) const PAGE: &str = "1000";

/// An object as a service shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

/// A part of a listing: keys, and where the next part begins.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<(String, Seen)>,
    pub(crate) next: Option<String>,
}

/// A cloud's service, with a bucket in it. Requests are not signed yet.
#[async_trait]
pub(crate) trait Service: Debug + Send + Sync {
    /// Creates an object, where none has this key.
    fn create(&self, key: &str, bytes: Bytes) -> HttpRequest;
    /// Gives an object, or a part of it where the request gets a `Range`.
    fn read(&self, key: &str) -> HttpRequest;
    /// Gives size and time of an object.
    fn look(&self, key: &str) -> HttpRequest;
    /// What the answer to [`look`](Service::look) says.
    fn seen(&self, headers: &HeaderMap, body: &[u8]) -> Option<Seen>;
    /// Lists what begins with this, from where a page ended.
    fn list(&self, begin: &str, token: Option<&str>) -> HttpRequest;
    /// What the answer to [`list`](Service::list) says.
    fn page(&self, body: &[u8]) -> Result<Page, String>;
    /// Deletes an object.
    fn delete(&self, key: &str) -> HttpRequest;
    /// Signs a request, or gives it a token.
    async fn sign(&self, request: &mut HttpRequest) -> Result<(), Failed>;
    /// What an answer says that is no success.
    fn said(&self, headers: &HeaderMap, body: &[u8]) -> Said;
    /// What that means, where the status alone would mislead.
    fn meaning(&self, status: u16, said: &Said) -> Option<(ErrorKind, &'static str)>;
    /// Whether a create failed since the object exists.
    fn is_exists(&self, failed: &Failed) -> bool;
}

/// A request without headers.
pub(crate) fn request(method: Method, url: &Url, body: HttpRequestBody) -> HttpRequest {
    let mut request = HttpRequest::new(body);
    *request.method_mut() = method;
    #[allow(clippy::expect_used, reason = "what is a URL is a URI, once its parts are encoded")]
    let uri = url.as_str().parse().expect("a URL of ours");
    *request.uri_mut() = uri;
    request
}
