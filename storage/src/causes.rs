//! Failures of libraries and words of servers, as a person reads them.

use std::error::Error as StdError;

/// Longest text of somebody else that is passed on, in characters.
const MAX_TEXT: usize = 400;

/// The error and its causes. An `io::Error` hides the one that it was made of.
pub fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

/// A failure in the words of its causes, without those that say only that there is
/// one (`empty`).
#[must_use]
pub fn told(error: &(dyn StdError + 'static), empty: &[&str]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in causes(error).map(ToString::to_string) {
        let told_before = texts.iter().any(|before| before.contains(&text));
        if !text.is_empty() && !empty.contains(&text.as_str()) && !told_before {
            texts.push(text);
        }
    }
    if texts.is_empty() { "it failed".to_owned() } else { on_one_line(&texts.join(": ")) }
}

/// An answer that is no success: what it means in our words, if we have any, and what
/// the server said.
#[must_use]
pub fn server_says(ours: &str, status: u16, code: &str, message: &str) -> String {
    let mut said = String::new();
    if !ours.is_empty() {
        said.push_str(ours);
        said.push_str("; ");
    }
    said.push_str("the server says ");
    said.push_str(if code.is_empty() { "an error" } else { code });
    said.push_str(&format!(" ({status})"));
    if !message.is_empty() && message != code {
        said.push_str(": ");
        said.push_str(message);
    }
    said
}

/// A text of somebody else, on one line and not endless.
#[must_use]
pub fn on_one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
