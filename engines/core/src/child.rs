//! Child processes: their start, their pipes, their end.
//!
//! The one module that starts programs. Each child gets a process group of its
//! own, a cleared environment, and a reader that drains its stderr to the end
//! whatever it says. Ending is SIGTERM to the group, then SIGKILL; dropping is
//! SIGKILL at once. Secrets never stand in arguments or environment: callers
//! give files.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use dbbackup_contract::{Failure, Reason};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tracing::debug;

use crate::LastWords;
use crate::oom::{memory_limit, oom_kills};

/// How long a child may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How long stderr is drained after a child has ended: a grandchild that left
/// the group could hold the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(5);

/// What a child's stdin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinUse {
    /// Nothing.
    Null,
    /// A pipe that we write to.
    Piped,
}

/// A program to start.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments, without secrets.
    pub args: Vec<OsString>,
    /// Its environment beside the fixed `PATH`, `LANG` and `LC_ALL`, without secrets.
    pub env: Vec<(OsString, OsString)>,
    /// What its stdin is.
    pub stdin: StdinUse,
    /// What messages call it: `pg_dump`.
    pub name: &'static str,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0.
    Well,
    /// With another exit code.
    Code(i32),
    /// By a signal; `out_of_memory` where the kernel ended it for lack of memory.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the container's count of such kills has moved.
        out_of_memory: bool,
    },
}

/// A child that has ended, and what it said.
#[derive(Clone, Debug)]
pub struct ChildExit {
    /// What messages call it.
    pub name: &'static str,
    /// How it ended.
    pub ended: Ended,
    /// Its stderr.
    pub stderr: LastWords,
}

impl ChildExit {
    /// Whether it ended well.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.ended == Ended::Well
    }

    /// The failure that a death by signal is, whatever stderr says; `None` for an exit.
    #[must_use]
    pub fn killed(&self) -> Option<Failure> {
        let Ended::Signal { signal, out_of_memory } = self.ended else { return None };
        Some(if out_of_memory {
            dbbackup_contract::out_of_memory(self.name, memory_limit())
        } else {
            Failure::new(
                Reason::ChildKilled,
                format!("{} was killed by signal {signal}", self.name),
            )
        })
    }
}

/// A running child.
#[derive(Debug)]
pub struct ChildProcess {
    name: &'static str,
    child: Child,
    group: Option<Pid>,
    stderr: Option<JoinHandle<LastWords>>,
    oom_kills_before: Option<u64>,
}

impl ChildProcess {
    /// Starts `spec` with stdout as a pipe.
    ///
    /// # Errors
    /// `ClientMissing` when the program does not exist or may not be run.
    pub fn start(spec: &ChildSpec) -> Result<Self, Failure> {
        let oom_kills_before = oom_kills();
        let mut child = Command::new(&spec.program)
            .args(&spec.args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("LC_ALL", "C.UTF-8")
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .stdin(match spec.stdin {
                StdinUse::Null => Stdio::null(),
                StdinUse::Piped => Stdio::piped(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let program = spec.program.display();
                Failure::new(Reason::ClientMissing, format!("cannot start {program}: {error}"))
            })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        debug!(name = spec.name, pid = child.id(), "child started");
        let stderr = child.stderr.take().map(|pipe| tokio::spawn(drain(pipe)));
        Ok(Self { name: spec.name, child, group, stderr, oom_kills_before })
    }

    /// The pipe to its stdin, once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The pipe from its stdout, once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end. Its pipes must be read by somebody meanwhile.
    ///
    /// # Errors
    /// `Internal` when the system cannot say how it ended.
    pub async fn wait(&mut self) -> Result<ChildExit, Failure> {
        let status = self.child.wait().await.map_err(|error| {
            Failure::new(Reason::Internal, format!("cannot wait for {}: {error}", self.name))
        })?;
        // What it left behind in its group has nobody to talk to any more.
        self.signal(Signal::KILL);
        self.group = None;
        let stderr = match self.stderr.take() {
            Some(reader) => {
                let abort = reader.abort_handle();
                let drained = tokio::time::timeout(DRAIN, reader).await;
                abort.abort();
                drained.ok().and_then(Result::ok).unwrap_or_default()
            }
            None => LastWords::default(),
        };
        Ok(ChildExit { name: self.name, ended: self.explain(status), stderr })
    }

    /// Ends it: SIGTERM to its group, SIGKILL after a grace.
    ///
    /// # Errors
    /// As [`ChildProcess::wait`].
    pub async fn end(&mut self) -> Result<ChildExit, Failure> {
        self.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
        }
        self.wait().await
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The group may be gone already: that is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    fn explain(&self, status: ExitStatus) -> Ended {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ended::Well,
            (Some(code), _) => Ended::Code(code),
            (None, signal) => {
                let moved = match (self.oom_kills_before, oom_kills()) {
                    (Some(before), Some(after)) => after > before,
                    _ => false,
                };
                let signal = signal.unwrap_or(0);
                let out_of_memory = moved && signal == Signal::KILL.as_raw();
                Ended::Signal { signal, out_of_memory }
            }
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(reader) = self.stderr.take() {
            reader.abort();
        }
    }
}

async fn drain(mut pipe: ChildStderr) -> LastWords {
    let mut words = LastWords::default();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        words.push(&buffer[..read]);
    }
    words.finish();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ChildSpec {
        ChildSpec {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("EXTRA".into(), "1".into())],
            stdin: StdinUse::Null,
            name: "sh",
        }
    }

