//! The lines that a program writes, none of them longer than is kept.

use std::io::{BufRead, ErrorKind};

use dbbackup_shim::{MAX_LINE_BYTES, line_text};

/// Gives each line to `take`, until the output ends. What is too much of a line is read and let go.
pub(crate) fn each_line(mut output: impl BufRead, mut take: impl FnMut(String)) {
    while let Some(line) = next_line(&mut output) {
        take(line);
    }
}

/// The next line, without its end; `None` at the end of the output, and where it cannot be read.
pub(crate) fn next_line(output: &mut impl BufRead) -> Option<String> {
    let mut kept = Vec::new();
    let mut begun = false;
    loop {
        let come = match output.fill_buf() {
            Ok([]) => return begun.then(|| line_text(&kept)),
            Ok(come) => come,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        begun = true;
        let end = come.iter().position(|byte| *byte == b'\n');
        let part = &come[..end.unwrap_or(come.len())];
        let room = MAX_LINE_BYTES.saturating_sub(kept.len()).min(part.len());
        kept.extend_from_slice(&part[..room]);
        let used = end.map_or(come.len(), |end| end + 1);
        output.consume(used);
        if end.is_some() {
            return Some(line_text(&kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let long = "x".repeat(100_000);
        let output = format!("first\n\n{long}\nlast");
        let mut lines = Vec::new();
        each_line(BufReader::with_capacity(7, output.as_bytes()), |line| lines.push(line));
        assert_eq!(lines, ["first", "", &long[..MAX_LINE_BYTES], "last"]);
    }
}
