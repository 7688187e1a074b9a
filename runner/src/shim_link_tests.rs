//! The link, to the real program with shell scripts for servers, and to one that lies.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use dbbackup_shim::MAX_LINE_BYTES;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// The real program, built by the same cargo that has built these tests: no other crate's program
/// is at hand in a test.
pub(crate) fn shim_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "dbbackup-shim", "--bin", "dbbackup-shim"]);
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        // These tests lie in `deps`, beside which programs are put.
        let tests = std::env::current_exe().unwrap();
        tests.parent().and_then(Path::parent).unwrap().join("dbbackup-shim")
    })
}

/// A socket in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
    listening: Listening,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listening = ShimLink::listen(&folder.path().join("shim.sock")).unwrap();
        Self { folder, listening }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("shim.sock")
    }

    fn shim(&self) -> Shim {
        let mut shim = Command::new(shim_program());
        Shim(shim.arg("--socket").arg(self.socket()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// What connects and says this, and stays.
    async fn liar(&self, says: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(says).await.unwrap();
        stream
    }

    async fn lied_to(&self, says: &[u8]) -> (ShimLink, UnixStream) {
        let stream = self.liar(&[b"{\"hello\":{\"protocol\":1}}\n", says].concat()).await;
        (self.listening.accept(PATIENCE).await.unwrap(), stream)
    }
}

/// The program as a container would run it: it goes with whoever started it.
struct Shim(Child);

impl Shim {
    async fn code(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.0.wait().unwrap().code()).await.unwrap()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn start(link: &mut ShimLink, script: &str) -> Result<(), Failure> {
    let environment = BTreeMap::from([("WORD".to_owned(), "added".to_owned())]);
    link.start("/bin/sh", &["-c".to_owned(), script.to_owned()], &environment).await
}

fn line(text: &str) -> Event {
    Event::Line(text.to_owned())
}

#[tokio::test]
async fn a_server_is_found_started_heard_signalled_and_ended() {
    let place = Place::new();
    let shim = place.shim();
    let mut link = place.listening.accept(PATIENCE).await.unwrap();
    let found = link.find("cargo", None).await.unwrap();
    assert!(found.program.starts_with('/') && found.version.starts_with("cargo 1."), "{found:?}");

    let script = "trap 'echo int; exit 5' INT; echo ready $WORD; while :; do sleep 0.05; done";
    start(&mut link, script).await.unwrap();
    assert_eq!(link.next().await.unwrap(), line("ready added"));
    let second = start(&mut link, "true").await.unwrap_err();
    assert!(second.message.contains("runs already"), "{second}");
    // Given up while it waits, it loses nothing.
    assert!(timeout(Duration::from_millis(50), link.next()).await.is_err());
    link.signal(SignalName::Int).await.unwrap();
    assert_eq!(link.next().await.unwrap(), line("int"));
    assert_eq!(link.next().await.unwrap(), Event::Ended { code: Some(5), signal: None });

    start(&mut link, "kill -9 $$").await.unwrap();
    assert_eq!(link.next().await.unwrap(), Event::Ended { code: None, signal: Some(9) });
    link.bye().await;
    assert_eq!(shim.code().await, Some(0));
}

#[tokio::test]
async fn an_image_without_the_server_is_unsuitable_and_the_folders_are_named() {
    let place = Place::new();
    let _shim = place.shim();
    let mut link = place.listening.accept(PATIENCE).await.unwrap();
    let failure = link.find("no-such-server", Some(17)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerImageUnsuitable);
    assert!(failure.message.contains("/usr/bin"), "{failure}");
    let failure = link.start("/no/such/server", &[], &BTreeMap::new()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerImageUnsuitable);
    assert!(failure.message.contains("No such file"), "{failure}");
}

#[tokio::test]
async fn a_program_that_restarts_breaks_its_link_and_gets_another_one() {
    let place = Place::new();
    let shim = place.shim();
    let mut link = place.listening.accept(PATIENCE).await.unwrap();
    start(&mut link, "exec sleep 5").await.unwrap();
    drop(shim);
    let failure = link.next().await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerNotReady);
    assert!(failure.is_retryable() && failure.hint.contains("container `server`"), "{failure}");

    let _shim = place.shim();
    let mut link = place.listening.accept(PATIENCE).await.unwrap();
    start(&mut link, "exit 3").await.unwrap();
    assert_eq!(link.next().await.unwrap(), Event::Ended { code: Some(3), signal: None });
}

#[tokio::test]
async fn of_several_that_came_the_newest_counts() {
    let place = Place::new();
    for _ in 0..3 {
        drop(place.liar(b"{\"hello\":{\"protocol\":1}}\n").await);
    }
    let _shim = place.shim();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut link = place.listening.accept(PATIENCE).await.unwrap();
    start(&mut link, "exit 0").await.unwrap();
    assert_eq!(link.next().await.unwrap(), Event::Ended { code: Some(0), signal: None });
}

#[tokio::test]
async fn nobody_who_comes_in_time_is_a_failure_that_another_try_may_mend() {
    let place = Place::new();
    let failure = place.listening.accept(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerNotReady);
    drop(place.liar(b"").await);
    let failure = place.listening.accept(Duration::from_millis(50)).await.unwrap_err();
    assert!(failure.message.contains("after 1 that ended at once"), "{failure}");
    // Who says nothing is waited for no longer.
    let _silent = place.liar(b"{\"hello\"").await;
    let failure = place.listening.accept(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerNotReady);
}

#[tokio::test]
async fn a_greeting_that_is_none_is_refused() {
    let endless = [b'x'; MAX_MESSAGE_BYTES + 1];
    for wrong in [
        &b"{\"hello\":{\"protocol\":2}}\n"[..],
        b"{\"line\":{\"text\":\"a\"}}\n",
        b"\xff\n",
        &endless,
    ] {
        let place = Place::new();
        let _stream = place.liar(wrong).await;
        let failure = place.listening.accept(PATIENCE).await.unwrap_err();
        assert_eq!(failure.reason, Reason::ServerImageUnsuitable, "{failure}");
    }
}

#[tokio::test]
async fn what_the_other_side_says_is_bounded_and_printable() {
    let long =
        format!("{{\"line\":{{\"text\":\"\\u001b[31m{}\"}}}}\n", "x".repeat(2 * MAX_LINE_BYTES));
    let place = Place::new();
    let (mut link, _stream) = place.lied_to(long.as_bytes()).await;
    let Event::Line(text) = link.next().await.unwrap() else { panic!("no line") };
    assert!(text.starts_with(" [31mx") && text.len() <= MAX_LINE_BYTES, "{}", text.len());
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_or_another_one_ends_the_link() {
    let lies = [
        "{\"started\":{\"pid\":1}}\n",
        "{\"notFound\":{\"tried\":[]}}\n",
        "{\"hello\":{\"protocol\":1}}\n",
        "{\"obey\":{}}\n",
    ];
    for lie in lies {
        let place = Place::new();
        let (mut link, _stream) = place.lied_to(lie.as_bytes()).await;
        let failure = link.next().await.unwrap_err();
        assert_eq!(failure.reason, Reason::ServerImageUnsuitable, "{failure}");
    }
    let place = Place::new();
    let (mut link, _stream) = place.lied_to(b"{\"line\":{\"text\":\"a\"}}\n").await;
    let failure = link.find("postgres", None).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerImageUnsuitable, "{failure}");
}

#[tokio::test]
async fn the_socket_is_this_users_and_takes_the_place_of_an_older_one_but_of_no_file() {
    let place = Place::new();
    let mode = std::fs::metadata(place.socket()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = ShimLink::listen(&place.socket()).unwrap();
    drop(again);
    std::fs::remove_file(place.socket()).unwrap();
    std::fs::write(place.socket(), "a file").unwrap();
    let failure = ShimLink::listen(&place.socket()).unwrap_err();
    assert_eq!(failure.reason, Reason::LocalFileError);
}
