//! What the client programs say on stderr, in the words of the table of reasons.
//!
//! `psql` is run with `VERBOSITY=verbose` and gives SQLSTATEs. `pg_dump` gives
//! only text, in the server's language where the server speaks.

use dbbackup_contract::{Failure, Reason};
use dbbackup_engine::{ChildExit, Ended, LastWords};

use super::failure_of_code;
use super::words::{ServerWords, is_raised_by};
use crate::versions::major_of;

/// Patterns of `pg_dump` and `pg_restore`, and the reason that each stands for.
const PATTERNS: &[(&str, Reason)] = &[
    ("due to lock timeout", Reason::LockTimeout),
    ("could not obtain lock", Reason::LockTimeout),
    ("permission denied for", Reason::PermissionDenied),
    ("must be owner of", Reason::PermissionDenied),
    ("query would be affected by row-level security policy", Reason::PermissionDenied),
    ("no pg_hba.conf entry", Reason::NoPgHbaEntry),
    ("password authentication failed", Reason::WrongPassword),
    ("too many clients already", Reason::TooManyConnections),
    ("remaining connection slots are reserved", Reason::TooManyConnections),
    ("aborting because of server version mismatch", Reason::VersionUnsupported),
    ("invalid page in block", Reason::DataCorrupted),
    ("could not read block", Reason::DataCorrupted),
    ("missing chunk number", Reason::DataCorrupted),
    ("unexpected chunk number", Reason::DataCorrupted),
    ("cache lookup failed", Reason::DataCorrupted),
    ("No space left on device", Reason::DiskFull),
    ("out of shared memory", Reason::OutOfSharedMemory),
    ("the database system is starting up", Reason::ServerNotReady),
    ("the database system is shutting down", Reason::ServerNotReady),
    ("the database system is in recovery mode", Reason::ServerNotReady),
    ("server closed the connection", Reason::ServerGoneAway),
    ("terminating connection", Reason::ServerGoneAway),
    ("SSL connection has been closed unexpectedly", Reason::ServerGoneAway),
    ("could not receive data from server", Reason::ServerGoneAway),
    ("lost synchronization with server", Reason::ServerGoneAway),
    ("connection to server at", Reason::ServerUnreachable),
    ("no connection to the server", Reason::ServerGoneAway),
];

/// What a failed `pg_dump` means.
pub(crate) fn failure_of_dump(exit: &ChildExit) -> Failure {
    if let Some(killed) = exit.killed() {
        return killed;
    }
    let failure = by_pattern(exit);
    match unlocked(exit) {
        Some(tables) if matches!(failure.reason, Reason::ClientFailed | Reason::LockTimeout) => {
            Failure::new(Reason::LockTimeout, format!("no lock was granted on {tables}"))
        }
        _ => failure,
    }
}

/// The tables of a `LOCK TABLE` that failed. `pg_dump` sets a time limit for
/// these statements only; its own words are English, whatever the server speaks.
fn unlocked(exit: &ChildExit) -> Option<&str> {
    exit.stderr.lines().find_map(|line| {
        let (_, tables) = line.split_once("Query was: LOCK TABLE ")?;
        let tables = tables.split(" IN ACCESS SHARE MODE").next()?;
        Some(&tables[..tables.floor_char_boundary(256)])
    })
}

/// What a failed `pg_restore -f -` means.
pub(crate) fn failure_of_restore(exit: &ChildExit) -> Failure {
    if let Some(killed) = exit.killed() {
        return killed;
    }
    let failure = by_pattern(exit);
    let damaged = exit.stderr.lines().any(|line| {
        line.contains("unexpected end of file") || line.contains("did not find magic string")
    });
    if damaged { Failure::new(Reason::ArchiveDamaged, failure.message) } else { failure }
}

fn by_pattern(exit: &ChildExit) -> Failure {
    let said = sayings(exit);
    let first = said.first().cloned().unwrap_or_else(|| without_words(exit));
    let message = format!("{}: {first}", exit.name);
    let found = PATTERNS.iter().find(|(pattern, _)| said.iter().any(|line| line.contains(pattern)));
    match found {
        Some((_, reason)) => Failure::new(*reason, message),
        None => Failure::new(Reason::ClientFailed, message),
    }
}

