//! Whoever reads the output has gone.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::support::{Ended, Place, noise, runner, store};

/// An end of a pipe that nobody reads from.
fn to_nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn wait(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_reader_that_has_gone_changes_nothing() {
    let place = Place::new();
    store(&place, &["store", "x"], b"x");
    let slot = "--slot=2026-01-01T00:00:00Z";
    let commands: [&[&str]; 6] = [
        &["init"],
        &["snapshots"],
        &["snapshots", "--json"],
        &["check"],
        &["check", "--json", "--level=data"],
        &["inspect", "--series=a", "--run=b", slot],
    ];
    for arguments in commands {
        assert_eq!(gone(place.command(arguments)), (Some(0), true), "{arguments:?}");
    }
    assert_eq!(gone(runner(["--help"])), (Some(0), true));
    // A command line that is wrong still says so with its code.
    let mut wrong = runner(["what"]);
    assert_eq!(wrong.stderr(to_nobody()).status().unwrap().code(), Some(64));
}

/// The exit code without a reader, and whether nothing was complained of.
fn gone(mut command: Command) -> (Option<i32>, bool) {
    let ended = wait(command.stdout(to_nobody()).spawn().unwrap());
    (ended.code, !ended.err.contains("error") && !ended.err.contains("panicked"))
}

#[test]
fn bytes_that_nobody_takes_are_not_a_fetch_that_went_well() {
    let place = Place::new();
    let id = store(&place, &["store", "x"], &noise(1, 1 << 20));
    for output in [to_nobody(), File::options().write(true).open("/dev/full").unwrap().into()] {
        let ended = wait(place.command(["fetch", &id]).stdout(output).spawn().unwrap());
        assert!(matches!(ended.code, Some(67 | 74)), "{:?} {}", ended.code, ended.err);
        assert!(ended.err.starts_with("error: cannot write standard output"), "{}", ended.err);
    }
}
