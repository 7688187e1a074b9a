//! The program as its container runs it, with shell scripts for servers: what it answers, and that
//! nothing of a server is left when it says so, whatever ends first.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use dbbackup_shim::{
    FromShim, MAX_LINE_BYTES, MAX_MESSAGE_BYTES, SignalName, ToShim, decode, encode,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Longer than all that is waited for here.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, and the runner's side of its link.
struct Pair {
    folder: tempfile::TempDir,
    child: Child,
    link: BufReader<UnixStream>,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("shim.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let child = shim(&socket);
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut pair = Self { folder, child, link: BufReader::new(stream) };
        assert_eq!(pair.next(), FromShim::Hello { protocol: 1 });
        pair
    }

    /// With a server that runs this script, and has written `ready`.
    fn serving(script: &str) -> Self {
        let mut pair = Self::new();
        pair.start(script);
        let started = pair.next();
        assert!(matches!(started, FromShim::Started { .. }), "{started:?}");
        assert_eq!(pair.next(), line("ready"));
        pair
    }

    fn start(&mut self, script: &str) {
        let arguments = vec!["-c".to_owned(), script.to_owned(), "server".to_owned()];
        let folder = self.folder.path().to_str().unwrap().to_owned();
        let environment = BTreeMap::from([("FOLDER".to_owned(), folder)]);
        self.ask(&ToShim::Start { program: "/bin/sh".into(), arguments, environment });
    }

    fn ask(&mut self, message: &ToShim) {
        self.link.get_mut().write_all(&encode(message).unwrap()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).unwrap();
    }

    fn next(&mut self) -> FromShim {
        let mut line = Vec::new();
        self.link.read_until(b'\n', &mut line).unwrap();
        decode(&line).unwrap()
    }

    /// The exit code, and how long it took.
    fn end(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let code = end(&mut self.child).code();
        (code, begun.elapsed())
    }

    /// What the script has left in a file of the folder.
    fn left(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(name)).ok()
    }

    /// The process whose number the script has written to this file.
    fn process(&self, name: &str) -> Pid {
        pid(self.left(name).unwrap().trim().parse().unwrap())
    }
}

fn shim(socket: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_dbbackup-shim")).arg("--socket").arg(socket).spawn().unwrap()
}

fn end(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

fn line(text: &str) -> FromShim {
    FromShim::Line { text: text.into() }
}

fn ended(code: Option<i32>, signal: Option<i32>) -> FromShim {
    FromShim::Ended { code, signal }
}

fn runs(process: Pid) -> bool {
    test_kill_process(process).is_ok()
}

#[test]
fn it_connects_as_soon_as_somebody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let socket: PathBuf = folder.path().join("shim.sock");
    let mut child = shim(&socket);
    std::thread::sleep(Duration::from_millis(300));
    let listener = UnixListener::bind(&socket).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut hello = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut hello).unwrap();
    assert_eq!(decode(&hello), Ok(FromShim::Hello { protocol: 1 }));
    assert_eq!(end(&mut child).code(), Some(1), "the link was closed");
}

#[test]
fn without_a_runner_it_ends_when_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = shim(&folder.path().join("shim.sock"));
    std::thread::sleep(Duration::from_millis(300));
    kill_process(pid(child.id()), Signal::TERM).unwrap();
    assert_eq!(end(&mut child).code(), Some(0));
}

#[test]
fn it_finds_what_is_there_and_names_the_folders_of_what_is_not() {
    let mut pair = Pair::new();
    pair.ask(&ToShim::Find { program: "cargo".into(), major: None });
    let found = pair.next();
    let FromShim::Found { program, version } = found else { panic!("{found:?}") };
    assert!(program.ends_with("/cargo") && version.starts_with("cargo 1."), "{program} {version}");

    pair.ask(&ToShim::Find { program: "no-such-server".into(), major: Some(17) });
    let FromShim::NotFound { tried } = pair.next() else { panic!("found") };
    for folder in ["/usr/bin", "/opt/bitnami/postgresql/bin"] {
        assert!(tried.iter().any(|one| one == folder), "{folder} of {tried:?}");
    }
    pair.ask(&ToShim::Bye {});
    assert_eq!(pair.end().0, Some(0));
}

