//! What is said wrongly, and what a server does not allow.

use bytes::Bytes;
use dbbackup_storage::{Error, ErrorKind, RetryPolicy, Store};
use dbbackup_storage_s3::{Credentials, KeyFiles, S3Options, S3Store, StorageClass};

use crate::place::{BUCKET, Place, keys};
use crate::proxy::{Act, Proxy};
use crate::server::{ACCESS_KEY, Kind, SECRET_KEY};

async fn refused(options: S3Options) -> Error {
    let retry = RetryPolicy { tries: 1, ..RetryPolicy::default() };
    S3Store::open(S3Options { retry, ..options }).await.unwrap_err()
}

/// What is refused, and that nothing secret is told by it.
#[track_caller]
fn assert_refused(error: &Error, kind: ErrorKind, words: &str) {
    let shown = format!("{error} {error:?}");
    assert_eq!(error.kind, kind, "{shown}");
    assert!(error.to_string().contains(words), "{shown}");
    for secret in [SECRET_KEY, "a-wrong-secret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_denied_and_not_told() {
    for kind in [Kind::Minio, Kind::Versity] {
        denies_wrong_keys(kind).await;
    }
}

async fn denies_wrong_keys(kind: Kind) {
    let place = Place::on(kind).await;
    let with = |folder: &tempfile::TempDir| S3Options {
        credentials: Credentials::Files(KeyFiles::in_folder(folder.path())),
        ..place.options("x")
    };
    let wrong = keys(ACCESS_KEY, "a-wrong-secret");
    let error = refused(with(&wrong)).await;
    assert_refused(&error, ErrorKind::PermissionDenied, "does not belong to the access key");
    let unknown = keys("nobody", "a-wrong-secret");
    let error = refused(with(&unknown)).await;
    assert_refused(&error, ErrorKind::PermissionDenied, "does not know this access key");
    for writable in [true, false] {
        let empty = tempfile::tempdir().unwrap();
        let error = refused(S3Options { writable, ..with(&empty) }).await;
        assert_refused(&error, ErrorKind::Misconfigured, "accessKeyId does not exist");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_renewed_are_taken_up() {
    let place = Place::on(Kind::Versity).await;
    let error = {
        std::fs::write(place.keys.path().join("secretAccessKey"), "a-wrong-secret").unwrap();
        refused(place.options("x")).await
    };
    assert_refused(&error, ErrorKind::PermissionDenied, "does not belong");
    std::fs::write(place.keys.path().join("secretAccessKey"), SECRET_KEY).unwrap();
    place.open("x").await.create("a", Bytes::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_a_mistake_of_the_options() {
    for kind in [Kind::Minio, Kind::Versity, Kind::Moto] {
        let place = Place::on(kind).await;
        for writable in [true, false] {
            let bucket = "no-such-bucket".to_owned();
            let error = refused(S3Options { bucket, writable, ..place.options("x") }).await;
            assert_refused(&error, ErrorKind::Misconfigured, "there is no such bucket");
            assert!(error.to_string().contains("s3://no-such-bucket/x"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_not_the_servers_is_a_mistake_of_the_options() {
    let place = Place::on(Kind::Versity).await;
    let region = Some("eu-central-1".to_owned());
    let error = refused(S3Options { region, ..place.options("x") }).await;
    assert_refused(&error, ErrorKind::Misconfigured, "another region");
    assert!(error.to_string().contains("us-east-1"), "{error}");
    // AWS says where the bucket is, in a header.
    let proxy = Proxy::before(place.server.port, |_| {
        Act::error(301, "PermanentRedirect", "x-amz-bucket-region: ap-south-1\r\n")
    })
    .await;
    let error = refused(S3Options { endpoint: Some(proxy.endpoint()), ..place.options("x") }).await;
    assert_refused(&error, ErrorKind::Misconfigured, "the bucket's region is ap-south-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_speak_s3_is_a_mistake_of_the_options() {
    let place = Place::on(Kind::Versity).await;
    let page = "<html><body>Welcome!</body></html>";
    for status in ["404 Not Found", "405 Method Not Allowed"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{page}",
            page.len()
        );
        let proxy = Proxy::before(place.server.port, move |_| Act::Answer(answer.clone())).await;
        let endpoint = Some(proxy.endpoint());
        let error = refused(S3Options { endpoint, ..place.options("x") }).await;
        assert_refused(&error, ErrorKind::Misconfigured, "is no S3 server");
    }
}

/// AWS alone gives such answers.
#[tokio::test(flavor = "multi_thread")]
async fn what_aws_says_of_credentials_and_clocks_is_told() {
    let place = Place::on(Kind::Versity).await;
    for (status, code, words) in [
        (400, "ExpiredToken", "the credentials have expired"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "AccessDenied", "these credentials may not do that"),
    ] {
        let proxy = Proxy::before(place.server.port, move |_| Act::error(status, code, "")).await;
        let endpoint = Some(proxy.endpoint());
        let error = refused(S3Options { endpoint, ..place.options("x") }).await;
        assert_refused(&error, ErrorKind::PermissionDenied, words);
        assert!(error.to_string().contains("said by the test"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_alone_are_kept_in_another_class() {
    let place = Place::on(Kind::Moto).await;
    let storage_class = Some(StorageClass::StandardIa);
    let options = S3Options { storage_class, ..place.options("x") };
    let store = S3Store::open(options).await.unwrap();
    for name in ["packs/aa/1", "snapshots/1"] {
        store.create(name, Bytes::from_static(b"1")).await.unwrap();
    }
    let listed = place.client().list_objects_v2().bucket(BUCKET).send().await.unwrap();
    let classes: Vec<_> = listed
        .contents()
        .iter()
        .map(|object| {
            let class = object.storage_class().map_or("", |class| class.as_str());
            format!("{} {class}", object.key().unwrap())
        })
        .collect();
    let expected =
        ["x/.dbbackup-probe STANDARD", "x/packs/aa/1 STANDARD_IA", "x/snapshots/1 STANDARD"];
    assert_eq!(classes, expected);
}