/// What is known of a client that did not say what is wrong.
fn without_words(exit: &ChildExit) -> String {
    match exit.ended {
        // It did not even start: these are the dynamic linker's words.
        Ended::Code(code @ 127) => match exit.stderr.lines().next() {
            Some(line) => line.strip_prefix(&format!("{}: ", exit.name)).unwrap_or(line).to_owned(),
            None => format!("it ended with exit code {code}"),
        },
        Ended::Code(code) => format!("it ended with exit code {code} and did not say why"),
        Ended::Well | Ended::Signal { .. } => "it ended and did not say why".to_owned(),
    }
}

/// The lines that say what is wrong, their prefixes cut off. What may hold rows
/// (DETAIL, CONTEXT, statements) is left out.
fn sayings(exit: &ChildExit) -> Vec<String> {
    let prefix = format!("{}: ", exit.name);
    let mut said = Vec::new();
    for line in exit.stderr.lines() {
        let Some(text) = line.strip_prefix(&prefix) else { continue };
        let Some(text) = text.strip_prefix("error: ") else { continue };
        let text = text.strip_prefix("query failed: ").unwrap_or(text);
        let text = text.strip_prefix("Error message from server: ").unwrap_or(text);
        let text = text.strip_prefix("ERROR:  ").unwrap_or(text);
        said.push(text.to_owned());
    }
    // "pg_dump: detail: Error message from server: ERROR:  …" is the cause of a
    // COPY that failed; what stands after it may be anything.
    let cause = format!("{prefix}detail: Error message from server: ");
    for line in exit.stderr.lines() {
        if let Some(text) = line.strip_prefix(&cause) {
            said.insert(0, of_copy(text.strip_prefix("ERROR:  ").unwrap_or(text)));
        }
    }
    said
}

/// What the server said of rows that `pg_dump` read. There is no SQLSTATE: what is
/// quoted may be a value, unless it is a file of the server.
fn of_copy(text: &str) -> String {
    let quoted = text.split('"').skip(1).step_by(2);
    let files = ["base/", "global/", "pg_tblspc/", "pg_xact/", "pg_multixact/", "pg_wal/"];
    let names = quoted.filter(|name| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-');
        files.iter().any(|folder| name.starts_with(folder)) && name.chars().all(plain)
    });
    // Any line may follow it: it has no label of its own.
    let words = ServerWords { code: "22000", text, goes_on: true, ..ServerWords::default() };
    ServerWords { names: names.collect(), ..words }.without_values()
}

/// What servers since November 2026 (17.12) keep among a column's options. They
/// take no value for it from anybody, and their `pg_dump` leaves it out; an older
/// `pg_dump` does not, and an older server refuses it.
const COLUMN_MARK: &str = "pg_attver";

/// A target that is older than the server that was backed up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OlderTarget {
    source_major: u32,
    target_major: u32,
}

impl OlderTarget {
    /// `None` where it is not older.
    pub(crate) fn of(source_version: &str, target_major: u32) -> Option<Self> {
        let source_major = major_of(source_version)?;
        (source_major > target_major).then_some(Self { source_major, target_major })
    }

    /// A statement that an older server may lack, or a value that it may not take.
    fn may_lack(code: &str) -> bool {
        // Feature not supported; data exception; invalid schema name; syntax error or
        // access rule violation, but for permissions.
        ["0A", "22", "3F", "42"].iter().any(|class| code.starts_with(class)) && code != "42501"
    }

    fn failure(self, said: &str) -> Failure {
        let Self { source_major, target_major } = self;
        let message = format!(
            "PostgreSQL {target_major} did not take what PostgreSQL {source_major} has: {said}"
        );
        Failure::new(Reason::VersionUnsupported, message).with_hint(format!(
            "An older server lacks what newer ones have. Restore to PostgreSQL {source_major} or \
             newer; or remove what the message names from the source and back up again."
        ))
    }
}

