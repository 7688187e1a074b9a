//! Servers that are busy, slow, go away in the middle, or do not do what they are asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dbbackup_storage::{Creation, ErrorKind, Limits, MAX_OBJECT_BYTES, RetryingStore, Store};
use dbbackup_storage_clouds::{CloudOptions, CloudStore};

use crate::place::{Place, QUICK};
use crate::proxy::{Act, Proxy};
use crate::server::{Kind, sas};

const KINDS: [Kind; 2] = [Kind::Azurite, Kind::FakeGcs];

/// A store behind a proxy whose `plan` sees the requests for names that hold `of`,
/// counted from 1.
async fn behind(
    place: &Place,
    of: &'static str,
    mut plan: impl FnMut(u32, &str) -> Act + Send + 'static,
) -> (Proxy, CloudOptions) {
    let mut count = 0;
    let proxy = Proxy::before(place.server.port, move |head| {
        if !head.lines().next().is_some_and(|line| line.contains(of)) {
            return Act::Pass;
        }
        count += 1;
        plan(count, head)
    })
    .await;
    let options = place.behind(proxy.port());
    (proxy, options)
}

fn retrying(store: CloudStore) -> RetryingStore {
    RetryingStore::new(Arc::new(store), QUICK, 1)
}

fn is_a_write(head: &str) -> bool {
    head.starts_with("PUT") || head.starts_with("POST")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    for kind in KINDS {
        let place = Place::on(kind);
        let (_proxy, options) = behind(&place, "busy", |count, _| match count {
            1 => Act::error(503, "ServerBusy", "x-ms-error-code: ServerBusy\r\nRetry-After: 1\r\n"),
            2 => Act::error(429, "", "Retry-After: 1\r\n"),
            3 => Act::error(500, "InternalError", ""),
            _ => Act::Pass,
        })
        .await;
        let store = CloudStore::open(options).await.unwrap();
        let started = Instant::now();
        let created = retrying(store).create("busy", Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(created, Creation::Created);
        assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_repeats_but_we() {
    for kind in KINDS {
        let place = Place::on(kind);
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let (_proxy, options) = behind(&place, "busy", move |count, _| {
            counted.store(count, Ordering::SeqCst);
            Act::error(503, "ServerBusy", "")
        })
        .await;
        let store = retrying(CloudStore::open(options).await.unwrap());
        let error = store.get("busy").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let words = error.to_string();
        assert!(words.contains("the server says") && words.contains("said by the test"), "{words}");
        assert_eq!(tries.load(Ordering::SeqCst), 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_known_by_its_bytes() {
    for kind in KINDS {
        let place = Place::on(kind);
        let (_proxy, options) = behind(&place, "lost", |count, head| {
            if count == 1 && is_a_write(head) { Act::Cut(0) } else { Act::Pass }
        })
        .await;
        let store = CloudStore::open(options).await.unwrap();
        let created = retrying(store).create("lost", Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(created, Creation::Created);
        // Without one who tries again, the caller hears that nothing is known.
        let (_proxy, options) = behind(&place, "again", |_, _| Act::Cut(0)).await;
        let store = CloudStore::open(options).await.unwrap();
        let error = store.create("again", Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_never_taken_for_the_whole() {
    for kind in KINDS {
        let place = Place::on(kind);
        let (_proxy, options) = behind(&place, "cut", |count, head| match (count, head) {
            (_, head) if is_a_write(head) => Act::Pass,
            (2, _) => Act::Cut(20),
            (3, _) => Act::Cut(100_000),
            _ => Act::Pass,
        })
        .await;
        let store = CloudStore::open(options).await.unwrap();
        let bytes = Bytes::from(vec![7; 200_000]);
        store.create("cut", bytes.clone()).await.unwrap();
        for _ in 0..2 {
            let error = store.get("cut").await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        }
        assert_eq!(store.get("cut").await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up_and_tried_again() {
    for kind in KINDS {
        let place = Place::on(kind);
        let limits = Limits { silence: Duration::from_millis(700), ..Limits::default() };
        let (_proxy, options) = behind(&place, "slow", |count, _| match count {
            2 | 4 => Act::Silence,
            _ => Act::Pass,
        })
        .await;
        let store = CloudStore::open(CloudOptions { limits, ..options }).await.unwrap();
        store.create("slow", Bytes::from_static(b"1")).await.unwrap();
        let error = store.get("slow").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert_eq!(error.to_string(), "cannot read slow: no answer for 1 s");
        assert_eq!(store.get("slow").await.unwrap(), "1");
        assert_eq!(retrying(store).get("slow").await.unwrap(), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_endpoint_is_unavailable_and_says_why() {
    let place = Place::on(Kind::Azurite);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = CloudStore::open(place.behind(port)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_too_large_is_refused_before_it_is_in_memory() {
    for kind in KINDS {
        let place = Place::on(kind);
        let store = place.open("x").await;
        place.server.put("x/large", &vec![0; MAX_OBJECT_BYTES + 1]);
        let error = store.get("large").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated);
        assert!(error.detail.contains("more than any object has"), "{error}");
    }
}

/// A signature in the address signs no headers: a request may lose one.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_replaces_what_exists_is_refused() {
    let place = Place::on(Kind::Azurite);
    place.write("sasToken", &sas("rlcwd"));
    let (_proxy, options) = behind(&place, "probe", |_, _| Act::Without("if-none-match")).await;
    let error = CloudStore::open(options).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsuitable, "{error}");
    assert!(error.to_string().contains("it replaces what exists"), "{error}");
}
