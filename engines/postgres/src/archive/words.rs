//! The words of a statement that `pg_dump` wrote: enough to find the places of names in it, and
//! no more. Every encoding of a server leaves ASCII bytes to ASCII characters.

use std::borrow::Cow;
use std::ops::Range;

/// One word, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) at: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A keyword, a number, or a name that needs no quotes.
    Plain(&'a [u8]),
    /// A name in quotes, without them.
    Quoted(Cow<'a, [u8]>),
    /// One other character.
    Sign(u8),
}

impl Word<'_> {
    /// Whether it is this keyword. `pg_dump` puts a name in quotes that is a keyword, too.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self.kind, Kind::Plain(text) if text.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    pub(super) fn is_sign(&self, sign: u8) -> bool {
        self.kind == Kind::Sign(sign)
    }

    /// The name that it is.
    pub(super) fn name(&self) -> Option<String> {
        let name: &[u8] = match &self.kind {
            Kind::Plain(text) => text,
            Kind::Quoted(text) => text,
            Kind::Sign(_) => return None,
        };
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

/// Words from the beginning of a text on.
pub(super) struct Words<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { text, position: 0 }
    }

    /// The name that begins behind `start`, the position of its quote.
    fn quoted(&self, start: usize) -> (Kind<'a>, usize) {
        let mut doubled = false;
        let mut end = start + 1;
        loop {
            match self.text.get(end) {
                Some(b'"') if self.text.get(end + 1) == Some(&b'"') => {
                    doubled = true;
                    end += 2;
                }
                Some(b'"') | None => break,
                Some(_) => end += 1,
            }
        }
        let inner = &self.text[start + 1..end];
        let name = if doubled { Cow::Owned(undoubled(inner)) } else { Cow::Borrowed(inner) };
        (Kind::Quoted(name), (end + 1).min(self.text.len()))
    }
}

fn undoubled(text: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        name.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    name
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.text.get(self.position..)?;
        let start = self.position + rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let (kind, end) = match self.text[start] {
            b'"' => self.quoted(start),
            byte if is_plain(byte) => {
                let rest = &self.text[start..];
                let length = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
                (Kind::Plain(&rest[..length]), start + length)
            }
            byte => (Kind::Sign(byte), start + 1),
        };
        self.position = end;
        Some(Word { kind, at: start..end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_quotes_are_one_word_whatever_is_in_them() {
        let text = "GRANT ALL ON \"a;\"\"b\nTO x\".größe_1 TO PUBLIC;";
        let names: Vec<_> = Words::of(text.as_bytes()).map(|word| word.name()).collect();
        let some = |name: &str| Some(name.to_owned());
        let expected = ["GRANT", "ALL", "ON", "a;\"b\nTO x"].map(some);
        assert_eq!(names[..4], expected);
        assert_eq!(names[4..8], [None, some("größe_1"), some("TO"), some("PUBLIC")]);
        assert_eq!(names[8..], [None]);
        let at: Vec<_> = Words::of(text.as_bytes()).map(|word| &text[word.at]).collect();
        assert_eq!(at[3], "\"a;\"\"b\nTO x\"");
    }

    #[test]
    fn a_quote_without_end_ends_with_the_text() {
        for text in ["\"", "x \"", "x \"y", "\"a\"\""] {
            assert!(Words::of(text.as_bytes()).all(|word| word.at.end <= text.len()), "{text}");
        }
    }
}
