//! A volume that hangs: its calls fail nothing, they do not return. The kernel
//! lets one of ours do just that (`fsfreeze`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use crate::support::{Mounted, Place, noise, signal, wait_until_it_listens};

fn place_on(volume: &Mounted) -> Place {
    let place = Place::at(tempfile::tempdir().unwrap(), &volume.path("repository"));
    place.call(["init"]).well();
    place
}

/// The lines of standard error up to the one that begins so.
fn said_until(child: &mut Child, beginning: &str) -> String {
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        said += &line;
        said += "\n";
        if line.starts_with(beginning) {
            return said;
        }
    }
    panic!("it ended without {beginning:?}: {said}");
}

#[test]
fn a_volume_that_hangs_before_it_is_opened_is_a_stall_of_every_command() {
    let volume = Mounted::ext4(64);
    let place = place_on(&volume);
    for arguments in [
        &["init"][..],
        &["store", "REPO", "name"],
        &["snapshots"],
        &["fetch", "REPO", "x"],
        &["check"],
        &["inspect", "REPO", "--series=a", "--run=b", "--slot=2026-01-01T00:00:00Z"],
    ] {
        let frozen = volume.freeze();
        let arguments = arguments.iter().filter(|argument| **argument != "REPO");
        let mut child = place.command(arguments).arg("--stall-timeout=1").spawn().unwrap();
        let said = said_until(&mut child, "error: ");
        let shown = volume.path("repository").display().to_string();
        assert_eq!(
            said,
            format!(
                "error: cannot open it: the volume {shown} does not answer for 1 s (Stalled)\n"
            )
        );
        // What hangs in the kernel keeps the process from ending.
        drop(frozen);
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}

#[test]
fn a_volume_that_hangs_in_the_middle_is_a_stall_that_names_it_and_commits_nothing() {
    let volume = Mounted::ext4(200);
    let place = place_on(&volume);
    let mut command = place.command(["store", "name", "--stall-timeout=2"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A pack has 16 MiB: when this has gone in, one at least was written.
    stdin.write_all(&noise(1, 40 << 20)).unwrap();
    let frozen = volume.freeze();
    let feeding = std::thread::spawn(move || stdin.write_all(&noise(2, 60 << 20)));
    let said = said_until(&mut child, "error: ");
    assert!(said.contains("cannot write packs/"), "{said}");
    let shown = volume.path("repository").display().to_string();
    assert!(
        said.contains(&format!("the volume {shown} does not answer for 2 s (Stalled)")),
        "{said}"
    );
    drop(frozen);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(feeding.join().unwrap().is_err(), "all of it was taken");
    assert_eq!(place.call(["snapshots", "--json"]).well().text(), "[]\n");
}

#[test]
fn a_stop_is_heard_while_the_volume_hangs() {
    let volume = Mounted::ext4(64);
    let place = place_on(&volume);
    let frozen = volume.freeze();
    let mut child = place.command(["snapshots"]).spawn().unwrap();
    wait_until_it_listens(&child);
    signal(&child, "TERM");
    let said = said_until(&mut child, "error: ");
    assert!(said.ends_with("error: the run was told to stop (Interrupted)\n"), "{said}");
    drop(frozen);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
