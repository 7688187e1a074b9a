//! The contract of a store, kept on each server.

use std::sync::Arc;

use dbbackup_storage::{
    Capabilities, Checksums, CreateIfAbsent, RetryPolicy, RetryingStore, Store, check_conformance,
};

use crate::place::Place;
use crate::server::Kind;

async fn keeps_the_contract(kind: Kind, expected: CreateIfAbsent) {
    let place = Place::on(kind).await;
    for prefix in ["", "shop/eu"] {
        let store = place.open(prefix).await;
        let found = store.capabilities();
        let expected = Capabilities { create_if_absent: expected, checksums: Checksums::Taken };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_retries_keeps_the_contract_too() {
    let place = Place::on(Kind::Minio).await;
    let inner = Arc::new(place.open("retried").await);
    let store = RetryingStore::new(inner, RetryPolicy::default(), 1);
    assert_eq!(store.capabilities().create_if_absent, CreateIfAbsent::Obeyed);
    check_conformance(Arc::new(store)).await.unwrap();
}
