//! A server's words about somebody's data, without the data.
//!
//! The server's primary message is short and, mostly, about names. But of some
//! kinds of errors it quotes the value that it could not take: `invalid input
//! syntax for type integer: "secret"`. A status is read by more people than a
//! table.

/// Quotes of every language that the server speaks.
const QUOTES: &[char] =
    &['"', '«', '»', '„', '“', '”', '‟', '「', '」', '『', '』', '‹', '›', '‚', '‘', '’'];

/// What stands for what was left out.
const LEFT_OUT: &str = "…";
/// What stands for words that may be anything.
const RAISED: &str = "a function of the database raised an error of its own";

/// Classes of the SQLSTATE whose messages speak of names, limits and states.
const ABOUT_NAMES: [&str; 27] = [
    "01", "03", "08", "09", "0A", "0L", "0P", "25", "26", "28", "2B", "2D", "34", "39", "3B", "3D",
    "3F", "40", "42", "44", "53", "54", "55", "57", "58", "72", "F0",
];

/// What raises errors for functions in PL/pgSQL (`pl_exec.c`), PL/Python (`plpy_*.c`),
/// PL/Perl (`plperl.c`) and PL/Tcl (`pltcl.c`), with the code that they like.
const RAISERS: [&str; 4] = ["exec_stmt_raise", "PLy_", "plperl_", "pltcl_"];

/// Whether a function of the database has raised what comes from this `routine` of the server.
pub(super) fn is_raised_by(routine: &str) -> bool {
    RAISERS.iter().any(|raiser| routine.starts_with(raiser))
}

/// An error of the server, as far as its words depend on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerWords<'a> {
    /// SQLSTATE.
    pub(crate) code: &'a str,
    /// The primary message.
    pub(crate) text: &'a str,
    /// The message may go on after `text`: it had another line, or was cut.
    pub(crate) goes_on: bool,
    /// What may stand in quotes: names of the objects that the error is about.
    pub(crate) names: Vec<&'a str>,
    /// A function of the database raised it, whatever its code says.
    pub(crate) raised: bool,
}

impl ServerWords<'_> {
    /// The message without what may be a value.
    ///
    /// By the class of the SQLSTATE (PostgreSQL's documentation, appendix A):
    /// class 22 (data exception) quotes values; class 23 (integrity constraint)
    /// quotes names, which the error has in fields of their own as well. In classes
    /// HV and XX a foreign server or an extension may speak. The classes of
    /// [`ABOUT_NAMES`] speak of names. Any other, P0 and 38 among them, is raised by
    /// functions of the database in words of their own, which may be anything.
    pub(crate) fn without_values(&self) -> String {
        match self.code.get(..2) {
            _ if self.raised => RAISED.to_owned(),
            Some("22" | "23" | "HV" | "XX") => self.without_quoted(),
            Some(class) if ABOUT_NAMES.contains(&class) => self.text.to_owned(),
            _ => RAISED.to_owned(),
        }
    }

    /// Leaves out what is quoted, but for the names.
    ///
    /// A value may hold quotes itself. Only a message with exactly two of them
    /// (that are not a name's) has exactly one value between them; of any other
    /// all from the first one on is left out.
    fn without_quoted(&self) -> String {
        let quotes = self.quotes_of_values();
        let behind =
            |index: usize| index + self.text[index..].chars().next().map_or(0, char::len_utf8);
        let text = match *quotes.as_slice() {
            [] => self.text.to_owned(),
            [first, last] if !self.goes_on => {
                format!("{}{LEFT_OUT}{}", &self.text[..first], &self.text[behind(last)..])
            }
            [first, ..] => format!("{}{LEFT_OUT}", &self.text[..first]),
        };
        without_bytes(&text)
    }

    /// Where quotes stand that enclose none of the names.
    fn quotes_of_values(&self) -> Vec<usize> {
        let mut quotes = Vec::new();
        let mut at = 0;
        while let Some(found) = self.text[at..].find(QUOTES) {
            let start = at + found;
            let inside = start + self.text[start..].chars().next().map_or(0, char::len_utf8);
            let name = self.names.iter().filter(|name| !name.is_empty()).find(|name| {
                let rest = self.text[inside..].strip_prefix(**name);
                rest.is_some_and(|rest| rest.starts_with(QUOTES))
            });
            at = match name {
                // Within what looks like a value nothing is believed to be a name.
                Some(name) if quotes.len() % 2 == 0 => {
                    let closing = inside + name.len();
                    closing + self.text[closing..].chars().next().map_or(0, char::len_utf8)
                }
                _ => {
                    quotes.push(start);
                    inside
                }
            };
        }
        quotes
    }
}

