//! What tells a server to recover to a point, and takes it out again.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use dbbackup_contract::Failure;
use dbbackup_engine::{create_anew, open_plain};

use super::RecoveryAction;
use crate::physical::local;

/// Begins what is ours in the file.
const MARK: &str = "# Written by dbbackup: recovery to a point in time.";
/// The file, and what the server itself writes first when it writes it anew.
const FILE: &str = "postgresql.auto.conf";
const NEXT_FILE: &str = "postgresql.auto.conf.tmp";
/// Most bytes of it: all settings that there are have far less.
const MOST_BYTES: u64 = 16 << 20;
/// Makes the server recover.
const SIGNAL: &str = "recovery.signal";
/// Makes it a standby, whatever else there is.
const STANDBY_SIGNAL: &str = "standby.signal";

/// Settings of which we set each. A server takes one target alone: those that an earlier recovery has
/// left are unset, and before ours is set.
const OTHER_TARGETS: [&str; 4] =
    ["recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid"];
const OWN: [&str; 4] = [
    "recovery_target_lsn",
    "recovery_target_inclusive",
    "recovery_target_timeline",
    "recovery_target_action",
];
/// All that is needed lies in `pg_wal`; nothing else is to be asked.
const RESTORE_COMMAND: (&str, &str) = ("restore_command", "'false'");

/// A point, for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecoverySettings<'a> {
    /// Where the last record begins that is replayed.
    pub(super) last_record: &'a str,
    pub(super) timeline: u32,
    pub(super) action: RecoveryAction,
}

impl RecoverySettings<'_> {
    fn text(&self) -> String {
        let mut text = format!("\n{MARK}\n{} = {}\n", RESTORE_COMMAND.0, RESTORE_COMMAND.1);
        let action = match self.action {
            RecoveryAction::Promote => "promote",
            RecoveryAction::Pause => "pause",
            RecoveryAction::Shutdown => "shutdown",
        };
        let timeline = self.timeline.to_string();
        let others = OTHER_TARGETS.into_iter().map(|name| (name, ""));
        let own = OWN.into_iter().zip([self.last_record, "on", timeline.as_str(), action]);
        for (name, value) in others.chain(own) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} = '{value}'");
        }
        text
    }

    /// Writes them behind what `ALTER SYSTEM` has written: overwriting that would lose settings
    /// without which the server does not begin. `mode` is that of a file that is not there yet.
    pub(super) fn write(&self, data_dir: &Path, mode: u32) -> Result<(), Failure> {
        let path = data_dir.join(FILE);
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(mode);
        let written = open_plain(&path, &mut options).and_then(|mut file| {
            file.write_all(self.text().as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| local(&path, &error))?;
        // A base that was read from a standby has it: where log is missing a server would wait for
        // more instead of saying so.
        let standby = data_dir.join(STANDBY_SIGNAL);
        match std::fs::remove_file(&standby) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(local(&standby, &error));
            }
            _ => {}
        }
        let signal = data_dir.join(SIGNAL);
        let made = create_anew(&signal, mode);
        made.and_then(|file| file.sync_all()).map_err(|error| local(&signal, &error))
    }
}

/// Takes out of a data folder what [`crate::RecoveryPlan::carry_out`] has written there to lead the
/// server to its point, and nothing else: a server that is started with it once more, with a signal file
/// or as a standby, would look for that point again. It is durable when it returns. No server may
/// run on the folder.
///
/// # Errors
/// `LocalFileError`.
pub fn forget_recovery_settings(data_dir: &Path) -> Result<(), Failure> {
    let path = data_dir.join(FILE);
    match read(&path) {
        Ok(text) => {
            if let Some(rest) = without_ours(&text) {
                replace(data_dir, &rest).map_err(|error| local(&path, &error))?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(local(&path, &error)),
    }
    let signal = data_dir.join(SIGNAL);
    match std::fs::remove_file(&signal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(local(&signal, &error));
        }
        _ => {}
    }
    let synced = File::open(data_dir).and_then(|folder| folder.sync_all());
    synced.map_err(|error| local(data_dir, &error))
}

/// What is in the file. The server has run on it, and may have left anything in its place.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_plain(path, OpenOptions::new().read(true))?;
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
    }
    Ok(text)
}

/// Writes the file anew, with its mode and owner, and at no moment half.
fn replace(data_dir: &Path, text: &[u8]) -> io::Result<()> {
    let (path, next) = (data_dir.join(FILE), data_dir.join(NEXT_FILE));
    let old = std::fs::symlink_metadata(&path)?;
    let mut file = create_anew(&next, old.mode() & 0o666)?;
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&next, &path)
}

/// The file without what is ours in it; `None` where nothing is.
///
/// `ALTER SYSTEM` writes the file anew, without comments. Where the mark is gone our lines are those that
/// look like them: a target that was reached is of no use to anybody.
fn without_ours(text: &[u8]) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let is_mark = |line: &&[u8]| line.trim_ascii() == MARK.as_bytes();
    let mark = lines.iter().position(is_mark);
    let begins = mark.unwrap_or(0);
    let mut rest: Vec<&[u8]> = lines[..begins].to_vec();
    // The empty line before the mark is ours, too.
    if mark.is_some() && rest.last().is_some_and(|line| line.trim_ascii().is_empty()) {
        rest.pop();
    }
    rest.extend(lines[begins..].iter().filter(|line| !is_mark(line) && !is_ours(line)));
    let rest = rest.concat();
    (rest != text).then_some(rest)
}

/// Whether a line sets what we set.
fn is_ours(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    let (name, value) = line.split_at(end.unwrap_or(line.len()));
    let name = name.to_ascii_lowercase();
    let is = |own: &str| name == own.as_bytes();
    if is(RESTORE_COMMAND.0) {
        let value = value.trim_ascii();
        let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
        return value == RESTORE_COMMAND.1.as_bytes();
    }
    OTHER_TARGETS.into_iter().chain(OWN).any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> String {
        RecoverySettings { last_record: "0/3000060", timeline: 2, action: RecoveryAction::Promote }
            .text()
    }

    fn forgotten(text: &str) -> String {
        let rest = without_ours(text.as_bytes());
        rest.map_or_else(|| text.to_owned(), |rest| String::from_utf8(rest).unwrap())
    }

    #[test]
    fn what_was_there_before_and_what_came_later_stays() {
        let own =
            "# Do not edit this file manually!\nwork_mem = '8MB'\nrestore_command = 'cp %f'\n";
        assert_eq!(forgotten(&(own.to_owned() + &settings())), own);
        let later = "work_mem = '9MB'\n";
        assert_eq!(forgotten(&(own.to_owned() + &settings() + later)), own.to_owned() + later);
        assert_eq!(forgotten(own), own);
        assert_eq!(forgotten(&settings()), "");
        // A second recovery of the same folder's copy.
        assert_eq!(forgotten(&(own.to_owned() + &settings() + &settings())), own.to_owned() + "\n");
    }

    #[test]
    fn it_is_found_though_alter_system_has_written_the_file_anew() {
        let own =
            "# Do not edit this file manually!\nwork_mem = '8MB'\nrestore_command = 'cp %f'\n";
        let ours: String = settings()
            .lines()
            .filter(|line| line.contains('='))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(
            forgotten(&(own.to_owned() + &ours + "jit = 'off'\n")),
            own.to_owned() + "jit = 'off'\n"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_left_alone() {
        let own = b"log_line_prefix = '\xFF'\n".to_vec();
        let rest = without_ours(&[own.as_slice(), settings().as_bytes()].concat());
        assert_eq!(rest, Some(own));
    }
}
