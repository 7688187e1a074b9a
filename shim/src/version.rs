//! What a program says of its own version, as proof that it starts at all.

use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::output::{each_line, next_line};

/// How often a program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(5);

/// The first line of what `PROGRAM --version` prints.
///
/// # Errors
/// Why it does not start, or how it ended, with its first word on it.
pub(crate) fn version(program: &Path, until: Instant) -> Result<String, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let second = writer.try_clone().map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(second)
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    // What it has started may hold its output open for ever: a thread of its own reads.
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::new(reader);
        let _ = say.send(next_line(&mut output));
        // More is not wanted, but a program that cannot write it does not end well.
        each_line(output, drop);
    });
    let ended = ended(&mut child, until);
    // Nothing of it is to go on, whether it has ended or not.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let Some(status) = ended else {
        let _ = child.wait();
        return Err("it does not end".to_owned());
    };
    let line = said.recv_timeout(POLL * 100).ok().flatten().unwrap_or_default();
    match status.success() {
        true if line.is_empty() => Err("it prints no version".to_owned()),
        true => Ok(line),
        false if line.is_empty() => Err(status.to_string()),
        false => Err(format!("{status}: {line}")),
    }
}

fn ended(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// The major version in a line such as `postgres (PostgreSQL) 17.6 (Debian 17.6-1)`.
pub(crate) fn major(version: &str) -> Option<u32> {
    let word = version.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    word[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_first_number_of_a_word() {
        assert_eq!(major("postgres (PostgreSQL) 17.6 (Debian 17.6-1.pgdg13+1)"), Some(17));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("postgres (EnterpriseDB) 16"), Some(16));
        assert_eq!(major("postgres"), None);
        assert_eq!(major("99999999999999"), None);
    }
}
