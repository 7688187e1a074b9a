//! Servers that do not do what they are asked.

use std::sync::Arc;

use bytes::Bytes;
use dbbackup_storage::{
    Capabilities, Checksums, CreateIfAbsent, Creation, ErrorKind, RetryPolicy, RetryingStore,
    Store, check_conformance,
};
use dbbackup_storage_s3::{S3Options, S3Store};

use crate::place::{BUCKET, Place};
use crate::proxy::{Act, Proxy, header};
use crate::server::Kind;

async fn behind(
    place: &Place,
    plan: impl FnMut(&str) -> Act + Send + 'static,
) -> (Proxy, S3Options) {
    let proxy = Proxy::before(place.server.port, plan).await;
    let options = S3Options { endpoint: Some(proxy.endpoint()), ..place.options("x") };
    (proxy, options)
}

/// moto, which checks no signature: a request may lose a header that was signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_the_condition_is_found_out_and_looked_at_first() {
    let place = Place::on(Kind::Moto).await;
    let (_proxy, options) = behind(&place, |_| Act::Without("if-none-match")).await;
    let store = S3Store::open(options.clone()).await.unwrap();
    let found = store.capabilities();
    assert_eq!(found.create_if_absent, CreateIfAbsent::Ignored);
    // moto fails now and then when several overwrite the same object.
    let store = RetryingStore::new(Arc::new(store), RetryPolicy::default(), 1);
    check_conformance(Arc::new(store)).await.unwrap();
    // Also where the probe is there from before.
    let store = S3Store::open(options).await.unwrap();
    assert_eq!(store.capabilities().create_if_absent, CreateIfAbsent::Ignored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_condition_or_checksum_goes_without() {
    let place = Place::on(Kind::Versity).await;
    for (refused, expected) in [
        ("if-none-match", (CreateIfAbsent::Refused, Checksums::Taken)),
        ("x-amz-checksum-crc32c", (CreateIfAbsent::Obeyed, Checksums::Refused)),
    ] {
        let (_proxy, options) = behind(&place, move |head| match header(head, refused) {
            Some(_) if head.starts_with("PUT") => Act::error(501, "NotImplemented", ""),
            _ => Act::Pass,
        })
        .await;
        let store = S3Store::open(S3Options { prefix: refused.to_owned(), ..options });
        let store = store.await.unwrap();
        let (create_if_absent, checksums) = expected;
        let expected = Capabilities { create_if_absent, checksums, lock: None, network: true };
        assert_eq!(store.capabilities(), expected);
        assert_eq!(store.create("a", Bytes::from_static(b"1")).await.unwrap(), Creation::Created);
        assert_eq!(store.create("a", Bytes::from_static(b"2")).await.unwrap(), Creation::Exists);
        assert_eq!(store.get("a").await.unwrap(), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_opened_for_reading_only_writes_nothing_and_claims_nothing() {
    let place = Place::on(Kind::Versity).await;
    place.open("x").await.create("a", Bytes::from_static(b"1")).await.unwrap();
    let (_proxy, options) = behind(&place, |head| {
        assert!(head.starts_with("GET") || head.starts_with("HEAD"), "{head}");
        Act::Pass
    })
    .await;
    let store = S3Store::open(S3Options { writable: false, ..options }).await.unwrap();
    assert_eq!(store.capabilities(), Capabilities::default());
    assert_eq!(store.get("a").await.unwrap(), "1");
    let error = store.create("b", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_too_large_is_refused_before_it_is_in_memory() {
    let place = Place::on(Kind::Versity).await;
    let store = place.open("x").await;
    let large = vec![0; dbbackup_storage::MAX_OBJECT_BYTES + 1];
    let put = place.client().put_object().bucket(BUCKET).key("x/large").body(large.into());
    put.send().await.unwrap();
    let error = store.get("large").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Truncated);
    assert!(error.detail.contains("more than any object has"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_changed_on_their_way_are_noticed() {
    let place = Place::on(Kind::Versity).await;
    place.open("x").await.create("a", Bytes::from_static(b"first")).await.unwrap();
    let (_proxy, options) = behind(&place, |head| match head {
        head if head.starts_with("GET /backups/x/a") => Act::Answer(
            "HTTP/1.1 200 OK\r\nx-amz-checksum-crc32c: AAAAAA==\r\nContent-Length: 5\r\n\
             Connection: close\r\n\r\nfirsT"
                .to_owned(),
        ),
        _ => Act::Pass,
    })
    .await;
    let store = S3Store::open(options).await.unwrap();
    let error = store.get("a").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains("checksum mismatch"), "{error}");
}
