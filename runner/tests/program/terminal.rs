//! What a person sees: a bar on a terminal, and plain lines elsewhere.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::{Ended, Place, noise, signal_to, wait_until};

/// The program on a terminal of its own, reading from a pipe with a name.
struct OnTerminal {
    script: Child,
    input: std::fs::File,
    screen: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
    pid: u32,
}

impl OnTerminal {
    /// `store`, with a terminal of so many columns.
    fn store(place: &Place, columns: u32, environment: &[(&str, &str)]) -> Self {
        let (pipe, pid) = (place.path("pipe"), place.path("pid"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let shell = format!(
            "stty cols {columns} rows 20; echo $$ >{pid}; exec {runner} store {repository} \
             a-rather-long-name-of-a-series --key-file {key} <{pipe}",
            pid = pid.display(),
            runner = env!("CARGO_BIN_EXE_dbbackup-runner"),
            repository = place.repository,
            key = place.path("key").display(),
            pipe = pipe.display(),
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--command", &shell, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let screen = Arc::<Mutex<String>>::default();
        let (shown, mut out) = (Arc::clone(&screen), script.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            let mut all = Vec::new();
            while let Ok(read @ 1..) = out.read(&mut bytes) {
                all.extend_from_slice(&bytes[..read]);
                *shown.lock().unwrap() = String::from_utf8_lossy(&all).into_owned();
            }
        });
        let input = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        Self { script, input, screen, reader, pid }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    fn wait_for(&self, text: &str) {
        wait_until(text, || self.screen().contains(text), || self.screen());
    }

    /// Ends the input; the exit code, and all that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.input);
        let code = self.script.wait().unwrap().code();
        self.reader.join().unwrap();
        let shown = self.screen.lock().unwrap().clone();
        (code, shown)
    }
}

/// What stands on the terminal in the end, line by line: a carriage return goes to
/// the line's beginning, and `ESC [ K` or `ESC [ 2 K` wipes it.
fn remains(shown: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in shown.split_inclusive('\n') {
        let line = lines.last_mut().unwrap();
        for overwritten in piece.trim_end_matches('\n').split('\r') {
            if overwritten.contains("\x1b[2K") || overwritten.contains("\x1b[K") {
                line.clear();
            }
            let text = without_sequences(overwritten);
            if !text.is_empty() {
                *line = text;
            }
        }
        if piece.ends_with('\n') {
            lines.push(String::new());
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

fn without_sequences(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| {
        let end = part.find(|letter: char| letter.is_ascii_alphabetic()).map_or(0, |at| at + 1);
        line + &part[end..]
    })
}

#[test]
fn a_terminal_gets_one_line_that_fits_and_goes_when_the_work_is_done() {
    for columns in [100, 60, 30] {
        let place = Place::new();
        let mut terminal = OnTerminal::store(&place, columns, &[]);
        terminal.input.write_all(&noise(1, 1 << 20)).unwrap();
        terminal.wait_for("a-rather-long-name");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{shown}");
        for frame in shown.split(['\r', '\n']).filter(|frame| frame.contains("a-rather-long")) {
            let width = without_sequences(frame).chars().count();
            assert!(width <= columns as usize, "{width} of {columns} columns: {frame:?}");
        }
        let remains = remains(&shown);
        let [only] = remains.as_slice() else { panic!("{remains:#?}") };
        assert!(only.starts_with("snapshot ") && only.contains("read 1.05 MB in "), "{only}");
    }
}

#[test]
fn lines_that_are_told_meanwhile_stand_above_the_bar_and_have_colours_unless_unwanted() {
    for (environment, coloured) in
        [(&[][..], true), (&[("NO_COLOR", "")], true), (&[("NO_COLOR", "1")], false)]
    {
        let place = Place::new();
        let mut terminal = OnTerminal::store(&place, 100, environment);
        terminal.input.write_all(&noise(1, 1 << 20)).unwrap();
        terminal.wait_for("a-rather-long-name");
        signal_to(terminal.pid, "TERM");
        terminal.wait_for("(Interrupted)");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(143), "{shown}");
        assert_eq!(shown.contains("\x1b[33m"), coloured, "{environment:?}: {shown:?}");
        let remains = remains(&shown);
        let [told, error, hint] = remains.as_slice() else { panic!("{remains:#?}") };
        assert_eq!(told.trim(), "WARN told to stop; a second signal ends it at once");
        assert_eq!(error, "error: the run was told to stop (Interrupted)");
        assert_eq!(hint, "hint: Run the command again.");
    }
}

#[test]
fn a_terminal_that_can_do_nothing_gets_plain_lines() {
    let place = Place::new();
    let mut terminal = OnTerminal::store(&place, 100, &[("TERM", "dumb")]);
    terminal.input.write_all(&noise(1, 1 << 20)).unwrap();
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.starts_with("snapshot ") && shown.ends_with("stored\r\n"), "{shown:?}");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

#[test]
fn without_a_terminal_there_is_no_bar_however_long_it_takes() {
    let place = Place::new();
    let mut child = place.command(["store", "x"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&noise(1, 40 << 20)).unwrap();
    drop(stdin);
    let ended = Ended::from(child.wait_with_output().unwrap()).well();
    assert_eq!(ended.text().lines().count(), 1, "{}", ended.text());
    assert!(!ended.text().contains(['\r', '\x1b']), "{:?}", ended.text());
}
