//! The link to the program beside a server that is recovered (`dbbackup-shim`): over it the server
//! is found, started, listened to and ended.
//!
//! The server's image is not ours, so all that comes over the link is hostile: messages are
//! bounded, and one that the protocol does not have ends the link with a failure. A program that
//! restarts connects anew. Whoever holds a link then gets a failure from it, and may accept again:
//! the server has gone with the program that had started it.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use dbbackup_contract::{Failure, Reason, listed};
use dbbackup_shim::{FromShim, MAX_MESSAGE_BYTES, PROTOCOL, SignalName, ToShim};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

/// How long an answer may take. To find a program, several may have to be started.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long the program may take to end when it was told goodbye.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);
/// Folders that a failure names.
const FOLDERS_SHOWN: usize = 12;

const LOST_HINT: &str =
    "Look at the last state of the pod's container `server`: if memory was short, raise its limit.";
const HOSTILE_HINT: &str = "Something else than the program of this release speaks on the socket: check whose image this is.";

/// A socket on which the program beside the server is awaited.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: UnixListener,
    socket: PathBuf,
}

/// A link to the program beside the server. Dropped it ends the server at once.
#[derive(Debug)]
pub(crate) struct ShimLink {
    stream: UnixStream,
    /// What has come and was not taken yet: less than a message, and what one read brought.
    come: BytesMut,
}

/// A server's program, as it was found in its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundProgram {
    /// Its path in the server's container.
    pub(crate) program: String,
    /// What it says of its version, such as `postgres (PostgreSQL) 17.6`. Hostile, but one line.
    pub(crate) version: String,
}

/// What a server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It has written a line: printable, without its end, at most 4 KiB.
    Line(String),
    /// It has ended, and with it all that it had started. Nothing else comes until another start.
    Ended {
        /// Its exit code, if it ended by itself.
        code: Option<i32>,
        /// The signal that ended it, otherwise.
        signal: Option<i32>,
    },
}

impl ShimLink {
    /// Makes the socket, for this process's user alone. One that an earlier process left goes.
    ///
    /// # Errors
    /// `LocalFileError` where the socket cannot be made.
    pub(crate) fn listen(socket: &Path) -> Result<Listening, Failure> {
        let failed = |error: std::io::Error| {
            let message = format!("cannot make the socket {}: {error}", socket.display());
            Failure::new(Reason::LocalFileError, message)
        };
        if std::fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(socket).map_err(failed)?;
        }
        let listener = UnixListener::bind(socket).map_err(failed)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Listening { listener, socket: socket.to_owned() })
    }

    /// Looks for a program in the server's image, one of this major version before any other.
    /// Only while no server runs.
    ///
    /// # Errors
    /// `ServerImageUnsuitable` where it is not there, naming the folders; those of a broken link.
    pub(crate) async fn find(
        &mut self,
        program: &str,
        major: Option<u32>,
    ) -> Result<FoundProgram, Failure> {
        self.send(&ToShim::Find { program: program.to_owned(), major }).await?;
        match self.answer().await? {
            FromShim::Found { program, version } => Ok(FoundProgram { program, version }),
            FromShim::NotFound { tried } => {
                let tried: Vec<_> = tried.iter().map(|folder| text(folder)).collect();
                let message = format!(
                    "no {program} starts in the server's image; it was looked for in {}",
                    listed(&tried, FOLDERS_SHOWN)
                );
                Err(Failure::new(Reason::ServerImageUnsuitable, message))
            }
            _ => Err(hostile("another answer than was asked for")),
        }
    }

    /// Starts the server, with what is added to its container's own environment. Lines may come
    /// from then on: they must be taken by [`ShimLink::next`], or the server waits.
    ///
    /// # Errors
    /// `ServerImageUnsuitable` where it does not start; those of a broken link.
    pub(crate) async fn start(
        &mut self,
        program: &str,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let (arguments, environment) = (arguments.to_vec(), environment.clone());
        let program = program.to_owned();
        self.send(&ToShim::Start { program: program.clone(), arguments, environment }).await?;
        match self.answer().await? {
            FromShim::Started { .. } => Ok(()),
            FromShim::NotStarted { error } => {
                let message = format!("{} does not start: {}", text(&program), text(&error));
                Err(Failure::new(Reason::ServerImageUnsuitable, message))
            }
            _ => Err(hostile("another answer than was asked for")),
        }
    }

    /// Sends the server a signal. Where it has just ended, nothing happens.
    ///
    /// # Errors
    /// Those of a broken link.
    pub(crate) async fn signal(&mut self, name: SignalName) -> Result<(), Failure> {
        self.send(&ToShim::Signal { name }).await
    }

    /// What the server does next. It waits without end, and may be cancelled at any moment: no
    /// event is lost.
    ///
    /// # Errors
    /// `ServerNotReady` where the server's container has ended, `ServerImageUnsuitable` for what is
    /// no message of the protocol.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        match self.message().await? {
            FromShim::Line { text: line } => Ok(Event::Line(text(&line))),
            FromShim::Ended { code, signal } => Ok(Event::Ended { code, signal }),
            _ => Err(hostile("an answer that nobody has asked for")),
        }
    }

    /// Lets the program end. A server that still runs is shut down first, for which nobody waits.
    pub(crate) async fn bye(mut self) {
        if self.send(&ToShim::Bye {}).await.is_ok() {
            // It closes the link when it ends.
            let _ =
                timeout(GOODBYE_PATIENCE, async { while self.message().await.is_ok() {} }).await;
        }
    }

    async fn send(&mut self, message: &ToShim) -> Result<(), Failure> {
        let line = dbbackup_shim::encode(message)
            .map_err(|error| Failure::new(Reason::Internal, error))?;
        match timeout(ANSWER_PATIENCE, self.stream.write_all(&line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lost(&error.to_string())),
            Err(_) => Err(lost("it takes no messages")),
        }
    }

    async fn answer(&mut self) -> Result<FromShim, Failure> {
        timeout(ANSWER_PATIENCE, self.message())
            .await
            .unwrap_or_else(|_| Err(lost("it does not answer")))
    }

    /// The next message. What has come stays in the buffer until it is whole, so that this may be
    /// cancelled.
    async fn message(&mut self) -> Result<FromShim, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.come[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.come.split_to(searched + end);
                self.come.advance(1);
                return dbbackup_shim::decode(&line).map_err(|error| hostile(&error));
            }
            searched = self.come.len();
            if searched >= MAX_MESSAGE_BYTES {
                return Err(hostile("a message that does not end"));
            }
            self.come.reserve(MAX_MESSAGE_BYTES - searched);
            match self.stream.read_buf(&mut self.come).await {
                Ok(0) => return Err(lost("it has closed the link")),
                Ok(_) => {}
                Err(error) => return Err(lost(&error.to_string())),
            }
        }
    }
}

