//! SIGTERM and SIGINT in the middle of work.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::{Ended, Place, files_below, noise, signal, store, wait_until};

#[test]
fn a_signal_in_the_middle_ends_it_soon_tidily_and_with_its_own_code() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let place = Place::new();
        let mut child = place.command(["store", "x"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A pack has 16 MiB: when this has gone in, one at least is being written.
        stdin.write_all(&noise(1, 40 << 20)).unwrap();
        let packs = place.path("repository/packs");
        wait_until("no pack", || !files_below(&packs).is_empty(), || format!("{packs:?}"));
        signal(&child, name);
        let mut ended = || child.try_wait().unwrap().is_some();
        wait_until("it goes on", &mut ended, || format!("SIG{name}"));
        let ended = Ended::from(child.wait_with_output().unwrap());
        // Standard input is still open: it did not end because its work did.
        drop(stdin);
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains("(Interrupted)"), "{}", ended.err);
        assert_eq!(ended.text(), "");
        let left = files_below(&place.path("repository/.tmp"));
        assert!(left.is_empty(), "{name}: {left:?}");
        assert_eq!(place.call(["snapshots", "--json"]).well().text(), "[]\n");
    }
}

/// A session that is lost ends what runs in it, tidily, but not what `nohup` has begun.
#[test]
fn a_terminal_that_is_gone_ends_it_unless_it_was_begun_without_one() {
    for (begun, code) in [("--default-signal=HUP", 129), ("--ignore-signal=HUP", 0)] {
        let place = Place::new();
        let command = place.command(["store", "x"]);
        let mut child = Command::new("env")
            .arg(begun)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&noise(1, 40 << 20)).unwrap();
        let packs = place.path("repository/packs");
        wait_until("no pack", || !files_below(&packs).is_empty(), || format!("{packs:?}"));
        signal(&child, "HUP");
        if code == 0 {
            drop(stdin);
        } else {
            wait_until("it goes on", || child.try_wait().unwrap().is_some(), String::new);
        }
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(code), "{}", ended.err);
    }
}

#[test]
fn a_fetch_that_is_stopped_says_that_its_target_is_not_complete() {
    let place = Place::new();
    let folder = place.path("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a"), noise(1, 32 << 20)).unwrap();
    let id = store(&place, &["store", "x", "--path", folder.to_str().unwrap()], &[]);
    let target = place.path("target");
    // Slowly: it must not be done before it hears the signal.
    let target_of = target.to_str().unwrap();
    let arguments = ["fetch", &id, "--target", target_of, "--download-limit", "8000000"];
    let child = place.command(arguments).spawn().unwrap();
    wait_until("no file", || target.join("a").exists(), || format!("{target:?}"));
    signal(&child, "TERM");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(143), "{}", ended.err);
    assert!(ended.err.contains("target is not complete (Interrupted)"), "{}", ended.err);
    assert_eq!(ended.text(), "");
}

#[test]
fn a_check_that_is_stopped_ends_between_two_blocks() {
    let place = Place::new();
    store(&place, &["store", "x"], &noise(1, 32 << 20));
    let sessions = place.path("repository/sessions");
    let before = files_below(&sessions).len();
    let child = place.command(["check", "--level=data"]).spawn().unwrap();
    // It begins with a session, so that the collector waits for it.
    wait_until("no session", || files_below(&sessions).len() > before, || format!("{sessions:?}"));
    signal(&child, "TERM");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(143), "{}{}", ended.text(), ended.err);
    assert!(ended.err.contains("(Interrupted)"), "{}", ended.err);
}
