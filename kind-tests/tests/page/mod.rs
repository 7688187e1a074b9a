//! A page of documentation with what `kubectl` printed, and whether another run prints the same.

use dbbackup_kind_tests::Scenario;

/// What comes before the first section.
const HEAD: &str = "\
<!-- Written by `make kubectl-page` from a cluster; do not edit. A test compares it with a cluster. -->
# What kubectl shows

Ten situations, as a person sees them. Each was brought about on a cluster, and the answers are pasted
here by a program; of `describe` conditions and events are left alone. What the reasons mean, and what to do, is in
[failures.md](failures.md).
";

/// The page so far.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Begins a section.
    pub(crate) fn section(&mut self, title: &str, text: &str) {
        self.text += &format!("\n## {title}\n");
        if !text.is_empty() {
            self.text(text);
        }
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, text: &str) {
        self.text += &format!("\n{text}\n");
    }

    /// A command, and what it printed.
    pub(crate) fn kubectl(&mut self, scenario: &Scenario, arguments: &[&str]) {
        self.shown(scenario, arguments, str::to_owned);
    }

    /// `kubectl describe` from a line on.
    pub(crate) fn describe(&mut self, scenario: &Scenario, what: &str, from: &str) {
        self.shown(scenario, &["describe", what], |all| {
            all.lines().skip_while(|line| *line != from).collect::<Vec<_>>().join("\n")
        });
    }

    /// A command, and what is left of what it printed.
    pub(crate) fn shown(
        &mut self,
        scenario: &Scenario,
        arguments: &[&str],
        left: impl Fn(&str) -> String,
    ) {
        let quoted: Vec<String> = arguments
            .iter()
            .map(|argument| match argument.contains(['{', '*']) {
                true => format!("'{argument}'"),
                false => (*argument).to_owned(),
            })
            .collect();
        self.text += &format!("\n    $ kubectl {}\n", quoted.join(" "));
        // The namespaces of the tests mean nothing to a reader.
        let printed = scenario.kubectl(arguments).replace(scenario.namespace(), "shop");
        for line in left(&printed).lines() {
            self.text += format!("    {line}").trim_end();
            self.text.push('\n');
        }
    }

    /// Compares the page with the file; writes it where the variable is set.
    pub(crate) fn compare_or_write(self, file: &str, variable: &str) {
        let now = format!("{HEAD}{}", self.text);
        if std::env::var_os(variable).is_some() {
            std::fs::write(file, now).unwrap();
            return;
        }
        let written = std::fs::read_to_string(file).unwrap();
        let (written, now) = (lasting(&written), lasting(&now));
        for (line, expected) in now.iter().zip(&written) {
            assert_eq!(line, expected, "docs/kubectl.md is of another time: make kubectl-page");
        }
        assert_eq!(now.len(), written.len(), "docs/kubectl.md: make kubectl-page");
    }
}

/// Conditions and events of what `kubectl describe` printed.
pub(crate) fn conditions_and_events(all: &str) -> String {
    let (status, events) = all.split_at(all.find("\nEvents:").unwrap_or(all.len()));
    let conditions = status.lines().skip_while(|line| *line != "  Conditions:");
    let is_inner = |line: &&str| line.starts_with("    ") || *line == "  Conditions:";
    let conditions: Vec<&str> = conditions.take_while(is_inner).collect();
    format!("{}{events}", conditions.join("\n"))
}

/// The lines without what another run has otherwise: times, sizes, ids; events in any order,
/// and as often as they may come.
fn lasting(page: &str) -> Vec<String> {
    let mut lines: Vec<String> = page.lines().map(lasting_line).collect();
    let mut from = 0;
    while let Some(events) = lines[from..].iter().position(|line| line == "Events:") {
        let begin = from + events + 1;
        let length = lines[begin..].iter().take_while(|line| !line.is_empty()).count();
        lines[begin..begin + length].sort();
        from = begin + length;
    }
    lines.dedup();
    lines
}

fn lasting_line(line: &str) -> String {
    // `(x2 over 3s)` of an event: how often it came.
    let line = match (line.find(" (x"), line.find("s) ")) {
        (Some(from), Some(to)) if from < to && line[from..to].contains(" over ") => {
            format!("{}{}", &line[..from], &line[to + 2..])
        }
        _ => line.to_owned(),
    };
    line.split_whitespace().map(lasting_word).collect::<Vec<_>>().join(" ")
}

/// A word with a digit is of its time: a size, an age, an id.
fn lasting_word(word: &str) -> String {
    let is_rule = word.len() > 1 && word.chars().all(|character| character == '-');
    if is_rule {
        return "-".to_owned();
    }
    if word.chars().any(|character| character.is_ascii_digit()) {
        "#".to_owned()
    } else {
        word.to_owned()
    }
}
