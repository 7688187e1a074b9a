//! The contract of a store, kept on each server.

use std::sync::Arc;

use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use dbbackup_storage::{
    Capabilities, Checksums, CreateIfAbsent, RetryPolicy, RetryingStore, Store, check_conformance,
};

use crate::place::{BUCKET, Place};
use crate::server::Kind;

async fn keeps_the_contract(kind: Kind, expected: CreateIfAbsent) {
    let place = Place::on(kind).await;
    for prefix in ["", "shop/eu"] {
        let store = place.open(prefix).await;
        let found = store.capabilities();
        let expected = Capabilities {
            create_if_absent: expected,
            checksums: Checksums::Taken,
            lock: None,
            network: true,
        };
        assert_eq!(found, expected, "{kind:?}");
        check_conformance(Arc::new(store)).await.unwrap_or_else(|error| {
            panic!("{kind:?} {prefix:?}: {error}");
        });
        // The root of the bucket would show what lies below the prefix.
        if prefix.is_empty() {
            place.empty().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_keeps_the_contract() {
    keeps_the_contract(Kind::Minio, CreateIfAbsent::Obeyed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versity_keeps_the_contract() {
    keeps_the_contract(Kind::Versity, CreateIfAbsent::Obeyed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_contract() {
    keeps_the_contract(Kind::Moto, CreateIfAbsent::Obeyed).await;
}

/// The SDK sends none where it thinks that none was asked for; the server tells.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_has_a_checksum_on_the_server() {
    let place = Place::on(Kind::Minio).await;
    let store = place.open("x").await;
    store.create("a", Bytes::from_static(b"123456789")).await.unwrap();
    let head = place.client().head_object().bucket(BUCKET).key("x/a");
    let head = head.checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    // The check value of CRC-32C (RFC 3720, B.4 has the polynomial): E3069283.
    assert_eq!(head.checksum_crc32_c(), Some("4waSgw=="));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_retries_keeps_the_contract_too() {
    let place = Place::on(Kind::Minio).await;
    let inner = Arc::new(place.open("retried").await);
    let store = RetryingStore::new(inner, RetryPolicy::default(), 1);
    assert_eq!(store.capabilities().create_if_absent, CreateIfAbsent::Obeyed);
    check_conformance(Arc::new(store)).await.unwrap();
}
