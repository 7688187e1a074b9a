//! Where the statements of an archive name roles: privileges, default privileges, policies and
//! user mappings. Nothing is looked for in expressions and bodies of functions.
//!
//! Source of their form: `buildACLCommands` and `buildDefaultACLCommands` in `dumputils.c`,
//! `dumpPolicy` and `dumpUserMappings` in `pg_dump.c`.

use std::ops::Range;

use super::ArchiveError;
use super::prelude::Entry;
use super::words::{Word, Words};
use crate::sql::ident;

/// What becomes of the roles of an entry.
pub(super) trait Roles {
    /// The role that stands for this one; `None` where nothing is to be done about it.
    fn becomes(&mut self, role: &str) -> Option<String>;

    /// Whether it stays said who has granted something; else the owner grants it.
    fn keeps_grantors(&self) -> bool;
}

/// What became of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It names no role.
    Same,
    /// It is this.
    To(Vec<u8>),
    /// Nothing of it is left.
    Gone,
}

/// Puts other roles in the place of those that the definition of `entry` names.
///
/// # Errors
/// `Unsupported` where `pg_dump` never wrote such a thing.
pub(super) fn change_roles(
    entry: &Entry<'_>,
    roles: &mut dyn Roles,
) -> Result<Changed, ArchiveError> {
    let text = entry.definition;
    let changed = match entry.description.as_str() {
        "ACL" | "ACL LANGUAGE" | "DEFAULT ACL" => privileges(text, roles),
        "POLICY" => policy(text, roles),
        "USER MAPPING" => user_mapping(text, roles).map(|changed| changed.0),
        _ => return Ok(Changed::Same),
    };
    changed.ok_or_else(|| {
        let tag = String::from_utf8_lossy(entry.tag);
        let what = entry.description.to_lowercase();
        ArchiveError::Unsupported(format!("written in a way that is not known: {what} of {tag}"))
    })
}

/// The role and the server of a user mapping, as it becomes.
pub(super) fn mapped_user(definition: &[u8], roles: &mut dyn Roles) -> Option<(String, String)> {
    user_mapping(definition, roles)?.1
}

/// Pieces of a text that become others.
#[derive(Default)]
struct Edits(Vec<(Range<usize>, Vec<u8>)>);

impl Edits {
    fn replace(&mut self, word: &Word<'_>, role: &str) {
        self.0.push((word.at.clone(), ident(role).into_bytes()));
    }

    /// `text[range]` with the edits in it.
    fn apply(&self, text: &[u8], range: Range<usize>, out: &mut Vec<u8>) {
        let mut position = range.start;
        for (at, new) in &self.0 {
            out.extend_from_slice(&text[position..at.start]);
            out.extend_from_slice(new);
            position = at.end;
        }
        out.extend_from_slice(&text[position..range.end]);
    }
}

/// A name of a role, or everybody.
fn is_everybody(word: &Word<'_>) -> bool {
    word.is("PUBLIC")
}

fn privileges(text: &[u8], roles: &mut dyn Roles) -> Option<Changed> {
    let mut out = Vec::with_capacity(text.len());
    let (mut start, mut any, mut grantor) = (0, false, None);
    let mut words = Vec::new();
    for word in Words::of(text) {
        if !word.is_sign(b';') {
            words.push(word);
            continue;
        }
        let end = word.at.end;
        if let Some((edits, grants)) = privilege(&words, &mut grantor, roles)? {
            edits.apply(text, start..end, &mut out);
            any |= grants;
        }
        (start, words) = (end, Vec::new());
    }
    if !words.is_empty() {
        return None;
    }
    out.extend_from_slice(&text[start..]);
    Some(if any { Changed::To(out) } else { Changed::Gone })
}