/// What a failed `psql` means: its first error, by SQLSTATE.
pub(crate) fn failure_of_psql(exit: &ChildExit, older: Option<OlderTarget>) -> Failure {
    if let Some(killed) = exit.killed() {
        return killed;
    }
    let lines: Vec<_> = exit.stderr.lines().collect();
    let error = lines.iter().enumerate().find_map(|(index, line)| {
        let at = line.find("ERROR:  ").or_else(|| line.find("FATAL:  "))?;
        let (code, text) = line[at + 8..].split_once(": ")?;
        Some((index, line_number(&line[..at]), code, text))
    });
    let Some((index, number, code, text)) = error else { return by_pattern(exit) };
    let place = number.map(|n| format!(" (line {n} of the script)")).unwrap_or_default();
    if text.contains(COLUMN_MARK) {
        let message =
            format!("the backup has marks ({COLUMN_MARK}) that only newer servers know{place}");
        return Failure::new(Reason::VersionUnsupported, message).with_hint(
            "A pg_dump that was older than its server wrote them. Update the target to its newest \
             minor release, which ignores them; and use an image of the runner with newer clients.",
        );
    }
    let shown = words(code, text, lines[index], &lines[index + 1..]).without_values();
    match older.filter(|_| OlderTarget::may_lack(code)) {
        Some(older) => older.failure(&format!("{shown}{place}")),
        None => failure_of_code(code, text, format!("psql: {shown}{place}")),
    }
}

/// Names of objects that an error is about, as `psql` shows them with
/// `VERBOSITY=verbose` (`pqBuildErrorMessage3` in libpq's `fe-protocol3.c`).
const NAME_LABELS: [&str; 5] =
    ["SCHEMA NAME:  ", "TABLE NAME:  ", "COLUMN NAME:  ", "DATATYPE NAME:  ", "CONSTRAINT NAME:  "];
/// The other lines that follow a message.
const OTHER_LABELS: [&str; 6] =
    ["LINE ", "DETAIL:  ", "HINT:  ", "QUERY:  ", "CONTEXT:  ", "LOCATION:  "];
/// An error with what its `line` and the lines that `follow` tell about its words.
fn words<'a>(code: &'a str, text: &'a str, line: &str, follow: &[&'a str]) -> ServerWords<'a> {
    let of_this = || follow.iter().take_while(|line| !line.starts_with("psql:"));
    let labelled = |line: &str, labels: &[&str]| labels.iter().any(|label| line.starts_with(label));
    let next_is_label = follow
        .first()
        .is_some_and(|next| labelled(next, &NAME_LABELS) || labelled(next, &OTHER_LABELS));
    // Only of broken constraints the server quotes names, and has them in fields.
    let names = of_this()
        .filter(|_| code.starts_with("23"))
        .filter_map(|line| NAME_LABELS.iter().find_map(|label| line.strip_prefix(label)));
    ServerWords {
        code,
        text,
        goes_on: !next_is_label || LastWords::may_be_cut(line),
        names: names.collect(),
        raised: of_this().filter_map(|line| line.strip_prefix("LOCATION:  ")).any(is_raised_by),
    }
}

