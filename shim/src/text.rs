//! What a server writes, as text that can be shown and is not too long.

/// Most bytes of a line that are kept.
pub const MAX_LINE_BYTES: usize = 4 * 1024;

/// A line of a server's output as text: UTF-8, with a space in place of each control character,
/// at most [`MAX_LINE_BYTES`].
#[must_use]
pub fn line_text(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
    let text = String::from_utf8_lossy(bytes);
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // A byte that is no UTF-8 became a character of three.
    text.truncate(text.floor_char_boundary(MAX_LINE_BYTES));
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_moves_no_cursor_and_is_short() {
        assert_eq!(line_text(b"\tLOG:  ready\r"), " LOG:  ready");
        assert_eq!(line_text(b"\x1b[31mred\x07 \xff"), " [31mred  \u{fffd}");
        assert_eq!(line_text("größe".as_bytes()), "größe");
        assert_eq!(line_text(&[b'x'; 2 * MAX_LINE_BYTES]).len(), MAX_LINE_BYTES);
        let longest = line_text(&[0xff; MAX_LINE_BYTES]);
        assert!(longest.len() <= MAX_LINE_BYTES && longest.ends_with('\u{fffd}'));
    }
}