#[test]
fn lines_come_in_their_order_bounded_and_before_the_end() {
    let script = "echo ready; printf 'a\\033[1m\\n' >&2; echo b; head -c 5000 /dev/zero | tr '\\0' x; \
        echo; echo \"$FOLDER\" \"$PATH\"; [ -e /dev/stdin ] && cat; printf last; exit 3";
    let mut pair = Pair::serving(script);
    assert_eq!(pair.next(), line("a [1m"));
    assert_eq!(pair.next(), line("b"));
    assert_eq!(pair.next(), line(&"x".repeat(MAX_LINE_BYTES)));
    let path = std::env::var("PATH").unwrap();
    assert_eq!(pair.next(), line(&format!("{} {path}", pair.folder.path().display())));
    assert_eq!(pair.next(), line("last"));
    assert_eq!(pair.next(), ended(Some(3), None));
}

#[test]
fn there_is_one_server_at_a_time_and_another_one_after_it() {
    let mut pair = Pair::serving("echo ready; exec sleep 600");
    pair.start("true");
    let FromShim::NotStarted { error } = pair.next() else { panic!("a second one") };
    assert!(error.contains("runs already"), "{error}");
    pair.ask(&ToShim::Signal { name: SignalName::Term });
    assert_eq!(pair.next(), ended(None, Some(15)));
    // Nobody is there to get it.
    pair.ask(&ToShim::Signal { name: SignalName::Kill });
    pair.start("exit 7");
    assert!(matches!(pair.next(), FromShim::Started { .. }));
    assert_eq!(pair.next(), ended(Some(7), None));
    pair.ask(&ToShim::Bye {});
    assert_eq!(pair.end().0, Some(0));
}

