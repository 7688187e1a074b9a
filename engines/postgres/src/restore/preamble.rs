//! The first lines of `pg_restore`'s script, without settings that the target lacks.
//!
//! A newer `pg_restore` begins with a setting or two that an older server does
//! not know. Only the fixed lines before the first other statement are looked
//! at; everything after passes through untouched.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};

/// Longest preamble that is waited for.
const MAX_BYTES: usize = 64 * 1024;

/// Looks at a script's first lines as they stream past.
pub(super) struct Preamble {
    known: HashSet<String>,
    pending: BytesMut,
    over: bool,
}

impl Preamble {
    /// `known` are the settings that the target has.
    pub(super) fn new(known: HashSet<String>) -> Self {
        Self { known, pending: BytesMut::new(), over: false }
    }

    /// Takes the next bytes; gives those that go on.
    pub(super) fn push(&mut self, bytes: Bytes) -> Bytes {
        if self.over {
            return bytes;
        }
        self.pending.extend_from_slice(&bytes);
        let mut out = BytesMut::new();
        while let Some(end) = memchr::memchr(b'\n', &self.pending) {
            let line = self.pending.split_to(end + 1);
            match judge(&line, &self.known) {
                Line::Keep => out.extend_from_slice(&line),
                Line::Drop => {}
                Line::Other => {
                    out.extend_from_slice(&line);
                    self.over = true;
                    break;
                }
            }
        }
        self.over |= self.pending.len() > MAX_BYTES;
        if self.over {
            out.extend_from_slice(&std::mem::take(&mut self.pending));
        }
        out.freeze()
    }

    /// The script has ended: what is left of it.
    pub(super) fn finish(self) -> Bytes {
        self.pending.freeze()
    }
}

enum Line {
    Keep,
    Drop,
    /// The preamble is over.
    Other,
}

fn judge(line: &[u8], known: &HashSet<String>) -> Line {
    let Ok(text) = std::str::from_utf8(line) else { return Line::Other };
    let text = text.trim();
    if text.is_empty()
        || text.starts_with("--")
        || text.starts_with("\\restrict ")
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
        let known = || ["statement_timeout", "row_security"].map(str::to_owned).into();
        let expected = SCRIPT.replacen("SET transaction_timeout = 0;\n", "", 1);
        for size in [1, 7, 40, SCRIPT.len()] {
            let mut preamble = Preamble::new(known());
            let mut out = Vec::new();
            for piece in SCRIPT.as_bytes().chunks(size) {
                out.extend_from_slice(&preamble.push(Bytes::copy_from_slice(piece)));
            }
            out.extend_from_slice(&preamble.finish());
            assert_eq!(String::from_utf8(out).unwrap(), expected, "by {size}");
        }
    }
}
