//! What a server's own lines say of its recovery.
//!
//! The lines are those of `lc_messages = C` without a prefix (`LOG:  redo starts at 0/2000028`),
//! worded alike by PostgreSQL 13 to 18 (`xlogrecovery.c`, before 15 `xlog.c`). A line that is not
//! known says nothing: the server's container is not ours, and may write what it likes.

use dbbackup_postgres::Lsn;
use jiff::Timestamp;

/// A line, as far as a recovery is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Replay begins here.
    Begins(u64),
    /// It has come this far (15 and newer, every [`super::arguments::PROGRESS_SECONDS`]).
    Replayed(u64),
    /// The files are consistent from here on.
    Consistent,
    /// It has stopped behind the record that begins here, as its target says.
    StoppedBehind(u64),
    /// It has stopped at another kind of target: what it says.
    StoppedElsewhere(String),
    /// When the newest transaction ended that was replayed.
    LastTransaction(Timestamp),
    /// The timeline that it begins.
    NewTimeline(u32),
    /// Replay has ended, and what is written from now on is its own.
    Complete,
    /// It takes connections.
    Ready,
    /// It complains: what it says, with its severity.
    Complaint(String),
    /// The image lacks what these files need: what it says.
    Unsuitable(String),
    /// The disk is full: what it says.
    NoRoom(String),
}

/// Severities of lines that tell why a server ends. Of DETAIL and CONTEXT nothing is kept: rows may
/// stand there.
const GRAVE: [&str; 3] = ["ERROR", "FATAL", "PANIC"];
/// How lines begin that tell of a configuration that cannot be used. The line that ends the server
/// then says no more than that there was one.
const REFUSALS: [&str; 3] =
    ["invalid value for parameter", "unrecognized configuration parameter", "syntax error in file"];
/// What a server says whose image is of another kind than the one that was backed up: libraries,
/// locales, major versions.
const UNSUITABLE: [&str; 6] = [
    "could not access file \"",
    "could not load library",
    "could not find function",
    "invalid value for parameter \"lc_",
    "database files are incompatible with server",
    "resource manager with ID",
];
/// `ENOSPC` and `EDQUOT`, in the words of the C libraries.
const NO_ROOM: [&str; 2] = ["No space left on device", "quota exceeded"];

/// Severities of lines that rows do not stand in. Of DETAIL, CONTEXT and STATEMENT, and of what
/// goes on from one of them in a line of its own, nobody knows.
const SHOWN: [&str; 8] = ["LOG", "WARNING", "NOTICE", "INFO", "HINT", "ERROR", "FATAL", "PANIC"];

/// Puts a line of the server into the runner's log, if it may stand there.
pub(super) fn show(line: &str) {
    if may_be_shown(line) {
        tracing::info!("the server says: {line}");
    }
}

/// Whether a line may stand in the log of the runner, which others read than those who may read
/// the server's rows. What the system's loader says of a program that does not start comes first.
fn may_be_shown(line: &str) -> bool {
    let severity = line.split_once(":  ").map(|(severity, _)| severity);
    severity.is_some_and(|severity| SHOWN.contains(&severity)) || line.starts_with("postgres: ")
}

/// How lines begin that are no news but tell that the server goes on (15 and newer: `startup.c`).
const LIFE: [&str; 3] =
    ["LOG:  checkpoint ", "LOG:  syncing data directory", "LOG:  resetting unlogged relations"];

/// Whether a line tells that the recovery goes on. A server that only complains does not.
pub(super) fn is_progress(line: &str) -> bool {
    LIFE.iter().any(|begins| line.starts_with(begins))
        || word(line).is_some_and(|word| {
            !matches!(word, Word::Complaint(_) | Word::Unsuitable(_) | Word::NoRoom(_))
        })
}

/// What a line says. `None` of what says nothing to us.
pub(super) fn word(line: &str) -> Option<Word> {
    let (severity, text) = line.split_once(":  ")?;
    if GRAVE.contains(&severity)
        || severity == "LOG" && REFUSALS.iter().any(|it| text.starts_with(it))
    {
        return Some(complaint(severity, text));
    }
    if severity != "LOG" {
        return None;
    }
    match text {
        "archive recovery complete" => return Some(Word::Complete),
        "database system is ready to accept connections" => return Some(Word::Ready),
        _ => {}
    }
    let behind = |prefix: &str| text.strip_prefix(prefix);
    if let Some(at) = behind("redo starts at ") {
        return position(at).map(Word::Begins);
    }
    if let Some(rest) = behind("redo in progress, ") {
        return rest
            .rsplit_once("current LSN: ")
            .and_then(|(_, at)| position(at))
            .map(Word::Replayed);
    }
    if behind("consistent recovery state reached at ").is_some() {
        return Some(Word::Consistent);
    }
    if let Some(at) = behind("recovery stopping after WAL location (LSN) ") {
        return position(at.trim_matches('"')).map(Word::StoppedBehind);
    }
    if behind("recovery stopping ").is_some() {
        return Some(Word::StoppedElsewhere(text.to_owned()));
    }
    if let Some(time) = behind("last completed transaction was at log time ") {
        return time.parse().ok().map(Word::LastTransaction);
    }
    let timeline = behind("selected new timeline ID: ")?;
    timeline.parse().ok().map(Word::NewTimeline)
}

