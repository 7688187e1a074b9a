//! The first lines of `pg_restore`'s script, without settings that the target
//! lacks, and with statements of ours at their end.
//!
//! A newer `pg_restore` begins with a setting or two that an older server does
//! not know. Only the fixed lines before the first other statement are looked
//! at; everything after passes through untouched.
//!
//! The preamble must hold `\restrict`: without it a hostile source could have
//! `psql` run commands of the shell (CVE-2025-8714). Clients since August 2025 write it.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use dbbackup_contract::{Failure, Reason};

/// Longest preamble that is waited for.
const MAX_BYTES: usize = 64 * 1024;

/// Looks at a script's first lines as they stream past.
pub(super) struct Preamble<'a> {
    known: &'a HashSet<String>,
    ours: &'a [String],
    pending: BytesMut,
    restricted: bool,
    over: bool,
}

impl<'a> Preamble<'a> {
    /// `known` are the settings that the target has; `ours` are statements that
    /// follow the preamble.
    pub(super) fn new(known: &'a HashSet<String>, ours: &'a [String]) -> Self {
        Self { known, ours, pending: BytesMut::new(), restricted: false, over: false }
    }

    /// Takes the next bytes; gives those that go on.
    ///
    /// # Errors
    /// `VersionUnsupported` before the first statement, if the script is not restricted.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<Bytes, Failure> {
        if self.over {
            return Ok(bytes);
        }
        self.pending.extend_from_slice(&bytes);
        let mut out = BytesMut::new();
        while let Some(end) = memchr::memchr(b'\n', &self.pending) {
            let line = self.pending.split_to(end + 1);
            match judge(&line, self.known) {
                Line::Restrict => {
                    self.restricted = true;
                    out.extend_from_slice(&line);
                }
                Line::Keep => out.extend_from_slice(&line),
                Line::Drop => {}
                Line::Other => {
                    self.end(&mut out);
                    out.extend_from_slice(&line);
                    break;
                }
            }
        }
        if !self.over && self.pending.len() > MAX_BYTES {
            // No line of a preamble is as long as this.
            self.end(&mut out);
        }
        if self.over {
            if !self.restricted {
                return Err(unrestricted());
            }
            out.extend_from_slice(&std::mem::take(&mut self.pending));
        }
        Ok(out.freeze())
    }

    /// The preamble is over: ours follows.
    fn end(&mut self, out: &mut BytesMut) {
        self.over = true;
        for statement in self.ours {
            out.extend_from_slice(statement.as_bytes());
            out.extend_from_slice(b";\n");
        }
    }

    /// The script has ended: what is left of it.
    pub(super) fn finish(self) -> Bytes {
        self.pending.freeze()
    }
}

fn unrestricted() -> Failure {
    let message = "pg_restore is too old to be safe: its script lacks \\restrict";
    Failure::new(Reason::VersionUnsupported, message)
        .with_hint("Use clients of PostgreSQL 13.22, 14.19, 15.14, 16.10, 17.6 or newer.")
}

enum Line {
    Keep,
    /// It locks the script's meta-commands.
    Restrict,
    Drop,
    /// The preamble is over.
    Other,
}

fn judge(line: &[u8], known: &HashSet<String>) -> Line {
    let Ok(text) = std::str::from_utf8(line) else { return Line::Other };
    let text = text.trim();
    if text.starts_with("\\restrict ") {
        return Line::Restrict;
    }
    if text.is_empty()
        || text.starts_with("--")
        || text.starts_with("SELECT pg_catalog.set_config('search_path'")
    {
        return Line::Keep;
    }
    match text.strip_prefix("SET ").and_then(|rest| rest.split_once(" = ")) {
        Some((name, _)) if known.contains(name) => Line::Keep,
        Some(_) => Line::Drop,
        None => Line::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict Ab1\n\n\
        SET statement_timeout = 0;\nSET transaction_timeout = 0;\n\
        SELECT pg_catalog.set_config('search_path', '', false);\nSET row_security = off;\n\n\
        CREATE SCHEMA x;\nSET transaction_timeout = 0;\n\\unrestrict Ab1\n";

    #[test]
    fn only_the_preamble_is_changed_however_it_arrives() {
        let known = ["statement_timeout", "row_security"].map(str::to_owned).into();
        let ours = ["SET array_nulls = on".to_owned()];
        let expected = SCRIPT.replacen("SET transaction_timeout = 0;\n", "", 1).replacen(
            "CREATE",
            "SET array_nulls = on;\nCREATE",
            1,
        );
        for size in [1, 7, 40, SCRIPT.len()] {
            let mut preamble = Preamble::new(&known, &ours);
            let mut out = Vec::new();
            for piece in SCRIPT.as_bytes().chunks(size) {
                out.extend_from_slice(&preamble.push(Bytes::copy_from_slice(piece)).unwrap());
            }
            out.extend_from_slice(&preamble.finish());
            assert_eq!(String::from_utf8(out).unwrap(), expected, "by {size}");
        }
    }

    #[test]
    fn a_script_without_restrict_never_reaches_a_statement() {
        let script = SCRIPT.replace("\\restrict Ab1\n", "");
        let known = HashSet::new();
        let mut preamble = Preamble::new(&known, &[]);
        let failure = preamble.push(Bytes::from(script)).unwrap_err();
        assert_eq!(failure.reason, Reason::VersionUnsupported);
    }
}
