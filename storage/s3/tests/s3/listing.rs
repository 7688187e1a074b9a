//! Listings of several pages, and of what others have put there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dbbackup_storage::{RetryPolicy, Store, collect_listing};
use dbbackup_storage_s3::{S3Options, S3Store};
use futures::{StreamExt as _, stream};

use crate::place::{BUCKET, Place};
use crate::proxy::{Act, Proxy};
use crate::server::Kind;

/// S3 gives a thousand objects a page.
const OBJECTS: usize = 1_100;

async fn lists_all_pages(kind: Kind) {
    let place = Place::on(kind).await;
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
        if !head.contains("list-type=2") {
            return Act::Pass;
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            1 => Act::error(503, "SlowDown", ""),
            _ => Act::Pass,
        }
    })
    .await;
    let retry = RetryPolicy { first_delay: Duration::from_millis(1), ..RetryPolicy::default() };
    let endpoint = Some(proxy.endpoint());
    let store = S3Store::open(S3Options { endpoint, retry, ..place.options("x") }).await.unwrap();

    // Who takes one object has asked for one page.
    let first = store.list("many/").next().await.unwrap().unwrap();
    assert!(first.name.starts_with("many/"), "{first:?}");
    assert_eq!(pages.swap(0, Ordering::SeqCst), 1);

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
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_lists_all_pages() {
    lists_all_pages(Kind::Minio).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versity_lists_all_pages() {
    lists_all_pages(Kind::Versity).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_there_is_seen_and_the_probe_is_not() {
    for kind in [Kind::Minio, Kind::Versity, Kind::Moto] {
        let place = Place::on(kind).await;
        let store = place.open("x").await;
        assert!(collect_listing(store.list("")).await.unwrap().is_empty(), "{kind:?}");
        let names = ["Photo 1.jpg", "a+b", "p%20q", "ümlaut", "deep/er/file.txt"];
        for name in names {
            let put = place.client().put_object().bucket(BUCKET).key(format!("x/{name}"));
            put.body(Bytes::from_static(b"x").into()).send().await.unwrap();
        }
        // Beside the prefix, which is no part of its name.
        let beside = place.client().put_object().bucket(BUCKET).key("xy");
        beside.body(Bytes::from_static(b"x").into()).send().await.unwrap();
        let found = collect_listing(store.list("")).await.unwrap();
        let mut expected = names.to_vec();
        expected.sort_unstable();
        let found: Vec<_> = found.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(found, expected, "{kind:?}");
    }
}
