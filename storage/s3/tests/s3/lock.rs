//! Object Lock: what is locked stays, and for how long.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::ObjectLockMode as LockMode;
use bytes::Bytes;
use dbbackup_contract::{ObjectLock, ObjectLockMode};
use dbbackup_storage::{Creation, ErrorKind, RetryPolicy, Store};
use dbbackup_storage_s3::{S3Options, S3Store};

use crate::place::{BUCKET, Place};
use crate::server::Kind;

const LOCKED: &str = "locked-backups";
const PACK: &str = "packs/aa/x-0";

/// The place in the bucket with Object Lock, by a lock of so many days.
async fn open(place: &Place, days: u16) -> S3Store {
    S3Store::open(options(place, LOCKED, days)).await.unwrap()
}

fn options(place: &Place, bucket: &str, days: u16) -> S3Options {
    S3Options {
        bucket: bucket.to_owned(),
        object_lock: Some(ObjectLock { mode: ObjectLockMode::Compliance, days }),
        ..place.options("shop")
    }
}

/// Mode of an object's lock, and the days that are left of it.
async fn lock_of(place: &Place, name: &str) -> Option<(LockMode, u64)> {
    let request = place.client().head_object().bucket(LOCKED).key(format!("shop/{name}"));
    let found = request.send().await.unwrap();
    let until = SystemTime::try_from(*found.object_lock_retain_until_date()?).unwrap();
    let left = until.duration_since(SystemTime::now()).unwrap() + Duration::from_secs(3600);
    Some((found.object_lock_mode()?.clone(), left.as_secs() / (24 * 3600)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_needs_is_locked_and_nobody_deletes_it_for_good() {
    let place = Place::on(Kind::Minio).await;
    place.make_locking_bucket(LOCKED).await;
    let store = open(&place, 2).await;
    assert_eq!(store.capabilities().lock, Some(Duration::from_secs(2 * 24 * 3600)));
    for name in [PACK, "meta/aa/x-0", "snapshots/x", "config/0", "keys/x", "logs/x/0", "sessions/x"]
    {
        store.create(name, Bytes::from_static(b"1")).await.unwrap();
        let locked = (name != "sessions/x").then_some((LockMode::Compliance, 2));
        assert_eq!(lock_of(&place, name).await, locked, "{name}");
    }
    // Its version cannot go, even by who may do everything.
    let client = place.client();
    let key = format!("shop/{PACK}");
    let versions = client.list_object_versions().bucket(LOCKED).prefix(&key).send().await.unwrap();
    let version = versions.versions()[0].version_id().unwrap();
    let delete = client.delete_object().bucket(LOCKED).key(&key).version_id(version);
    assert!(delete.bypass_governance_retention(true).send().await.is_err());
    // What is deleted is hidden, and its name is free.
    store.delete(PACK).await.unwrap();
    assert_eq!(store.head(PACK).await.unwrap_err().kind, ErrorKind::NotFound);
    let again = store.create(PACK, Bytes::from_static(b"2")).await.unwrap();
    assert_eq!(again, Creation::Created);
    let old = client.get_object().bucket(LOCKED).key(&key).version_id(version).send().await;
    assert_eq!(old.unwrap().body.collect().await.unwrap().to_vec(), b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_extended_when_less_than_half_of_it_is_left() {
    let place = Place::on(Kind::Minio).await;
    place.make_locking_bucket(LOCKED).await;
    let short = open(&place, 4).await;
    short.create(PACK, Bytes::new()).await.unwrap();
    assert!(!short.keep(PACK).await.unwrap());
    assert!(!open(&place, 7).await.keep(PACK).await.unwrap(), "4 of 7 days are left");
    assert_eq!(lock_of(&place, PACK).await, Some((LockMode::Compliance, 4)));
    assert!(open(&place, 9).await.keep(PACK).await.unwrap(), "4 of 9 are less than half");
    assert_eq!(lock_of(&place, PACK).await, Some((LockMode::Compliance, 9)));
    // What was never locked gets one.
    short.create("sessions/x", Bytes::new()).await.unwrap();
    assert!(short.keep("sessions/x").await.unwrap());
    assert_eq!(lock_of(&place, "sessions/x").await, Some((LockMode::Compliance, 4)));
    assert_eq!(short.keep("packs/aa/y-0").await.unwrap_err().kind, ErrorKind::NotFound);
    // Where nothing is said of locks, nothing is asked.
    let plain = S3Options { object_lock: None, ..options(&place, LOCKED, 1) };
    let plain = S3Store::open(plain).await.unwrap();
    assert!(!plain.keep(PACK).await.unwrap());
    assert_eq!(plain.capabilities().lock, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_object_lock_is_refused() {
    let place = Place::on(Kind::Minio).await;
    let retry = RetryPolicy { tries: 1, ..RetryPolicy::default() };
    let open = |days| S3Store::open(S3Options { retry, ..options(&place, BUCKET, days) });
    let error = open(2).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
    assert!(error.detail.contains("has it switched off"), "{error}");
    let error = open(0).await.unwrap_err();
    assert!(error.detail.contains("1 to 36,500 days"), "{error}");
}