impl Listening {
    /// Waits for the program beside the server to connect and to say hello. Of several connections
    /// the newest counts: those before it are of programs that have ended.
    ///
    /// # Errors
    /// `ServerNotReady` where none came in time, `ServerImageUnsuitable` where what came is not
    /// our program.
    pub(crate) async fn accept(&self, patience: Duration) -> Result<ShimLink, Failure> {
        let end = Instant::now() + patience;
        let mut ended = 0_u32;
        loop {
            let Ok(stream) = timeout_at(end, self.newest()).await else {
                return Err(nobody(&self.socket, patience, ended));
            };
            let mut link = ShimLink { stream: stream?, come: BytesMut::new() };
            let Ok(message) = timeout_at(end, link.message()).await else {
                return Err(nobody(&self.socket, patience, ended));
            };
            match message {
                Ok(FromShim::Hello { protocol: PROTOCOL }) => return Ok(link),
                Ok(FromShim::Hello { protocol }) => {
                    return Err(hostile(&format!("the protocol {protocol}, not {PROTOCOL}")));
                }
                Ok(_) => return Err(hostile("no greeting")),
                // It has ended before it said a word; the next one may do better.
                Err(failure) if failure.reason == Reason::ServerNotReady => ended += 1,
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn newest(&self) -> Result<UnixStream, Failure> {
        let failed = |error: std::io::Error| {
            let message = format!("cannot listen on {}: {error}", self.socket.display());
            Failure::new(Reason::LocalFileError, message)
        };
        let (mut newest, _) = self.listener.accept().await.map_err(failed)?;
        while let Ok(next) = timeout(Duration::ZERO, self.listener.accept()).await {
            (newest, _) = next.map_err(failed)?;
        }
        Ok(newest)
    }
}

fn nobody(socket: &Path, patience: Duration, ended: u32) -> Failure {
    let seconds = patience.as_secs();
    let before = match ended {
        0 => String::new(),
        times => format!(", after {times} that ended at once"),
    };
    let message = format!(
        "no program of the server's container came to {} within {seconds} s{before}",
        socket.display()
    );
    Failure::new(Reason::ServerNotReady, message)
        .with_hint("Look at the state and the log of the pod's container `server`.")
}

fn lost(why: &str) -> Failure {
    let message = format!("the link to the server's container is broken: {why}");
    Failure::new(Reason::ServerNotReady, message).with_hint(LOST_HINT)
}

fn hostile(what: &str) -> Failure {
    let message = format!("the server's container has sent {what}");
    Failure::new(Reason::ServerImageUnsuitable, message).with_hint(HOSTILE_HINT)
}

/// Text from the server's container, within the bounds that the program keeps by itself.
fn text(hostile: &str) -> String {
    dbbackup_shim::line_text(hostile.as_bytes())
}

#[cfg(test)]
#[path = "shim_link_tests.rs"]
mod tests;
