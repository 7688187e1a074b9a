//! A failure as people and programs read it: class, reason, message, hint.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ExitCode, Reason};

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ErrorClass {
    /// Nothing was lost and nothing needs doing.
    Ignorable,
    /// Done, but somebody should look.
    Warning,
    /// Not done; another try may succeed without anybody's help.
    Retryable,
    /// Not done, and not before somebody changes something.
    Fatal,
}

/// One failure: what happened, under which stable name, and what to do.
///
/// `message` is lower case, without a full stop, and free of secrets and of
/// rows: what a server says in DETAIL or CONTEXT never gets here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Whether trying again can help.
    pub class: ErrorClass,
    /// Stable name, the same in statuses, events, metrics and the documentation.
    pub reason: Reason,
    /// What happened, in this case, with the names that matter.
    #[cfg_attr(feature = "schema", schemars(length(max = 4096)))]
    pub message: String,
    /// What a person can do about it: whole sentences.
    #[cfg_attr(feature = "schema", schemars(length(max = 4096)))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// Longest message or hint that is kept, in bytes: a status is no place for a log.
pub(crate) const MAX_TEXT_BYTES: usize = 2048;

impl Failure {
    /// A failure with the class and the hint that belong to `reason`.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            class: reason.class(),
            reason,
            message: cut(message.into()),
            hint: reason.hint().to_owned(),
        }
    }

    /// The same failure with a hint that fits this case better than the general one.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = cut(hint.into());
        self
    }

    /// The exit code with which the runner ends on this failure.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self.class {
            ErrorClass::Retryable => ExitCode::Retryable,
            _ => self.reason.exit_code().unwrap_or(ExitCode::Internal),
        }
    }

    /// Whether another try may succeed without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.class == ErrorClass::Retryable
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)?;
        if !self.hint.is_empty() {
            write!(f, ". {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The text without what moves a terminal's cursor or turns the direction of writing: names and
/// words of servers stand in messages, and whoever reads those must see what is there. Such a
/// character is shown as its escape; ends of lines stay.
fn printable(text: String) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_hidden = |c: char| turns(c) || (c.is_control() && c != '\n');
    if !text.contains(is_hidden) {
        return text;
    }
    let shown = |c: char| if is_hidden(c) { c.escape_default().to_string() } else { c.into() };
    text.chars().map(shown).collect()
}

/// The text as it is shown, shortened to [`MAX_TEXT_BYTES`] at a character's border.
pub(crate) fn cut(text: String) -> String {
    let mut text = printable(text);
    if text.len() > MAX_TEXT_BYTES {
        let end = text.floor_char_boundary(MAX_TEXT_BYTES - '…'.len_utf8());
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Names for a message, in their order: `a, b, c and 2 more`. At most `most` are shown.
#[must_use]
pub fn listed(names: &[impl Borrow<str>], most: usize) -> String {
    let shown = names[..names.len().min(most)].join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_in_a_message_is_shown_as_its_escape() {
        let failure =
            Failure::new(Reason::Internal, "a\u{1b}[31m\u{202e}b\u{7f}\tc\nd ü").with_hint("\u{7}");
        assert_eq!(failure.message, "a\\u{1b}[31m\\u{202e}b\\u{7f}\\tc\nd ü");
        assert_eq!(failure.hint, "\\u{7}");
    }

    #[test]
    fn a_failure_takes_class_and_hint_from_its_reason() {
        let failure = Failure::new(Reason::WrongPassword, "server refused the password of alice");
        assert_eq!(failure.class, ErrorClass::Fatal);
        assert_eq!(failure.exit_code(), ExitCode::Denied);
        assert!(
            failure
                .to_string()
                .starts_with("server refused the password of alice (WrongPassword). ")
        );
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let failure = Failure::new(Reason::Internal, "é".repeat(3000));
        assert!(failure.message.len() <= MAX_TEXT_BYTES);
        assert!(failure.message.ends_with("é…"));
    }

    #[test]
    fn a_reason_of_a_newer_release_is_read_as_unknown() {
        let json = r#"{"class":"Fatal","reason":"MoonInWrongPhase","message":"x"}"#;
        let failure: Failure = serde_json::from_str(json).unwrap();
        assert_eq!(failure.reason, Reason::Unknown);
    }
}
