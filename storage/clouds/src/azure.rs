//! Azure Blob Storage: the REST API of version 2023-11-03.
//!
//! The source of codes: "Blob service error codes" and "Common REST API error codes"
//! of Azure's reference.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use dbbackup_storage::ErrorKind;
use http::header::{CONTENT_LENGTH, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, Method};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

use crate::AzurePlace;
use crate::credentials::{self, Provider};
use crate::failure::{Failed, Said};
use crate::service::{PAGE, Page, Seen, Service, request};

/// A container.
#[derive(Debug)]
pub(crate) struct Azure {
    account: String,
    container: Url,
    credentials: Provider<AzureCredential>,
}

impl Azure {
    pub(crate) fn new(place: &AzurePlace, endpoint: Option<&str>) -> Result<Self, String> {
        let account = place.account.clone();
        let endpoint = match endpoint {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://{account}.blob.core.windows.net"),
        };
        let mut container = Url::parse(&endpoint).map_err(|error| error.to_string())?;
        extend(&mut container, [place.container.as_str()]);
        let credentials = credentials::azure(&account, &place.credentials)?;
        Ok(Self { account, container, credentials })
    }

    fn blob(&self, key: &str) -> Url {
        let mut url = self.container.clone();
        extend(&mut url, key.split('/'));
        url
    }
}

/// Adds parts to the path of a `http` address, which always has one.
fn extend<'a>(url: &mut Url, parts: impl IntoIterator<Item = &'a str>) {
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
}

#[async_trait]
impl Service for Azure {
    fn create(&self, key: &str, bytes: Bytes) -> HttpRequest {
        let length = HeaderValue::from(bytes.len());
        let mut request = request(Method::PUT, &self.blob(key), bytes.into());
        let headers = request.headers_mut();
        headers.insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        headers.insert(CONTENT_LENGTH, length);
        request
    }

    fn read(&self, key: &str) -> HttpRequest {
        request(Method::GET, &self.blob(key), HttpRequestBody::empty())
    }

    fn look(&self, key: &str) -> HttpRequest {
        request(Method::HEAD, &self.blob(key), HttpRequestBody::empty())
    }

    fn seen(&self, headers: &HeaderMap, _: &[u8]) -> Option<Seen> {
        let size = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        let modified = time(headers.get(LAST_MODIFIED)?.to_str().ok()?)?;
        Some(Seen { size, modified })
    }

    fn list(&self, begin: &str, token: Option<&str>) -> HttpRequest {
        let mut url = self.container.clone();
        url.query_pairs_mut()
            .append_pair("restype", "container")
            .append_pair("comp", "list")
            .append_pair("maxresults", PAGE)
            .append_pair("prefix", begin)
            .extend_pairs(token.map(|token| ("marker", token)));
        request(Method::GET, &url, HttpRequestBody::empty())
    }

    fn page(&self, body: &[u8]) -> Result<Page, String> {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}');
        let listed: Listed = quick_xml::de::from_str(text).map_err(|error| error.to_string())?;
        let blobs = listed.blobs.blob.into_iter();
        // Accounts with a hierarchical namespace list their folders, too.
        let blobs =
            blobs.filter(|blob| blob.properties.resource_type.as_deref() != Some("directory"));
        let objects = blobs.map(|blob| {
            let modified = time(&blob.properties.last_modified).ok_or("a blob without a time")?;
            Ok((blob.name.plain(), Seen { size: blob.properties.content_length, modified }))
        });
        let objects = objects.collect::<Result<_, &str>>()?;
        Ok(Page { objects, next: listed.next_marker.filter(|marker| !marker.is_empty()) })
    }

    fn delete(&self, key: &str) -> HttpRequest {
        request(Method::DELETE, &self.blob(key), HttpRequestBody::empty())
    }

    async fn sign(&self, request: &mut HttpRequest) -> Result<(), Failed> {
        let credential = self.credentials.get().await?;
        let authorizer = AzureAuthorizer::new(&credential, &self.account);
        authorizer.try_authorize(request).map_err(|error| {
            Failed::new(ErrorKind::Misconfigured, format!("the account key is none: {error}"))
        })
    }

    fn said(&self, headers: &HeaderMap, body: &[u8]) -> Said {
        let said: Told =
            quick_xml::de::from_str(String::from_utf8_lossy(body).trim_start_matches('\u{feff}'))
                .unwrap_or_default();
        // The answer to a HEAD has its code in a header alone.
        let code = headers.get("x-ms-error-code").and_then(|code| code.to_str().ok());
        Said { code: code.map_or(said.code, str::to_owned), message: said.message }
    }

    fn meaning(&self, status: u16, said: &Said) -> Option<(ErrorKind, &'static str)> {
        use ErrorKind::{Misconfigured, NotFound, PermissionDenied, Unavailable, Unsuitable};
        Some(match said.code.as_str() {
            "BlobNotFound" => (NotFound, ""),
            "ContainerNotFound" => (Misconfigured, "there is no such container"),
            "ContainerBeingDeleted" | "ContainerDisabled" => {
                (Misconfigured, "the container is being deleted, or is disabled")
            }
            "ResourceNotFound" if status == 404 => (NotFound, ""),
            "AccountIsDisabled" => (Misconfigured, "the account is disabled"),
            "InvalidResourceName" | "OutOfRangeInput" => {
                (Misconfigured, "no container can have this name")
            }
            "AuthenticationFailed"
            | "InvalidAuthenticationInfo"
            | "NoAuthenticationInformation" => (
                PermissionDenied,
                "the key, the signature or the token is wrong or has expired, or the clock is wrong",
            ),
            "AuthorizationPermissionMismatch"
            | "AuthorizationFailure"
            | "InsufficientAccountPermissions"
            | "AuthorizationProtocolMismatch"
            | "AuthorizationSourceIPMismatch"
            | "AuthorizationServiceMismatch"
            | "AuthorizationResourceTypeMismatch" => {
                (PermissionDenied, "these credentials may not do that")
            }
            "KeyBasedAuthenticationNotPermitted" => {
                (PermissionDenied, "the account takes no account keys")
            }
            "BlobArchived" => {
                (Unsuitable, "the object lies in the archive tier; order it back first")
            }
            "RequestBodyTooLarge" => (Unsuitable, "the server takes no object of this size"),
            "ServerBusy"
            | "IngressOverAccountLimit"
            | "EgressOverAccountLimit"
            | "TpsOverAccountLimit" => (Unavailable, "the server asks for fewer requests"),
            // A SAS that is past its time, or that is meant for something else.
            "" if status == 403 => (PermissionDenied, "these credentials may not do that"),
            // What answers there has no word of Azure for it.
            "" if matches!(status, 300..=400 | 404..=406 | 410) => {
                (Misconfigured, "what answers there is no Azure Blob Storage")
            }
            _ => return None,
        })
    }

    fn is_exists(&self, failed: &Failed) -> bool {
        let codes = [
            "BlobAlreadyExists",
            // Of a SAS that may create and not write.
            "UnauthorizedBlobOverwrite",
            // It is there, and nobody may write it.
            "BlobImmutableDueToPolicy",
        ];
        failed.status == 412 || codes.contains(&failed.code.as_str())
    }
}