/// The edits of one statement, and whether it does more than to say who grants; `Some(None)`
/// where it is left out, `None` where it is not of a known form.
#[allow(clippy::option_option, reason = "not known, and left out, are two things")]
fn privilege(
    words: &[Word<'_>],
    grantor: &mut Option<String>,
    roles: &mut dyn Roles,
) -> Option<Option<(Edits, bool)>> {
    let mut edits = Edits::default();
    let begins = |keywords: &[&str]| {
        words.len() >= keywords.len() && words.iter().zip(keywords).all(|(word, it)| word.is(it))
    };
    if begins(&["RESET", "SESSION", "AUTHORIZATION"]) {
        *grantor = None;
        return Some(roles.keeps_grantors().then_some((edits, false)));
    }
    if begins(&["SET", "SESSION", "AUTHORIZATION"]) {
        let word = words.get(3).filter(|_| words.len() == 4)?;
        if !roles.keeps_grantors() {
            return Some(None);
        }
        let role = roles.becomes(&word.name()?)?;
        edits.replace(word, &role);
        *grantor = Some(role);
        return Some(Some((edits, false)));
    }
    let mut rest = words;
    if begins(&["ALTER", "DEFAULT", "PRIVILEGES", "FOR", "ROLE"]) {
        let word = words.get(5)?;
        let Some(role) = roles.becomes(&word.name()?) else { return Some(None) };
        edits.replace(word, &role);
        rest = &words[6..];
        if let [first, second, _, after @ ..] = rest
            && first.is("IN")
            && second.is("SCHEMA")
        {
            rest = after;
        }
    }
    let (grants, before) = match rest.first()? {
        word if word.is("GRANT") => (true, "TO"),
        word if word.is("REVOKE") => (false, "FROM"),
        _ => return None,
    };
    let word = grantee(rest, before)?;
    if is_everybody(word) {
        return Some(Some((edits, true)));
    }
    let Some(role) = roles.becomes(&word.name()?) else { return Some(None) };
    if grants && grantor.as_ref() == Some(&role) {
        // Two roles have become one: it has what it would give itself.
        return Some(None);
    }
    edits.replace(word, &role);
    Some(Some((edits, true)))
}

/// The last word but for `WITH GRANT OPTION`, where `before` stands before it.
fn grantee<'a, 't>(words: &'a [Word<'t>], before: &str) -> Option<&'a Word<'t>> {
    let words = match words {
        [rest @ .., with, grant, option]
            if with.is("WITH") && grant.is("GRANT") && option.is("OPTION") =>
        {
            rest
        }
        _ => words,
    };
    match words {
        [.., keyword, role] if keyword.is(before) => Some(role),
        _ => None,
    }
}

/// `CREATE POLICY name ON table [AS …] [FOR …] [TO role, …] [USING …] [WITH CHECK …]`.
fn policy(text: &[u8], roles: &mut dyn Roles) -> Option<Changed> {
    let mut words = Words::of(text).peekable();
    let mut expect = |keyword: &str| words.next().filter(|word| word.is(keyword));
    expect("CREATE")?;
    expect("POLICY")?;
    words.next()?.name()?;
    words.next().filter(|word| word.is("ON"))?;
    words.next()?.name()?;
    if words.next_if(|word| word.is_sign(b'.')).is_some() {
        words.next()?.name()?;
    }
    for keyword in ["AS", "FOR"] {
        if words.next_if(|word| word.is(keyword)).is_some() {
            words.next()?.name()?;
        }
    }
    if words.next_if(|word| word.is("TO")).is_none() {
        return Some(Changed::Same);
    }
    let (mut names, mut range) = (Vec::new(), None::<Range<usize>>);
    loop {
        let word = words.next()?;
        let name = word.name()?;
        let new = if is_everybody(&word) {
            Some("PUBLIC".to_owned())
        } else {
            roles.becomes(&name).as_deref().map(ident)
        };
        // Two roles may have become one.
        names.extend(new.filter(|new| !names.contains(new)));
        let start = range.map_or(word.at.start, |range| range.start);
        range = Some(start..word.at.end);
        if words.next_if(|word| word.is_sign(b',')).is_none() {
            break;
        }
    }
    if names.is_empty() {
        return Some(Changed::Gone);
    }
    let mut out = Vec::with_capacity(text.len());
    let edits = Edits(vec![(range?, names.join(", ").into_bytes())]);
    edits.apply(text, 0..text.len(), &mut out);
    Some(Changed::To(out))
}

