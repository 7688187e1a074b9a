//! A volume without room: the run fails, and what was there before stays whole.

use crate::support::{Mounted, Place, noise, store};

#[test]
fn a_full_volume_is_74_and_what_was_stored_before_stays_whole() {
    let volume = Mounted::tmpfs(2);
    let place = Place::at(tempfile::tempdir().unwrap(), &volume.path("repository"));
    place.call(["init"]).well();
    let before = store(&place, &["store", "kept"], b"kept");
    let ended = place.feed(["store", "large"], &noise(1, 8 << 20));
    assert_eq!(ended.code, Some(74), "{}", ended.err);
    assert!(ended.err.contains("No space left on device"), "{}", ended.err);
    assert!(ended.err.contains("(StorageFull)"), "{}", ended.err);
    assert!(ended.err.contains(&place.repository), "{}", ended.err);
    assert_eq!(ended.text(), "");

    assert_eq!(place.call(["fetch", &before]).well().text(), "kept");
    let list = place.call(["snapshots"]).well();
    assert_eq!(list.text().lines().count(), 1, "{}", list.text());
    let left: Vec<_> = std::fs::read_dir(volume.path("repository/.tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_target_without_room_is_74_too() {
    let volume = Mounted::tmpfs(2);
    let place = Place::new();
    let file = place.path("file");
    std::fs::write(&file, noise(1, 4 << 20)).unwrap();
    let id = store(&place, &["store", "x", "--path", file.to_str().unwrap()], &[]);
    let target = volume.path("target");
    let ended = place.call(["fetch", &id, "--target", target.to_str().unwrap()]);
    assert_eq!(ended.code, Some(74), "{}", ended.err);
    assert!(ended.err.contains(target.to_str().unwrap()), "{}", ended.err);
    assert!(ended.err.contains("target is not complete (StorageFull)"), "{}", ended.err);
    assert!(!ended.err.contains(&place.repository), "it is not the repository: {}", ended.err);
}