    async fn run(script: &str) -> (String, ChildExit) {
        let mut child = ChildProcess::start(&shell(script)).unwrap();
        let mut out = String::new();
        child.take_stdout().unwrap().read_to_string(&mut out).await.unwrap();
        (out, child.wait().await.unwrap())
    }

    #[tokio::test]
    async fn a_child_gets_nothing_of_our_environment() {
        let (out, exit) = run("env").await;
        assert!(exit.is_success());
        let mut names: Vec<_> = out.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        names.retain(|name| !matches!(*name, "PWD" | "_" | "OLDPWD" | "SHLVL"));
        assert_eq!(names, ["EXTRA", "LANG", "LC_ALL", "PATH"]);
    }

    #[tokio::test]
    async fn an_exit_is_explained_with_what_was_said() {
        let (_, exit) = run("echo one >&2; echo two >&2; exit 3").await;
        assert_eq!(exit.ended, Ended::Code(3));
        assert_eq!(exit.stderr.lines().collect::<Vec<_>>(), ["one", "two"]);
        assert!(exit.killed().is_none());
        let (_, exit) = run("kill -9 $$").await;
        assert_eq!(exit.killed().unwrap().reason, Reason::ChildKilled);
    }

    #[tokio::test]
    async fn stderr_is_drained_however_much_it_is() {
        let (_, exit) =
            run("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done").await;
        assert!(exit.is_success());
        assert_eq!(exit.stderr.lines().next_back(), Some("line 19999"));
    }

    #[tokio::test]
    async fn the_whole_group_ends_and_one_that_ignores_sigterm_is_killed() {
        // The grandchild would hold stdout open for an hour.
        let mut child =
            ChildProcess::start(&shell("trap '' TERM; sleep 3600 & echo $!; wait; wait")).unwrap();
        let mut stdout = child.take_stdout().unwrap();
        let mut first = [0; 16];
        let read = stdout.read(&mut first).await.unwrap();
        assert!(read > 0);
        let exit = child.end().await.unwrap();
        assert!(matches!(exit.ended, Ended::Signal { .. } | Ended::Code(_)), "{exit:?}");
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(10), stdout.read_to_end(&mut rest));
        end.await.expect("a grandchild outlived its group").unwrap();
    }

    #[test]
    fn a_missing_program_is_a_missing_client() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let mut spec = shell("");
        spec.program = "/nonexistent/pg_dump".into();
        let failure = ChildProcess::start(&spec).unwrap_err();
        assert_eq!(failure.reason, Reason::ClientMissing);
    }
}