/// The line's number in `psql:<stdin>:123: `.
fn line_number(prefix: &str) -> Option<u64> {
    prefix.trim_end().trim_end_matches(':').rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbbackup_engine::LastWords;

    fn exit(name: &'static str, text: &str) -> ChildExit {
        ChildExit { name, ended: Ended::Code(1), stderr: LastWords::from_text(text) }
    }

    #[test]
    fn a_client_without_words_or_without_its_libraries_says_so() {
        let silent = failure_of_dump(&exit("pg_dump", ""));
        assert_eq!(silent.message, "pg_dump: it ended with exit code 1 and did not say why");
        let linker = "pg_dump: error while loading shared libraries: libpq.so.5: cannot open";
        let lost = ChildExit { ended: Ended::Code(127), ..exit("pg_dump", linker) };
        assert_eq!(failure_of_dump(&lost).message, linker);
    }

    #[test]
    fn a_dump_that_fails_says_why_without_rows() {
        let failure = failure_of_dump(&exit(
            "pg_dump",
            "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetResult() failed.\n\
             pg_dump: detail: Error message from server: ERROR:  invalid page in block 3 of relation base/5/16385\n\
             DETAIL:  row (secret)\n\
             pg_dump: detail: Command was: COPY public.t (id) TO stdout;\n",
        ));
        assert_eq!(failure.reason, Reason::DataCorrupted);
        assert_eq!(failure.message, "pg_dump: invalid page in block 3 of relation base/5/16385");
    }

    #[test]
    fn a_lock_that_was_waited_for_is_known_in_any_language() {
        let failure = failure_of_dump(&exit(
            "pg_dump",
            "pg_dump: error: query failed: FEHLER:  storniere Anfrage wegen Zeitüberschreitung\n\
             pg_dump: detail: Query was: LOCK TABLE public.a, public.b IN ACCESS SHARE MODE\n",
        ));
        assert_eq!(failure.reason, Reason::LockTimeout);
        assert_eq!(failure.message, "no lock was granted on public.a, public.b");
    }

    const DUPLICATE: &str = "psql:<stdin>:42: ERROR:  23505: duplicate key value violates unique \
        constraint \"t_pkey\"\nDETAIL:  Key (id)=(secret) already exists.\nSCHEMA NAME:  public\n\
        TABLE NAME:  t\nCONSTRAINT NAME:  t_pkey\nLOCATION:  x\n";

    #[test]
    fn a_value_that_a_dump_cannot_read_is_left_out_and_a_file_is_not() {
        let message = |text: &str| {
            let said = format!("pg_dump: detail: Error message from server: ERROR:  {text}\n");
            failure_of_dump(&exit("pg_dump", &said)).message
        };
        assert_eq!(
            message("could not open file \"base/5/16385\": No such file or directory"),
            "pg_dump: could not open file \"base/5/16385\": No such file or directory"
        );
        assert_eq!(message("bad value \"base/x secret\" found"), "pg_dump: bad value …");
        assert_eq!(message("bad value \"secret\", really"), "pg_dump: bad value …");
    }

    #[test]
    fn values_that_psql_shows_are_left_out() {
        let message = |text: &str| failure_of_psql(&exit("psql", text), None).message;
        assert_eq!(
            message(
                "psql:<stdin>:7: ERROR:  22P02: invalid input syntax for type integer: \"sec\"r\n\
                 et\"\nCONTEXT:  COPY t, line 1\nLOCATION:  pg_strtoint32_safe, numutils.c:617\n"
            ),
            "psql: invalid input syntax for type integer: … (line 7 of the script)"
        );
        assert_eq!(
            message(
                "psql:<stdin>:7: ERROR:  23514: secret\nLOCATION:  exec_stmt_raise, pl_exec.c:3911\n"
            ),
            "psql: a function of the database raised an error of its own (line 7 of the script)"
        );
        let long = format!(
            "psql:<stdin>:7: ERROR:  22P02: malformed array literal: \"{}\"{}\nLOCATION:  x\n",
            "x".repeat(2000),
            "secret".repeat(1000)
        );
        assert_eq!(message(&long), "psql: malformed array literal: … (line 7 of the script)");
    }

    #[test]
    fn psql_is_judged_by_its_state() {
        let failure = failure_of_psql(&exit("psql", DUPLICATE), None);
        assert_eq!(failure.reason, Reason::StatementFailed);
        assert_eq!(
            failure.message,
            "psql: duplicate key value violates unique constraint \"t_pkey\" (line 42 of the script)"
        );
    }

    #[test]
    fn a_mark_that_an_old_pg_dump_wrote_down_is_told_as_such() {
        let said = "psql:<stdin>:7: ERROR:  22023: unrecognized parameter \"pg_attver\"\n";
        for older in [None, OlderTarget::of("17.12", 16)] {
            let failure = failure_of_psql(&exit("psql", said), older);
            assert_eq!(failure.reason, Reason::VersionUnsupported);
            assert!(failure.hint.contains("newest minor release"), "{failure}");
        }
    }

    #[test]
    fn a_statement_that_an_older_target_lacks_is_told_as_such() {
        assert!(OlderTarget::of("15.4", 15).is_none());
        assert!(OlderTarget::of("14.4", 15).is_none());
        let older = OlderTarget::of("18beta1 (Debian 18~beta1)", 15);
        let said = "psql:<stdin>:7: ERROR:  42601: syntax error at or near \"VIRTUAL\"\n";
        let failure = failure_of_psql(&exit("psql", said), older);
        assert_eq!(failure.reason, Reason::VersionUnsupported);
        assert_eq!(
            failure.message,
            "PostgreSQL 15 did not take what PostgreSQL 18 has: syntax error at or near \
             \"VIRTUAL\" (line 7 of the script)"
        );
        assert!(failure.hint.contains("Restore to PostgreSQL 18 or newer"), "{failure}");
        // What any server would refuse is told as ever.
        let failure = failure_of_psql(&exit("psql", DUPLICATE), older);
        assert_eq!(failure.reason, Reason::StatementFailed);
    }
}
