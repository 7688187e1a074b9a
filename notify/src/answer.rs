//! What a receiver says, as far as it may be told: it is anybody's text, and may repeat what
//! it was sent.

use crate::words::plain;

/// Most bytes that are read of an answer.
pub(crate) const MOST_READ: usize = 4096;
/// Most bytes that are told.
const MOST_TOLD: usize = 160;
/// Shorter words are in any text.
const LEAST_SECRET: usize = 6;

/// The answer in brackets, cut and without control characters: ` (invalid_payload)`. Nothing
/// of one that repeats a secret is told.
pub(crate) fn told<'a>(answer: &[u8], secrets: impl IntoIterator<Item = &'a str>) -> String {
    let answer = String::from_utf8_lossy(answer);
    let repeats = |secret: &str| secret.len() >= LEAST_SECRET && answer.contains(secret);
    if secrets.into_iter().any(repeats) {
        return " (its answer repeats what it was sent, and is not shown)".to_owned();
    }
    match plain(answer.trim(), MOST_TOLD) {
        text if text.is_empty() => text,
        text => format!(" ({text})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_briefly_and_never_with_a_secret() {
        let secrets = ["B00000000/XXXXXXXX", "T0000", ""];
        let told = |answer: &str| told(answer.as_bytes(), secrets);
        assert_eq!(told("invalid_payload\n"), " (invalid_payload)");
        assert_eq!(told(" \r\n"), "");
        assert_eq!(told("a\u{1b}[2Jb\nc"), " (a [2Jb c)");
        assert!(told(&"é".repeat(1000)).len() <= MOST_TOLD + 3);
        let repeated = told("Cannot POST /services/B00000000/XXXXXXXX");
        assert!(!repeated.contains("XXX") && repeated.contains("not shown"), "{repeated}");
    }
}
