//! A program whose standard output is stored. Only its end says whether that was
//! all of it.

use std::ffi::OsString;

use bytes::{Bytes, BytesMut};
use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{ChildExit, ChildProcess, ChildSpec, Ended, StdinUse};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;
use tokio_util::sync::CancellationToken;

use crate::patience::unless_stopped;

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Lines of standard error that a message repeats, the last ones.
const TAIL_LINES: usize = 5;
/// Characters of them, the last ones.
const TAIL_CHARACTERS: usize = 1000;

/// A running program. Dropped it is killed, with all that it has started.
pub(crate) struct Program {
    shown: String,
    child: ChildProcess,
    output: ChildStdout,
}

impl Program {
    /// Starts `command`, the program and its arguments, with this process's
    /// environment, and with nothing as its standard input.
    ///
    /// # Errors
    /// `UsageError` without a program, `ClientMissing` where it cannot be started.
    pub(crate) fn start(command: &[OsString]) -> Result<Self, Failure> {
        let (program, args) = command
            .split_first()
            .ok_or_else(|| Failure::new(Reason::UsageError, "no program follows --"))?;
        let shown = printable(&program.to_string_lossy());
        // An empty variable is an unset one here (POSIX, "Environment Variables"): the
        // program speaks the user's language, not the one that our own clients get.
        let unset = ["LANG", "LC_ALL"].map(|name| (OsString::from(name), OsString::new()));
        let spec = ChildSpec {
            program: program.into(),
            args: args.to_vec(),
            env: unset.into_iter().chain(std::env::vars_os()).collect(),
            stdin: StdinUse::Null,
            name: "the program",
        };
        let mut child = ChildProcess::start(&spec).map_err(|failure| {
            failure.with_hint("Check the program's name, and that this user may run it.")
        })?;
        let output = child
            .take_stdout()
            .ok_or_else(|| Failure::new(Reason::Internal, "the program has no output"))?;
        Ok(Self { shown, child, output })
    }

    /// The next piece of its output; `None` at the end.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut piece = BytesMut::with_capacity(PIECE);
        while piece.len() < PIECE {
            let read = self.output.read_buf(&mut piece).await.map_err(|error| {
                let message = format!("cannot read what {} writes: {error}", self.shown);
                Failure::new(Reason::LocalFileError, message)
            })?;
            if read == 0 {
                break;
            }
        }
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }

    /// Waits for its end, once its output has ended.
    ///
    /// # Errors
    /// `ClientFailed` or `ChildKilled` unless it ended with exit code 0.
    pub(crate) async fn succeeded(&mut self, cancel: &CancellationToken) -> Result<(), Failure> {
        match unless_stopped(cancel, self.child.wait()).await {
            Ok(exit) => verdict(&self.shown, &exit),
            Err(stopped) => {
                self.end().await;
                Err(stopped)
            }
        }
    }

    /// Passes the request to stop on: SIGTERM, and SIGKILL if that does not help.
    pub(crate) async fn end(&mut self) {
        if let Err(failure) = self.child.end().await {
            tracing::warn!(%failure, "the program may still run");
        }
    }
}

fn verdict(shown: &str, exit: &ChildExit) -> Result<(), Failure> {
    let how = match exit.ended {
        Ended::Well => return Ok(()),
        Ended::Code(code) => format!("{shown} ended with exit code {code}"),
        Ended::Signal { signal, .. } => format!("{shown} was killed by signal {signal}"),
    };
    let tail = tail(exit.stderr.lines());
    let message = if tail.is_empty() { how } else { format!("{how}: {tail}") };
    let reason = exit.killed().map_or(Reason::ClientFailed, |killed| killed.reason);
    Err(Failure::new(reason, format!("{message}; nothing is stored"))
        .with_hint("Let the program succeed by itself first; its last words stand above."))
}

/// The last lines, in one.
fn tail<'a>(lines: impl DoubleEndedIterator<Item = &'a str>) -> String {
    let mut last: Vec<String> =
        lines.rev().map(printable).filter(|line| !line.is_empty()).take(TAIL_LINES).collect();
    last.reverse();
    let joined = last.join(" | ");
    let cut = joined.chars().count().saturating_sub(TAIL_CHARACTERS);
    if cut == 0 { joined } else { format!("…{}", joined.chars().skip(cut).collect::<String>()) }
}

/// Without what would move a terminal's cursor or change its colours.
fn printable(line: &str) -> String {
    let clean: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_moves_no_cursor() {
        let lines = ["first", "two", "", "three", "\u{1b}[31mred\u{7}", "five\r", "six"];
        assert_eq!(tail(lines.into_iter()), "two | three | [31mred | five | six");
        let long = "ä".repeat(3000);
        let tail = tail([long.as_str(), "end"].into_iter());
        assert!(tail.starts_with('…') && tail.ends_with("ä | end"));
        assert_eq!(tail.chars().count(), TAIL_CHARACTERS + 1);
    }
}