/// Leaves out bytes that the server shows as numbers: `0xe2 0x28 0xa1`.
fn without_bytes(text: &str) -> String {
    let is_byte = |word: &str| {
        word.strip_prefix("0x").is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
    };
    let words = text.split(' ').map(|word| if is_byte(word) { LEFT_OUT } else { word });
    let mut kept: Vec<&str> = words.collect();
    kept.dedup_by(|next, before| *next == LEFT_OUT && *before == LEFT_OUT);
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(code: &str, text: &str, names: &[&str]) -> String {
        ServerWords { code, text, names: names.to_vec(), ..ServerWords::default() }.without_values()
    }

    #[test]
    fn values_are_left_out_and_names_stay() {
        let table: &[(&str, &str, &[&str], &str)] = &[
            (
                "22P02",
                "invalid input syntax for type integer: \"secret\"",
                &[],
                "invalid input syntax for type integer: …",
            ),
            (
                "22003",
                "value \"99999999999\" is out of range for type integer",
                &[],
                "value … is out of range for type integer",
            ),
            (
                "22P02",
                "invalid input syntax for type integer: \"a\"b\"",
                &[],
                "invalid input syntax for type integer: …",
            ),
            (
                "22P02",
                "invalid input syntax for type integer: \"a\" secret \"b\"",
                &[],
                "invalid input syntax for type integer: …",
            ),
            (
                "22P02",
                "ungültige Eingabesyntax für Typ integer: »geheim«",
                &[],
                "ungültige Eingabesyntax für Typ integer: …",
            ),
            (
                "22P02",
                "syntaxe en entrée invalide pour le type integer : « secret »",
                &[],
                "syntaxe en entrée invalide pour le type integer : …",
            ),
            (
                "22021",
                "invalid byte sequence for encoding \"UTF8\": 0xe2 0x28 0xa1",
                &[],
                "invalid byte sequence for encoding …: …",
            ),
            ("22012", "division by zero", &[], "division by zero"),
            (
                "23505",
                "duplicate key value violates unique constraint \"t_pkey\"",
                &["public", "t", "t_pkey"],
                "duplicate key value violates unique constraint \"t_pkey\"",
            ),
            (
                "23502",
                "null value in column \"a\" of relation \"t\" violates not-null constraint",
                &["t", "a"],
                "null value in column \"a\" of relation \"t\" violates not-null constraint",
            ),
            ("23514", "bad value \"secret\" in \"t\"", &["t"], "bad value … in \"t\""),
            ("23514", "bad value \"x\"t\"y\"", &["t"], "bad value …"),
            (
                "P0001",
                "the mail of secret@example.org is wrong",
                &[],
                "a function of the database raised an error of its own",
            ),
            (
                "UE001",
                "the mail of secret@example.org is wrong",
                &[],
                "a function of the database raised an error of its own",
            ),
            ("XX000", "cache lookup failed for type 7", &[], "cache lookup failed for type 7"),
            ("XX000", "an extension says \"secret\"", &[], "an extension says …"),
            (
                "42P01",
                "relation \"nosuch\" does not exist",
                &[],
                "relation \"nosuch\" does not exist",
            ),
        ];
        for (code, text, names, expected) in table {
            assert_eq!(shown(code, text, names), *expected, "{code} {text}");
        }
    }

    #[test]
    fn what_goes_on_elsewhere_is_left_out_from_its_beginning() {
        // The value "a"b followed by a line break has two quotes on its first line.
        let text = "invalid input syntax for type integer: \"a\"b";
        let words = ServerWords { code: "22P02", text, goes_on: true, ..ServerWords::default() };
        assert_eq!(words.without_values(), "invalid input syntax for type integer: …");
        let words = ServerWords { code: "23514", text: "secret", raised: true, ..words };
        assert_eq!(words.without_values(), RAISED);
    }

    proptest::proptest! {
        #[test]
        fn no_value_is_ever_shown(value in "[a-z\"«» ]{0,12}SECRET[a-z\"«» ]{0,12}") {
            for text in [
                format!("invalid input syntax for type integer: \"{value}\""),
                format!("value \"{value}\" is out of range for type integer"),
                format!("invalid input value for enum \"mood\": \"{value}\""),
            ] {
                proptest::prop_assert!(!shown("22P02", &text, &[]).contains("SECRET"));
            }
        }
    }
}
