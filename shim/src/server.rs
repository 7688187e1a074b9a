//! The server's process, and all that comes from it.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use dbbackup_shim::{FromShim, SignalName};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, wait,
};

use crate::outbox::Outbox;
use crate::output::each_line;
use crate::serve::Event;

/// How long what a server leaves behind has to end by itself. PostgreSQL's processes see that the
/// one that started them is gone.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to end once it was killed.
const KILLED_PATIENCE: Duration = Duration::from_secs(5);

/// A server that was started.
pub(crate) struct Server {
    pid: Pid,
    /// How its first process has ended, and when.
    ended: Option<(WaitStatus, Instant)>,
    /// Nobody can write to its output any longer, and all of it was handed on.
    output_ended: bool,
    /// No process is left that it has started.
    alone: bool,
    /// Since when nothing of it is left.
    gone: Option<Instant>,
}

/// Where a server is.
pub(crate) enum Stage {
    Running,
    /// It has ended; what it has left behind has not yet.
    Ending,
    /// Nothing of it is left.
    Gone,
    /// Something of it can be neither awaited nor killed.
    Stuck,
}

impl Server {
    /// Starts it, without an input, in a group of its own. Its lines go to the outbox.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start(
        program: &str,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
        outbox: &Arc<Outbox>,
        events: &Sender<Event>,
    ) -> Result<Self, String> {
        // One pipe for both, which keeps the lines in their order.
        let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
        let second = writer.try_clone().map_err(|error| error.to_string())?;
        // The command goes with this statement, and with it our own ends of the pipe.
        let child = Command::new(program)
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(second)
            .process_group(0)
            .spawn()
            .map_err(|error| error.to_string())?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("its process has no number")?;
        outbox.say(FromShim::Started { pid: child.id() });
        let (outbox, events) = (Arc::clone(outbox), events.clone());
        thread::spawn(move || {
            each_line(BufReader::new(reader), |line| outbox.say_line(line));
            let _ = events.send(Event::OutputEnded);
        });
        Ok(Self { pid, ended: None, output_ended: false, alone: false, gone: None })
    }

    /// Sends a signal, unless it has ended: its number may be another's then.
    pub(crate) fn signal(&self, name: SignalName) {
        if self.ended.is_some() {
            return;
        }
        let signal = match name {
            SignalName::Term => Signal::TERM,
            SignalName::Int => Signal::INT,
            SignalName::Quit => Signal::QUIT,
            SignalName::Kill => Signal::KILL,
        };
        if name == SignalName::Kill {
            let _ = kill_process_group(self.pid, signal);
        }
        let _ = kill_process(self.pid, signal);
    }

    pub(crate) fn output_has_ended(&mut self) {
        self.output_ended = true;
    }

    /// Takes in which processes have ended.
    pub(crate) fn reap(&mut self) {
        self.alone = reap(|pid, status| {
            if pid == self.pid {
                self.ended = Some((status, Instant::now()));
            }
        });
        if self.alone && self.ended.is_some() {
            self.gone.get_or_insert_with(Instant::now);
        }
    }

    /// For how long nothing of it has been left.
    pub(crate) fn gone_for(&self) -> Option<Duration> {
        self.gone.map(|since| since.elapsed())
    }

    /// Where it is. What it has left behind is killed here when its time is over.
    pub(crate) fn stage(&self) -> Stage {
        let Some((_, at)) = self.ended else { return Stage::Running };
        if self.alone {
            return Stage::Gone;
        }
        match at.elapsed() {
            since if since < ORPHANS_PATIENCE => Stage::Ending,
            since if since < ORPHANS_PATIENCE + KILLED_PATIENCE => {
                kill_children();
                Stage::Ending
            }
            _ => Stage::Stuck,
        }
    }

    /// The last message about it: nothing of it is left, and all that it wrote was said.
    pub(crate) fn last_word(&self) -> Option<FromShim> {
        let (status, _) = self.ended.filter(|_| self.alone && self.output_ended)?;
        let (code, signal) = (status.exit_status(), status.terminating_signal());
        Some(FromShim::Ended { code, signal })
    }
}

/// Takes in all processes that have ended and come to this one; says whether none is left.
pub(crate) fn reap(mut ended: impl FnMut(Pid, WaitStatus)) -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended(pid, status),
            Ok(None) => return false,
            Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// Kills all processes whose parent is this one: orphans come to it.
fn kill_children() {
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    let own = getpid().as_raw_pid();
    for process in processes.flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        if parent(&stat) == Some(own) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The parent's number in `/proc/PID/stat`: behind the name, in which anything may stand, and the
/// state (proc_pid_stat(5)).
fn parent(stat: &str) -> Option<i32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_stands_behind_a_name_that_may_hold_anything() {
        assert_eq!(parent("17 (post) S 9 (gres) S 42 17 17 0 -1"), Some(42));
        assert_eq!(parent(""), None);
    }
}
