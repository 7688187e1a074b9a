//! The volume driver against a real file system.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dbbackup_storage::{
    Creation, ErrorKind, MAX_OBJECT_BYTES, Store, VolumeOptions, VolumeStore, check_conformance,
    collect_listing,
};

#[allow(clippy::unwrap_used, reason = "a helper of tests")]
async fn open(path: &Path) -> VolumeStore {
    VolumeStore::open(path, VolumeOptions::default()).await.unwrap()
}

#[tokio::test]
async fn the_volume_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("new/repository")).await;
    check_conformance(Arc::new(store)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_in_the_temporary_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    assert!(store.publishes_by_link());
    store.create("a/b", Bytes::from_static(b"1")).await.unwrap();
    store.create("a/b", Bytes::from_static(b"2")).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join(".tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn symbolic_links_are_not_followed_for_reading_or_writing() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    let store = open(folder.path()).await;
    symlink(outside.path(), folder.path().join("packs")).unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("keys/k")).unwrap();

    let kinds = [
        store.get("packs/secret").await.unwrap_err().kind,
        store.create("packs/new", Bytes::new()).await.unwrap_err().kind,
        store.get("keys/k").await.unwrap_err().kind,
        store.head("keys/k").await.unwrap_err().kind,
    ];
    assert_eq!(kinds, [ErrorKind::Unsuitable; 4]);
    assert_eq!(store.create("keys/k", Bytes::new()).await.unwrap(), Creation::Exists);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    let names: Vec<_> =
        collect_listing(store.list("")).await.unwrap().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["keys/k", "packs"], "links are seen as foreign files, not entered");
}

#[tokio::test]
async fn a_shared_group_can_write_and_objects_are_read_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o2770)).unwrap();
    let store = open(folder.path()).await;
    store.create("packs/aa/x", Bytes::from_static(b"1")).await.unwrap();
    let mode = |path: &str| folder.path().join(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode("packs"), 0o2770);
    assert_eq!(mode("packs/aa"), 0o2770);
    assert_eq!(mode(".tmp"), 0o2770);
    assert_eq!(mode("packs/aa/x"), 0o440);
}

#[tokio::test]
async fn old_leftovers_go_and_young_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await;
    let leftover = |name: &str, age: Duration| {
        let file = std::fs::File::create(folder.path().join(".tmp").join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    leftover("old", Duration::from_secs(25 * 3600));
    leftover("young", Duration::from_secs(23 * 3600));
    open(folder.path()).await;
    assert!(!folder.path().join(".tmp/old").exists());
    assert!(folder.path().join(".tmp/young").exists());
}

#[tokio::test]
async fn a_read_only_volume_needs_no_right_to_write() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await.create("a", Bytes::from_static(b"1")).await.unwrap();
    let options = VolumeOptions { writable: false, ..VolumeOptions::default() };
    let store = VolumeStore::open(folder.path(), options).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), "1");
    let error = store.create("b", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    let missing = VolumeStore::open(folder.path().join("none"), options).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn no_more_is_read_at_once_than_an_object_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let most = MAX_OBJECT_BYTES as u64;
    let file = std::fs::File::create(folder.path().join("large")).unwrap();
    file.set_len(4 * most).unwrap();
    assert_eq!(store.get_range("large", most..most + 10).await.unwrap().len(), 10);
    for range in [0..most + 1, 0..4 * most] {
        let error = store.get_range("large", range).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Truncated);
    }
    assert_eq!(store.get("large").await.unwrap_err().kind, ErrorKind::Truncated);
}

#[tokio::test]
async fn what_the_file_system_keeps_beside_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    std::fs::create_dir(folder.path().join("lost+found")).unwrap();
    std::fs::write(folder.path().join(".nfs000"), "x").unwrap();
    assert!(collect_listing(store.list("")).await.unwrap().is_empty());
    std::fs::write(folder.path().join("Photo 1.jpg"), "x").unwrap();
    let names: Vec<_> =
        collect_listing(store.list("")).await.unwrap().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["Photo 1.jpg"]);
}
