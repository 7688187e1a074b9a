//! Servers that are busy, slow, or go away in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dbbackup_storage::{Creation, ErrorKind, RetryPolicy, RetryingStore, Store};
use dbbackup_storage_s3::{Limits, S3Options, S3Store};

use crate::place::Place;
use crate::proxy::{Act, Proxy};
use crate::server::Kind;

/// Tries that do not keep a test waiting.
const QUICK: RetryPolicy = RetryPolicy {
    tries: 7,
    first_delay: Duration::from_millis(5),
    longest_delay: Duration::from_millis(50),
};

/// A store behind a proxy whose `plan` sees the requests for names that hold `of`,
/// counted from 1.
async fn behind(
    place: &Place,
    of: &'static str,
    mut plan: impl FnMut(u32, &str) -> Act + Send + 'static,
) -> (Proxy, S3Options) {
    let mut count = 0;
    let proxy = Proxy::before(place.server.port, move |head| {
        if !head.lines().next().is_some_and(|line| line.contains(of)) {
            return Act::Pass;
        }
        count += 1;
        plan(count, head)
    })
    .await;
    let options =
        S3Options { endpoint: Some(proxy.endpoint()), retry: QUICK, ..place.options("x") };
    (proxy, options)
}

fn retrying(store: S3Store) -> RetryingStore {
    RetryingStore::new(Arc::new(store), QUICK, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let place = Place::on(Kind::Versity).await;
    let (_proxy, options) = behind(&place, "/busy", |count, _| match count {
        1 => Act::error(503, "SlowDown", "Retry-After: 1\r\n"),
        2 => Act::error(503, "ServiceUnavailable", "Retry-After: 1\r\n"),
        3 => Act::error(500, "InternalError", ""),
        4 => Act::error(429, "", ""),
        _ => Act::Pass,
    })
    .await;
    let store = S3Store::open(options).await.unwrap();
    let started = Instant::now();
    let created = retrying(store).create("busy", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(created, Creation::Created);
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_busy_is_unavailable_in_its_own_words() {
    let place = Place::on(Kind::Versity).await;
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let (_proxy, options) = behind(&place, "/busy", move |count, _| {
        counted.store(count, Ordering::SeqCst);
        Act::error(503, "SlowDown", "")
    })
    .await;
    let store = retrying(S3Store::open(options).await.unwrap());
    let error = store.get("busy").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "cannot read busy: the server asks for fewer requests; the server says SlowDown (503): \
         said by the test"
    );
    // The SDK does not try on its own besides.
    assert_eq!(tries.load(Ordering::SeqCst), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_known_by_its_bytes() {
    let place = Place::on(Kind::Versity).await;
    let (_proxy, options) = behind(&place, "/lost", |count, head| {
        if count == 1 && head.starts_with("PUT") { Act::Cut(0) } else { Act::Pass }
    })
    .await;
    let store = S3Store::open(options.clone()).await.unwrap();
    let created = retrying(store).create("lost", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(created, Creation::Created);
    // Without one who tries again, the caller hears that nothing is known.
    let (_proxy, options) = behind(&place, "/again", |_, _| Act::Cut(0)).await;
    let store = S3Store::open(options).await.unwrap();
    let error = store.create("again", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_never_taken_for_the_whole() {
    let place = Place::on(Kind::Versity).await;
    let (_proxy, options) = behind(&place, "/cut", |count, head| match (count, head) {
        (_, head) if head.starts_with("PUT") => Act::Pass,
        (2, _) => Act::Cut(20),
        (3, _) => Act::Cut(100_000),
        _ => Act::Pass,
    })
    .await;
    let store = S3Store::open(options.clone()).await.unwrap();
    let bytes = Bytes::from(vec![7; 200_000]);
    store.create("cut", bytes.clone()).await.unwrap();
    for _ in 0..2 {
        let error = store.get("cut").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
    assert_eq!(store.get("cut").await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up_and_tried_again() {
    let place = Place::on(Kind::Versity).await;
    let limits = Limits { silence: Duration::from_millis(500), ..Limits::default() };
    let (_proxy, options) = behind(&place, "/slow", |count, _| match count {
        2 | 4 => Act::Silence,
        _ => Act::Pass,
    })
    .await;
    let store = S3Store::open(S3Options { limits, ..options }).await.unwrap();
    store.create("slow", Bytes::from_static(b"1")).await.unwrap();
    let error = store.get("slow").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "cannot read slow: no answer for 1 s");
    assert_eq!(store.get("slow").await.unwrap(), "1");
    assert_eq!(retrying(store).get("slow").await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_meet_are_repeated_until_one_stands() {
    let place = Place::on(Kind::Versity).await;
    let (_proxy, options) = behind(&place, "/met", |count, _| match count {
        1 | 2 => Act::error(409, "ConditionalRequestConflict", ""),
        _ => Act::Pass,
    })
    .await;
    let store = S3Store::open(options).await.unwrap();
    assert_eq!(store.create("met", Bytes::new()).await.unwrap(), Creation::Created);
    assert_eq!(store.create("met", Bytes::new()).await.unwrap(), Creation::Exists);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_endpoint_is_unavailable_and_says_why() {
    let place = Place::on(Kind::Versity).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let endpoint = Some(format!("http://127.0.0.1:{port}"));
    let options = S3Options { endpoint, retry: QUICK, ..place.options("x") };
    let error = S3Store::open(options).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains("Connection refused"), "{error}");
}
