//! What a child said on stderr, bounded: its first and its last lines.
//!
//! A client that fails on each of a million rows must not fill the memory; what
//! matters stands at the beginning (the first error) or at the end (the last).

use std::collections::VecDeque;

/// Lines that are kept from the beginning, and as many from the end.
const KEPT_LINES: usize = 64;
/// Longest line that is kept, in bytes.
const MAX_LINE_BYTES: usize = 4096;

/// The first and the last lines of a child's stderr.
#[derive(Clone, Debug, Default)]
pub struct LastWords {
    first: Vec<String>,
    last: VecDeque<String>,
    omitted: u64,
    partial: Vec<u8>,
}

impl LastWords {
    /// As if `text` had been said.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut words = Self::default();
        words.push(text.as_bytes());
        words.finish();
        words
    }

    /// Lines in order; those in the middle may be missing.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.first.iter().chain(&self.last).map(String::as_str)
    }

    /// Lines that were said and not kept.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Whether `line`, one of [`LastWords::lines`], may have been longer than it is.
    #[must_use]
    pub fn may_be_cut(line: &str) -> bool {
        line.len() >= MAX_LINE_BYTES
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Takes more bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE_BYTES.saturating_sub(self.partial.len());
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < piece.len() {
                self.end_line();
            }
        }
    }

    /// The stream has ended.
    pub(crate) fn finish(&mut self) {
        if !self.partial.is_empty() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.partial).into_owned();
        self.partial.clear();
        if self.first.len() < KEPT_LINES {
            self.first.push(line);
            return;
        }
        if self.last.len() == KEPT_LINES {
            self.last.pop_front();
            self.omitted += 1;
        }
        self.last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_lines_leave_the_first_and_the_last() {
        let mut words = LastWords::default();
        for n in 0..1_000_000 {
            words.push(format!("error {n}\n").as_bytes());
        }
        words.push(b"and no newline");
        words.finish();
        let lines: Vec<_> = words.lines().collect();
        assert_eq!(lines.len(), 2 * KEPT_LINES);
        assert_eq!((lines[0], lines[127]), ("error 0", "and no newline"));
        assert_eq!(words.omitted(), 1_000_001 - 128);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut words = LastWords::default();
        for _ in 0..100 {
            words.push(&[b'x'; 1000]);
        }
        words.push(b"\nnext\n");
        let lines: Vec<_> = words.lines().collect();
        assert_eq!((lines[0].len(), lines[1]), (MAX_LINE_BYTES, "next"));
        assert!(LastWords::may_be_cut(lines[0]) && !LastWords::may_be_cut(lines[1]));
    }
}