#[test]
fn what_cannot_be_started_is_said() {
    let mut pair = Pair::new();
    let program = "/no/such/server".to_owned();
    pair.ask(&ToShim::Start { program, arguments: Vec::new(), environment: BTreeMap::new() });
    let FromShim::NotStarted { error } = pair.next() else { panic!("started") };
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn each_signal_arrives_as_itself() {
    let script = "trap 'echo int' INT; trap 'echo term' TERM; trap 'echo quit' QUIT; echo ready; \
        while :; do sleep 0.05; done";
    let mut pair = Pair::serving(script);
    for (name, word) in
        [(SignalName::Int, "int"), (SignalName::Term, "term"), (SignalName::Quit, "quit")]
    {
        pair.ask(&ToShim::Signal { name });
        assert_eq!(pair.next(), line(word));
    }
    pair.ask(&ToShim::Signal { name: SignalName::Kill });
    assert_eq!(pair.next(), ended(None, Some(9)));
}

#[test]
fn a_lost_runner_ends_the_server_at_once() {
    let script = "trap 'echo quit >$FOLDER/quit; exit' QUIT; echo $$ >$FOLDER/pid; echo ready; \
        while :; do sleep 0.05; done";
    let mut pair = Pair::serving(script);
    let server = pair.process("pid");
    pair.link.get_mut().shutdown(std::net::Shutdown::Both).unwrap();
    let folder = pair.folder.path().join("quit");
    let (code, took) = pair.end();
    assert_eq!(code, Some(1));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(folder.exists() && !runs(server));
}

#[test]
fn a_server_that_does_not_end_for_a_lost_runner_is_killed() {
    let script =
        "trap '' QUIT INT TERM; echo $$ >$FOLDER/pid; echo ready; while :; do sleep 0.05; done";
    let mut pair = Pair::serving(script);
    let server = pair.process("pid");
    pair.link.get_mut().shutdown(std::net::Shutdown::Both).unwrap();
    let (code, took) = pair.end();
    assert_eq!(code, Some(1));
    assert!((8..15).contains(&took.as_secs()), "{took:?}");
    assert!(!runs(server));
}

#[test]
fn told_to_stop_it_shuts_the_server_down_and_says_so() {
    let script = "trap 'echo int; exit 5' INT; echo ready; while :; do sleep 0.05; done";
    let mut pair = Pair::serving(script);
    pair.signal(Signal::TERM);
    assert_eq!(pair.next(), line("int"));
    assert_eq!(pair.next(), ended(Some(5), None));
    assert_eq!(pair.end().0, Some(0));
}

#[test]
fn a_goodbye_shuts_down_what_still_runs() {
    let script = "trap 'echo int; exit' INT; echo ready; while :; do sleep 0.05; done";
    let mut pair = Pair::serving(script);
    pair.ask(&ToShim::Bye {});
    assert_eq!(pair.next(), line("int"));
    assert_eq!(pair.next(), ended(Some(0), None));
    assert_eq!(pair.end().0, Some(0));
}

#[test]
fn a_runner_that_goes_while_the_server_stops_shortens_its_time() {
    let script = "trap '' QUIT INT TERM; echo ready; while :; do sleep 0.05; done";
    let mut pair = Pair::serving(script);
    pair.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    pair.link.get_mut().shutdown(std::net::Shutdown::Both).unwrap();
    let (code, took) = pair.end();
    assert_eq!(code, Some(0));
    assert!((8..15).contains(&took.as_secs()), "{took:?}");
}

/// Sessions of their own, as PostgreSQL's processes have: no signal to a group finds them.
#[test]
fn the_end_is_said_when_the_orphans_have_ended_too() {
    let script =
        "setsid sh -c 'echo $$ >$FOLDER/pid; sleep 1; echo orphan' & sleep 0.3; echo ready; exit 4";
    let mut pair = Pair::serving(script);
    let orphan = pair.process("pid");
    assert!(runs(orphan));
    assert_eq!(pair.next(), line("orphan"));
    assert_eq!(pair.next(), ended(Some(4), None));
    assert!(!runs(orphan), "it was taken in");
}

#[test]
fn an_orphan_that_does_not_end_is_killed_before_the_end_is_said() {
    let script = "setsid sh -c 'trap \"\" TERM; echo $$ >$FOLDER/pid; sleep 600' >/dev/null 2>&1 & \
        sleep 0.3; echo ready; exit 4";
    let mut pair = Pair::serving(script);
    let orphan = pair.process("pid");
    let begun = Instant::now();
    assert_eq!(pair.next(), ended(Some(4), None));
    let took = begun.elapsed().as_secs();
    assert!((8..15).contains(&took), "{took} s");
    assert!(!runs(orphan));
}

/// The server waits for the runner; this program still hears.
#[test]
fn a_runner_that_does_not_read_holds_up_the_server_alone() {
    let script =
        "echo ready; trap 'exit' INT; while :; do echo a line of a server that talks a lot; done";
    let mut pair = Pair::serving(script);
    std::thread::sleep(Duration::from_secs(1));
    pair.signal(Signal::TERM);
    // The script cannot even hear its signal while it waits to write: it is killed in the end.
    std::thread::sleep(Duration::from_millis(500));
    pair.link.get_mut().shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(pair.end().0, Some(0));
}

#[test]
fn what_is_no_message_ends_the_link() {
    let endless = vec![b'x'; MAX_MESSAGE_BYTES + 1];
    for wrong in [&b"{\"remove\":{}}\n"[..], b"\xff\n", &endless] {
        let mut pair = Pair::new();
        pair.link.get_mut().write_all(wrong).unwrap();
        assert_eq!(pair.end().0, Some(1));
    }
}

#[test]
fn arguments_that_it_does_not_know_are_refused() {
    let with = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_dbbackup-shim")).args(arguments).output().unwrap()
    };
    for wrong in [&["serve"][..], &["--socket"], &["--socket", "a", "b"], &["--version", "b"]] {
        let output = with(wrong);
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: dbbackup-shim"));
    }
    assert!(with(&["--version"]).stdout.starts_with(b"dbbackup-shim "));
}