fn complaint(severity: &str, text: &str) -> Word {
    let said = format!("{severity}: {text}");
    if NO_ROOM.iter().any(|words| text.contains(words)) {
        Word::NoRoom(said)
    } else if UNSUITABLE.iter().any(|words| text.starts_with(words)) {
        Word::Unsuitable(said)
    } else {
        Word::Complaint(said)
    }
}

/// A position in the log, `16/B374D848`, in bytes from its beginning.
pub(super) fn position(text: &str) -> Option<u64> {
    text.parse::<Lsn>().ok().map(|position| position.0)
}

/// The same as text.
pub(super) fn shown(position: u64) -> String {
    Lsn(position).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_followed_by_its_lines() {
        // Of a server of version 15, whole.
        let log = "LOG:  starting PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu
LOG:  listening on Unix socket \"/run/dbbackup/server/.s.PGSQL.5432\"
LOG:  database system was interrupted; last known up at 2026-11-30 20:59:23 GMT
LOG:  starting point-in-time recovery to WAL location (LSN) \"0/4000068\"
LOG:  starting backup recovery with redo LSN 0/2000028, checkpoint LSN 0/2000060, on timeline ID 1
LOG:  redo starts at 0/2000028
LOG:  redo in progress, elapsed time: 2.00 s, current LSN: 0/3000028
LOG:  completed backup recovery with redo LSN 0/2000028 and end LSN 0/2000100
LOG:  consistent recovery state reached at 0/2000100
LOG:  recovery stopping after WAL location (LSN) \"0/4000068\"
LOG:  redo done at 0/4000068 system usage: CPU: user: 0.02 s, system: 0.00 s, elapsed: 0.09 s
LOG:  last completed transaction was at log time 2026-11-30 20:59:25.470761+00
LOG:  selected new timeline ID: 2
LOG:  archive recovery complete
LOG:  checkpoint starting: end-of-recovery immediate wait
LOG:  database system is ready to accept connections";
        let words: Vec<_> = log.lines().filter_map(word).collect();
        let time = "2026-11-30T20:59:25.470761Z".parse().unwrap();
        let expected = [
            Word::Begins(0x200_0028),
            Word::Replayed(0x300_0028),
            Word::Consistent,
            Word::StoppedBehind(0x400_0068),
            Word::LastTransaction(time),
            Word::NewTimeline(2),
            Word::Complete,
            Word::Ready,
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn another_target_than_ours_is_told_apart() {
        let line =
            "recovery stopping before commit of transaction 725, time 2026-11-30 20:59:25+00";
        let stopped = Word::StoppedElsewhere(line.to_owned());
        assert_eq!(word(&format!("LOG:  {line}")), Some(stopped));
        let before = word("LOG:  recovery stopping before WAL location (LSN) \"0/4000068\"");
        assert!(matches!(before, Some(Word::StoppedElsewhere(_))));
    }

    #[test]
    fn why_a_server_ends_is_kept_and_what_rows_may_stand_in_is_not() {
        let library = word("FATAL:  could not access file \"pg_cron\": No such file or directory");
        assert!(matches!(library, Some(Word::Unsuitable(said)) if said.contains("pg_cron")));
        let full = "FATAL:  could not extend file \"base/5/16390\": No space left on device";
        assert!(matches!(word(full), Some(Word::NoRoom(_))));
        let refused = "LOG:  unrecognized configuration parameter \"polar\" in file \"/x\" line 7";
        assert!(matches!(word(refused), Some(Word::Complaint(_))));
        let locale = "LOG:  invalid value for parameter \"lc_messages\": \"de_DE.utf8\"";
        assert!(matches!(word(locale), Some(Word::Unsuitable(_))));
        for quiet in
            ["DETAIL:  Key (id)=(secret)", "HINT:  x", "CONTEXT:  WAL redo", " LOG:  x", "x", ""]
        {
            assert_eq!(word(quiet), None, "{quiet}");
        }
    }

    #[test]
    fn rows_are_not_shown_and_complaints_are_no_progress() {
        for shown in
            ["LOG:  redo starts at 0/2000028", "FATAL:  x", "postgres: error while loading"]
        {
            assert!(may_be_shown(shown), "{shown}");
        }
        for hidden in
            ["DETAIL:  Key (id)=(secret)", "CONTEXT:  COPY t, line 1", "\tsecret", "secret"]
        {
            assert!(!may_be_shown(hidden), "{hidden}");
        }
        let is =
            ["LOG:  checkpoint starting: x", "LOG:  redo starts at 0/2000028"].map(is_progress);
        assert_eq!(is, [true, true]);
        let is = ["WARNING:  again", "ERROR:  x", "LOG:  something", "x"].map(is_progress);
        assert_eq!(is, [false; 4]);
    }

    #[test]
    fn positions_are_read_with_and_without_leading_zeros() {
        assert_eq!(position("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(position("0/02000028"), Some(0x200_0028));
        assert_eq!(shown(0x16_B374_D848), "16/B374D848");
        for wrong in ["", "/", "0", "0/", "0/G", "1/2/3", "0/123456789", "0/+1"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
    }
}