/// A time as HTTP writes it (RFC 9110, 5.6.7).
fn time(text: &str) -> Option<SystemTime> {
    let zoned = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(zoned.timestamp().into())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Told {
    code: String,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    blobs: Blobs,
    #[serde(default)]
    next_marker: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blobs {
    #[serde(default)]
    blob: Vec<Blob>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: Name,
    properties: Properties,
}

/// A name; percent-encoded where XML could not hold it.
#[derive(Debug, Deserialize)]
struct Name {
    #[serde(rename = "@Encoded", default)]
    encoded: bool,
    #[serde(rename = "$text", default)]
    text: String,
}

impl Name {
    fn plain(self) -> String {
        if self.encoded {
            percent_decode_str(&self.text).decode_utf8_lossy().into_owned()
        } else {
            self.text
        }
    }
}

#[derive(Debug, Deserialize)]
struct Properties {
    #[serde(rename = "Last-Modified")]
    last_modified: String,
    #[serde(rename = "Content-Length")]
    content_length: u64,
    #[serde(rename = "ResourceType", default)]
    resource_type: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AzureCredentials, AzureKeyFiles};

    fn container() -> Azure {
        let files = AzureKeyFiles::in_folder(std::path::Path::new("/nowhere"));
        let place = AzurePlace {
            account: "acme".to_owned(),
            container: "backups".to_owned(),
            credentials: AzureCredentials::Files(files),
        };
        Azure::new(&place, None).unwrap()
    }

    /// What no emulator sends: a byte order mark, an encoded name, a folder.
    #[test]
    fn a_listing_of_azure_is_read_with_all_that_is_in_it() {
        let properties = |kind: &str| {
            format!(
                "<Properties><Last-Modified>Sun, 06 Nov 1994 08:49:37 GMT</Last-Modified>\
                 <Content-Length>7</Content-Length>{kind}</Properties>"
            )
        };
        let (file, folder) = (properties(""), properties("<ResourceType>directory</ResourceType>"));
        let text = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults>\
             <Prefix>x/</Prefix><Blobs><Blob><Name>x</Name>{folder}</Blob>\
             <Blob><Name>x/a b</Name>{file}</Blob>\
             <Blob><Name Encoded=\"true\">x/%EF%BF%BE%25</Name>{file}</Blob>\
             </Blobs><NextMarker>2!more</NextMarker></EnumerationResults>"
        );
        let page = container().page(text.as_bytes()).unwrap();
        let names: Vec<_> = page.objects.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x/a b", "x/\u{fffe}%"]);
        let modified = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        assert_eq!(page.objects[0].1, Seen { size: 7, modified });
        assert_eq!(page.next.as_deref(), Some("2!more"));
        let empty = "<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>";
        let page = container().page(empty.as_bytes()).unwrap();
        assert!(page.objects.is_empty() && page.next.is_none());
        assert!(container().page(b"<html>").is_err());
    }

    #[test]
    fn every_answer_of_azure_has_a_meaning() {
        for (status, code, kind) in [
            (404, "BlobNotFound", ErrorKind::NotFound),
            (404, "ContainerNotFound", ErrorKind::Misconfigured),
            (404, "", ErrorKind::Misconfigured),
            (403, "AuthenticationFailed", ErrorKind::PermissionDenied),
            (403, "AuthorizationPermissionMismatch", ErrorKind::PermissionDenied),
            (403, "Unheard", ErrorKind::PermissionDenied),
            (409, "BlobArchived", ErrorKind::Unsuitable),
            (416, "InvalidRange", ErrorKind::Truncated),
            (503, "ServerBusy", ErrorKind::Unavailable),
            (500, "OperationTimedOut", ErrorKind::Unavailable),
        ] {
            let said = Said { code: code.to_owned(), message: "Some\n words.".to_owned() };
            let meaning = container().meaning(status, &said);
            let failed = Failed::answered(status, &HeaderMap::new(), said, meaning);
            assert_eq!(failed.kind, kind, "{status} {code}");
            assert!(failed.detail.ends_with("Some words."), "{}", failed.detail);
        }
    }
}
