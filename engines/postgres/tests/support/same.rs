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
    // Rows of a table that is being copied.
    let mut rows: Option<Vec<String>> = None;
    for line in dump.lines() {
        if let Some(copied) = &mut rows {
            if line == "\\." {
                // A database has no order of rows.
                copied.sort();
                lines.append(copied);
                rows = None;
            } else {
                copied.push(line.to_owned());
                continue;
            }
        }
        if line.starts_with("COPY ") && line.ends_with(" FROM stdin;") {
            rows = Some(Vec::new());
        }
        // 17.12 marks columns; only a pg_dump that is as new leaves the marks out.
        if line.starts_with("-- Dumped from database version ") || line.contains(" SET (pg_attver=")
        {
            continue;
        }
        let mut line = line.to_owned();
        if crosses(16) {
            // From 16 on a view's columns are shown without their table where that is clear.
            line = without_qualifiers(&line);
        }
        if crosses(18) {
            line = without_names_of_not_null(&line);
        }
        lines.push(line);
    }
    let text = lines.join("\n");
    if target == 13 && source >= 15 { without_public(&text) } else { text }
}

/// `a.b` becomes `b`, for every plain `a`.
fn without_qualifiers(line: &str) -> String {
    let mut kept = String::new();
    for c in line.chars() {
        if c == '.' {
            let end = kept.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
            if end < kept.len() {
                kept.truncate(end);
                continue;
            }
        }
        kept.push(c);
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
    let heading = "-- Name: SCHEMA public; Type: ACL; Schema: -; Owner: ";
    let lines = dump.lines().map(|line| if line.starts_with(heading) { heading } else { line });
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
