//! The contract of a store, kept on each server; and listings of several pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dbbackup_storage::{
    CreateIfAbsent, RetryPolicy, RetryingStore, Store, check_conformance, collect_listing,
};
use dbbackup_storage_clouds::CloudStore;
use futures::{StreamExt as _, stream};

use crate::place::Place;
use crate::proxy::{Act, Proxy};
use crate::server::{Kind, sas};

/// A page has a thousand objects.
const OBJECTS: usize = 1_100;

async fn keeps_the_contract(place: &Place) {
    // The root shows what lies below a prefix, so it comes first.
    for prefix in ["", "shop/eu"] {
        let store = place.open(prefix).await;
        assert_eq!(store.capabilities().create_if_absent, CreateIfAbsent::Obeyed);
        check_conformance(Arc::new(store))
            .await
            .unwrap_or_else(|error| panic!("{prefix:?}: {error}"));
    }
    let inner = Arc::new(place.open("retried").await);
    let store = RetryingStore::new(inner, RetryPolicy::default(), 1);
    check_conformance(Arc::new(store)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_keeps_the_contract_by_an_account_key() {
    keeps_the_contract(&Place::on(Kind::Azurite)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_keeps_the_contract_by_a_shared_access_signature() {
    let place = Place::on(Kind::Azurite);
    std::fs::remove_file(place.keys.path().join("accountKey")).unwrap();
    place.write("sasToken", &sas("rlcwd"));
    keeps_the_contract(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_gcs_keeps_the_contract() {
    keeps_the_contract(&Place::on(Kind::FakeGcs)).await;
}

async fn lists_all_pages(kind: Kind) {
    let place = Place::on(kind);
    let store = place.open("x").await;
    stream::iter(0..OBJECTS)
        .for_each_concurrent(16, |n| {
            let store = &store;
            async move {
                store.create(&format!("many/{n}"), Bytes::from_static(b"12")).await.unwrap();
            }
        })
        .await;
    let pages = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&pages);
    // The second page fails once: nobody has seen a part of it, so it is asked for again.
    let proxy = Proxy::before(place.server.port, move |head| {
        if !head.lines().next().is_some_and(|line| line.contains("prefix=")) {
            return Act::Pass;
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            1 => Act::error(503, "", ""),
            _ => Act::Pass,
        }
    })
    .await;
    let store = CloudStore::open(place.behind(proxy.port())).await.unwrap();
    let first = store.list("many/").next().await.unwrap().unwrap();
    assert!(first.name.starts_with("many/"), "{first:?}");
    assert_eq!(pages.swap(0, Ordering::SeqCst), 1, "who takes one object has asked for one page");

    let objects = collect_listing(store.list("many/")).await.unwrap();
    let mut expected: Vec<_> = (0..OBJECTS).map(|n| format!("many/{n}")).collect();
    expected.sort();
    let names: Vec<_> = objects.iter().map(|object| object.name.clone()).collect();
    assert_eq!(names, expected);
    assert_eq!(pages.load(Ordering::SeqCst), 3, "two pages, one of them twice");
    let now = SystemTime::now();
    for object in &objects {
        assert_eq!(object.size, 2);
        let age = now.duration_since(object.modified).unwrap_or_default();
        assert!(age < Duration::from_secs(3600), "{object:?}");
    }
    let seen = store.head("many/0").await.unwrap();
    let age = now.duration_since(seen.modified).unwrap_or_default();
    assert!(age < Duration::from_secs(3600), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_lists_all_pages() {
    lists_all_pages(Kind::Azurite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_gcs_lists_all_pages() {
    lists_all_pages(Kind::FakeGcs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_there_is_seen_and_the_probe_is_not() {
    for kind in [Kind::Azurite, Kind::FakeGcs] {
        let place = Place::on(kind);
        let store = place.open("x").await;
        assert!(collect_listing(store.list("")).await.unwrap().is_empty(), "{kind:?}");
        for name in ["Photo%201.jpg", "a%2Bb", "p%2520q", "%C3%BCmlaut", "deep/er/file.txt"] {
            place.server.put(&format!("x/{name}"), b"x");
        }
        // Beside the prefix, which is no part of its name.
        place.server.put("xy", b"x");
        let found = collect_listing(store.list("")).await.unwrap();
        let found: Vec<_> = found.iter().map(|object| object.name.as_str()).collect();
        let mut expected = ["Photo 1.jpg", "a+b", "p%20q", "ümlaut", "deep/er/file.txt"];
        expected.sort_unstable();
        assert_eq!(found, expected, "{kind:?}");
    }
}