/// `CREATE USER MAPPING FOR role SERVER name …`, and its role and server.
fn user_mapping(text: &[u8], roles: &mut dyn Roles) -> Option<(Changed, Option<(String, String)>)> {
    let mut words = Words::of(text);
    for keyword in ["CREATE", "USER", "MAPPING", "FOR"] {
        words.next().filter(|word| word.is(keyword))?;
    }
    let word = words.next()?;
    words.next().filter(|word| word.is("SERVER"))?;
    let server = words.next()?.name()?;
    if is_everybody(&word) {
        return Some((Changed::Same, None));
    }
    let Some(role) = roles.becomes(&word.name()?) else { return Some((Changed::Gone, None)) };
    let (mut edits, mut out) = (Edits::default(), Vec::with_capacity(text.len()));
    edits.replace(&word, &role);
    edits.apply(text, 0..text.len(), &mut out);
    Some((Changed::To(out), Some((role, server))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Renamed {
        map: BTreeMap<&'static str, Option<&'static str>>,
        grantors: bool,
    }

    impl Roles for Renamed {
        fn becomes(&mut self, role: &str) -> Option<String> {
            match self.map.get(role) {
                Some(new) => new.map(str::to_owned),
                None => Some(role.to_owned()),
            }
        }

        fn keeps_grantors(&self) -> bool {
            self.grantors
        }
    }

    fn roles(grantors: bool) -> Renamed {
        let map = [("a", Some("x;\"y")), ("A b", Some("x")), ("c", Some("x")), ("gone", None)];
        Renamed { map: map.into(), grantors }
    }

    fn shown(changed: Option<Changed>) -> String {
        match changed {
            Some(Changed::To(text)) => String::from_utf8(text).unwrap(),
            other => format!("{other:?}"),
        }
    }

    fn given(text: &str) -> String {
        shown(privileges(text.as_bytes(), &mut roles(true)))
    }

    #[test]
    fn a_privilege_is_given_to_another_and_what_is_named_alike_stays() {
        assert_eq!(
            given("GRANT SELECT(a),ALL(\"A b\") ON TABLE a.a TO a WITH GRANT OPTION;\n"),
            "GRANT SELECT(a),ALL(\"A b\") ON TABLE a.a TO \"x;\"\"y\" WITH GRANT OPTION;\n"
        );
        assert_eq!(
            given(
                "REVOKE ALL ON FUNCTION s.\"f TO a; FROM\"(a integer) FROM PUBLIC;\nGRANT ALL ON SCHEMA a TO \"A b\";\n"
            ),
            "REVOKE ALL ON FUNCTION s.\"f TO a; FROM\"(a integer) FROM PUBLIC;\nGRANT ALL ON SCHEMA a TO \"x\";\n"
        );
    }

    #[test]
    fn who_grants_is_another_too_and_nobody_gives_to_itself() {
        let text = "SET SESSION AUTHORIZATION \"A b\";\nGRANT SELECT ON TABLE t TO c;\n\
                    GRANT SELECT ON TABLE t TO d;\nRESET SESSION AUTHORIZATION;\n";
        assert_eq!(
            given(text),
            "SET SESSION AUTHORIZATION \"x\";\nGRANT SELECT ON TABLE t TO \"d\";\nRESET SESSION AUTHORIZATION;\n"
        );
        assert_eq!(
            shown(privileges(text.as_bytes(), &mut roles(false))),
            "\nGRANT SELECT ON TABLE t TO \"x\";\nGRANT SELECT ON TABLE t TO \"d\";\n"
        );
    }

    #[test]
    fn default_privileges_are_of_another_and_for_another() {
        assert_eq!(
            given(
                "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA a REVOKE ALL ON TABLES FROM a;\nALTER DEFAULT PRIVILEGES FOR ROLE c GRANT ALL ON TYPES TO d;\n"
            ),
            "ALTER DEFAULT PRIVILEGES FOR ROLE \"x;\"\"y\" IN SCHEMA a REVOKE ALL ON TABLES FROM \"x;\"\"y\";\nALTER DEFAULT PRIVILEGES FOR ROLE \"x\" GRANT ALL ON TYPES TO \"d\";\n"
        );
        assert_eq!(
            given("ALTER DEFAULT PRIVILEGES FOR ROLE gone GRANT ALL ON TYPES TO d;\n"),
            "Some(Gone)"
        );
    }

    #[test]
    fn what_is_of_no_known_form_is_refused() {
        for text in [
            "GRANT a TO b;\nDROP TABLE x;",
            "GRANT ALL ON TABLE t TO a CASCADE;",
            "GRANT ALL ON TABLE t TO a",
            "SET SESSION AUTHORIZATION;",
            "SET SESSION AUTHORIZATION a b;",
            "ALTER DEFAULT PRIVILEGES FOR ROLE;",
            ";",
        ] {
            assert_eq!(privileges(text.as_bytes(), &mut roles(true)), None, "{text}");
        }
        assert_eq!(policy(b"CREATE POLICY p ON t TO", &mut roles(true)), None);
        assert_eq!(policy(b"ALTER POLICY p ON t TO a", &mut roles(true)), None);
        assert!(user_mapping(b"CREATE USER MAPPING FOR a", &mut roles(true)).is_none());
    }

    #[test]
    fn a_policy_is_for_others_and_its_expression_stays() {
        let given = |text: &str| shown(policy(text.as_bytes(), &mut roles(true)));
        assert_eq!(
            given(
                "CREATE POLICY \"TO a\" ON a.a AS RESTRICTIVE FOR UPDATE TO a, \"A b\", c, gone USING ((a = 'a TO a'::name));\n"
            ),
            "CREATE POLICY \"TO a\" ON a.a AS RESTRICTIVE FOR UPDATE TO \"x;\"\"y\", \"x\" USING ((a = 'a TO a'::name));\n"
        );
        assert_eq!(given("CREATE POLICY a ON a USING (a TO a);\n"), "Some(Same)");
        assert_eq!(given("CREATE POLICY p ON t TO gone;\n"), "Some(Gone)");
    }

    #[test]
    fn a_user_mapping_is_of_another() {
        let text = "CREATE USER MAPPING FOR a SERVER \"a\" OPTIONS (\n    password 'a'\n);\n";
        let (changed, mapped) = user_mapping(text.as_bytes(), &mut roles(true)).unwrap();
        assert_eq!(shown(Some(changed)), text.replacen("FOR a", "FOR \"x;\"\"y\"", 1));
        assert_eq!(mapped, Some(("x;\"y".into(), "a".into())));
        let everybody = b"CREATE USER MAPPING FOR public SERVER s;\n";
        assert_eq!(user_mapping(everybody, &mut roles(true)), Some((Changed::Same, None)));
    }
}
