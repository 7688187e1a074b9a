//! `store … -- COMMAND`: what a program writes is a snapshot only if it ended well.

use crate::support::{Ended, Place, signal, wait_until};

/// `store REPO KEY name -- sh -c SCRIPT`.
fn command(place: &Place, script: &str) -> std::process::Command {
    let mut command = place.command(["store"]);
    command.args(["--json", "name", "--", "/bin/sh", "-c", script]);
    command
}

fn run(place: &Place, script: &str) -> Ended {
    command(place, script).output().unwrap().into()
}

fn nothing_is_stored(place: &Place) {
    assert_eq!(place.call(["snapshots", "--json"]).well().text(), "[]\n");
}

#[test]
fn what_a_program_wrote_is_stored_when_it_ended_well() {
    let place = Place::new();
    let mut with_variable = command(&place, "echo heard >&2; printf %s \"$GREETING\"; seq 100000");
    let ended = Ended::from(with_variable.env("GREETING", "hello").output().unwrap()).well();
    let outcome: serde_json::Value = serde_json::from_str(ended.text()).unwrap();
    let fetched = place.call(["fetch", outcome["id"].as_str().unwrap()]).well();
    assert!(fetched.text().starts_with("hello1\n2\n") && fetched.text().ends_with("\n100000\n"));
    // What ended well and wrote nothing has nothing to say: that is stored, too.
    assert_eq!(run(&place, "exit 0").code, Some(0));
}

#[test]
fn a_program_that_failed_at_its_end_stores_nothing_and_its_last_words_are_told() {
    let place = Place::new();
    let ended = run(&place, "seq 100000; printf 'a\\nlost \\033[31mthe server\\n' >&2; exit 3");
    assert_eq!(ended.code, Some(75), "{}", ended.err);
    assert_eq!(ended.text(), "");
    for words in ["/bin/sh ended with exit code 3: a | lost  [31mthe server", "(ClientFailed)"] {
        assert!(ended.err.contains(words), "{}", ended.err);
    }
    assert!(!ended.err.contains('\u{1b}'));
    nothing_is_stored(&place);
    let ended = run(&place, "seq 10; kill -KILL $$");
    assert!(ended.err.contains("was killed by signal 9"), "{}", ended.err);
    assert!(ended.err.contains("(ChildKilled)"), "{}", ended.err);
    nothing_is_stored(&place);
}

#[test]
fn a_program_that_does_not_exist_is_told() {
    let place = Place::new();
    let mut command = place.command(["store"]);
    let ended = Ended::from(command.args(["name", "--", "/no/such"]).output().unwrap());
    assert!(ended.err.contains("(ClientMissing)"), "{}", ended.err);
    assert_eq!(ended.code, Some(73));
    nothing_is_stored(&place);
    let ended = Ended::from(
        place.command(["store"]).args(["name", "--path", "/", "--", "x"]).output().unwrap(),
    );
    assert_eq!(ended.code, Some(64), "{}", ended.err);
}

#[test]
fn a_request_to_stop_is_passed_on_to_the_program() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let place = Place::new();
        let (began, told) = (place.path("began"), place.path("told"));
        let script = format!(
            "trap 'touch {}; exit 1' TERM; touch {}; while :; do echo x; sleep 0.05; done",
            told.display(),
            began.display()
        );
        let mut child = command(&place, &script).spawn().unwrap();
        wait_until("it has not begun", || began.exists(), || format!("{began:?}"));
        signal(&child, name);
        let mut ended = || child.try_wait().unwrap().is_some();
        wait_until("it goes on", &mut ended, || format!("SIG{name}"));
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains("(Interrupted)"), "{}", ended.err);
        assert!(told.exists(), "the program was not asked to end");
        nothing_is_stored(&place);
    }
}
