//! The comparison of databases on servers of different majors.
//!
//! One `pg_dump`, the newest, looks at both sides. What one and the same
//! database shows differently on two majors is known and listed here, each with
//! its reason; anything else is a difference.

use std::path::PathBuf;

use super::TestServer;
use super::nasty::similar_asserts;
use super::server::debian_clients;

/// The clients that look at both sides.
fn newest() -> PathBuf {
    debian_clients(18).join("18/bin")
}

/// Panics where `pg_dump -C` of `database` tells two stories.
pub fn assert_same_database(source: &TestServer, target: &TestServer, database: &str) {
    let majors = (source.major, target.major);
    let [left, right] =
        [source, target].map(|server| shown(&server.dump_by(&newest(), database), majors));
    similar_asserts(&left, &right);
}

/// Panics where `pg_dumpall --roles-only` tells two stories.
pub fn assert_same_roles(source: &TestServer, target: &TestServer) {
    let before_16 = source.major.min(target.major) < 16;
    let [left, right] =
        [source, target].map(|server| shown_roles(&server.roles_by(&newest()), before_16));
    similar_asserts(&left, &right);
}

fn shown(dump: &str, (source, target): (u32, u32)) -> String {
    let crosses = |major| (source < major) != (target < major);
    let mut lines = Vec::new();
    for line in without_column_marks(dump).lines() {
        if line.starts_with("-- Dumped from database version ") {
            continue;
        }
        // Only 14 and later name the multirange of a range.
        if crosses(14) && line.starts_with("    multirange_type_name = ") {
            continue;
        }
        let mut line = line.to_owned();
        if crosses(14) && line.contains("PROCEDURE ") {
            // Before 14 a procedure had no other plain arguments than these.
            line = line.replace("(IN ", "(").replace(", IN ", ", ");
        }
        if crosses(18) {
            line = without_names_of_not_null(&line);
            // What is not said is the server's default, which is another one from 18 on.
            line = line.replace(", streaming = off", "").replace(", streaming = parallel", "");
        }
        if crosses(16) {
            // Before 16 every subscription did so, and only 16 and later say it.
            line = line.replace(", run_as_owner = true", "");
        }
        if crosses(17) {
            // From 17 on there is one more, MAINTAIN, and ALL means it too.
            line = line.replace("SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE", "ALL");
        }
        lines.push(line);
    }
    let mut text = lines.join("\n");
    if crosses(16) {
        // From 16 on a view's columns are shown without their table where that is clear.
        text = map_views(&text, without_qualifiers);
    }
    if target == 13 && source >= 15 { without_public(&text) } else { text }
}

/// 17.12 marks columns among their options; only a `pg_dump` that is as new leaves the marks out.
fn without_column_marks(dump: &str) -> String {
    const MARK: &str = " SET (pg_attver=";
    let mut kept = String::new();
    let mut rest = dump;
    while let Some((before, after)) = rest.split_once(MARK) {
        let (options, after) = after.split_once(");\n").unwrap();
        kept.push_str(before);
        match options.split_once(", ") {
            Some((_, others)) => kept.push_str(&format!(" SET ({others});\n")),
            None => {
                let begins = ["ALTER TABLE ONLY ", "ALTER FOREIGN TABLE ONLY "];
                let begin = begins.iter().filter_map(|begins| kept.rfind(begins)).max();
                kept.truncate(begin.unwrap());
            }
        }
        rest = after;
    }
    kept + rest
}

/// Changes the definitions of views, and nothing else.
fn map_views(dump: &str, change: impl Fn(&str) -> String) -> String {
    let (mut shown, mut view) = (String::new(), None::<String>);
    for line in dump.split_inclusive('\n') {
        let begins = ["CREATE VIEW ", "CREATE OR REPLACE VIEW ", "CREATE MATERIALIZED VIEW "];
        if begins.iter().any(|begins| line.starts_with(begins)) {
            view = Some(String::new());
        }
        let ends = line.ends_with(";\n");
        match &mut view {
            Some(view) => view.push_str(line),
            None => shown.push_str(line),
        }
        if ends && let Some(view) = view.take() {
            shown.push_str(&change(&view));
        }
    }
    shown + view.as_deref().unwrap_or_default()
}

/// `a.b` becomes `b`, and `"a".b` too.
fn without_qualifiers(text: &str) -> String {
    let mut kept = String::new();
    let mut name = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let start = kept.len();
        if c == '.'
            && let Some(start) = name.take()
        {
            kept.truncate(start);
            continue;
        }
        kept.push(c);
        name = match c {
            '"' | '\'' => {
                while let Some(inner) = chars.next() {
                    kept.push(inner);
                    if inner == c && chars.next_if_eq(&c).map(|twice| kept.push(twice)).is_none() {
                        break;
                    }
                }
                (c == '"').then_some(start)
            }
            c if c.is_alphanumeric() || c == '_' => name.or(Some(start)),
            _ => None,
        };
    }
    kept
}

/// Only 18 has names for them.
fn without_names_of_not_null(line: &str) -> String {
    match (line.find(" CONSTRAINT "), line.find(" NOT NULL")) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &line[..start], &line[end..]),
        _ => line.to_owned(),
    }
}

/// 13 has no role for whoever owns the database: there its schema `public` is that owner's own.
fn without_public(dump: &str) -> String {
    let own = "--\n-- Name: public; Type: SCHEMA; Schema: -; Owner: nasty_owner\n--\n\n\
               -- *not* creating schema, since initdb creates it\n\n\n\
               ALTER SCHEMA public OWNER TO nasty_owner;\n\n";
    let dump = dump.replacen(own, "", 1);
    let headings = ["ACL", "COMMENT"]
        .map(|of| format!("-- Name: SCHEMA public; Type: {of}; Schema: -; Owner: "));
    let heading_of =
        |line: &str| headings.iter().find(|heading| line.starts_with(*heading)).cloned();
    let lines = dump.lines().map(|line| heading_of(line).unwrap_or_else(|| line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

fn shown_roles(roles: &str, before_16: bool) -> String {
    // Each server's superuser is its own.
    let lines = roles.lines().filter(|line| !line.contains(" ROLE postgres") && !line.is_empty());
    let lines = lines.map(|line| {
        if !before_16 {
            return line.to_owned();
        }
        // What a membership before 16 is, in the words of 16.
        let line = line.replace(", INHERIT TRUE", "").replace(" WITH INHERIT TRUE", "");
        line.replace(" GRANTED BY postgres", "")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A dump without what changes from one to the next although nothing else does:
/// the keys of its lock, and the order of rows.
pub fn comparable(dump: &str) -> String {
    let key = |line: &&str| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ");
    let mut lines: Vec<_> = dump.lines().filter(key).collect();
    sort_rows(&mut lines);
    lines.join("\n")
}

/// A table has no order of rows: what is loaded fills the gaps of its pages.
fn sort_rows(lines: &mut [&str]) {
    let mut rows = None;
    for at in 0..lines.len() {
        match rows {
            None if lines[at].starts_with("COPY ") && lines[at].ends_with(" FROM stdin;") => {
                rows = Some(at + 1);
            }
            Some(first) if lines[at] == "\\." => {
                lines[first..at].sort_unstable();
                rows = None;
            }
            _ => {}
        }
    }
}
