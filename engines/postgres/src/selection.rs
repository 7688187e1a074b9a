//! Which databases of a server are meant.

use dbbackup_contract::{DatabaseSelection, Failure, Reason};

/// A database, as far as the choice depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) allows_connections: bool,
    pub(crate) is_template: bool,
    /// A restore is making it, or left it behind.
    pub(crate) is_scratch: bool,
}

/// What is done with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is backed up.
    Take,
    /// It was meant, and allows no connections: nobody can read it.
    Skip,
}

/// Chooses among `candidates`, in their order.
///
/// Templates, and what restores are making or left behind, are left out unless an
/// entry of `include` names them without wildcards: every server has its own
/// templates, and nobody's data is half of it.
///
/// # Errors
/// `DatabaseNotFound` when an entry of `include` fits nothing.
pub(crate) fn choose(
    selection: &DatabaseSelection,
    candidates: &[Candidate],
) -> Result<Vec<(usize, Choice)>, Failure> {
    let unmatched: Vec<_> = selection
        .include
        .iter()
        .filter(|glob| !candidates.iter().any(|database| fits(glob, &database.name)))
        .map(|glob| format!("{glob:?}"))
        .collect();
    if !unmatched.is_empty() {
        return Err(Failure::new(
            Reason::DatabaseNotFound,
            format!("the server has no database {}", unmatched.join(", ")),
        ));
    }
    let included = |database: &Candidate| {
        if database.is_template || database.is_scratch {
            return selection.include.contains(&database.name);
        }
        selection.include.is_empty()
            || selection.include.iter().any(|glob| fits(glob, &database.name))
    };
    let excluded =
        |database: &Candidate| selection.exclude.iter().any(|glob| fits(glob, &database.name));
    let chosen = candidates.iter().enumerate().filter(|(_, d)| included(d) && !excluded(d));
    Ok(chosen
        .map(|(index, d)| (index, if d.allows_connections { Choice::Take } else { Choice::Skip }))
        .collect())
}

/// Whether `name` fits `glob`: `*` is anything, `?` one character, all else literal.
fn fits(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some('*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match star {
                // The last star takes one character more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (g, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Vec<Candidate> {
        let plain = |name: &str| Candidate {
            name: name.to_owned(),
            allows_connections: true,
            is_template: false,
            is_scratch: false,
        };
        vec![
            plain("crm"),
            Candidate { is_scratch: true, ..plain("dbb_left") },
            Candidate { allows_connections: false, ..plain("locked") },
            plain("postgres"),
            plain("shop"),
            plain("shop_test"),
            Candidate { allows_connections: false, is_template: true, ..plain("template0") },
            Candidate { is_template: true, ..plain("template1") },
        ]
    }

    fn chosen(include: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let selection = DatabaseSelection { include: owned(include), exclude: owned(exclude) };
        let server = server();
        let chosen = choose(&selection, &server).unwrap();
        chosen
            .iter()
            .map(|(index, choice)| {
                let mark = if *choice == Choice::Skip { "-" } else { "" };
                format!("{mark}{}", server[*index].name)
            })
            .collect()
    }

    #[test]
    fn nothing_said_means_all_but_templates_and_what_restores_left() {
        assert_eq!(chosen(&[], &[]), ["crm", "-locked", "postgres", "shop", "shop_test"]);
    }

    #[test]
    fn exclusions_come_after_inclusions() {
        assert_eq!(chosen(&["shop*"], &["*_test"]), ["shop"]);
        assert_eq!(chosen(&["?rm", "s*p"], &[]), ["crm", "shop"]);
        assert_eq!(chosen(&["template1"], &[]), ["template1"]);
        assert_eq!(chosen(&["dbb_left"], &[]), ["dbb_left"]);
        assert_eq!(chosen(&["*"], &["p*"]), ["crm", "-locked", "shop", "shop_test"]);
    }

    #[test]
    fn an_inclusion_that_fits_nothing_is_refused() {
        let selection =
            DatabaseSelection { include: vec!["sh?p".into(), "shpo".into()], exclude: vec![] };
        let failure = choose(&selection, &server()).unwrap_err();
        assert_eq!(failure.reason, Reason::DatabaseNotFound);
        assert_eq!(failure.message, "the server has no database \"shpo\"");
    }

    #[test]
    fn globs_are_literal_but_for_two_signs() {
        assert!(fits("a*b*c", "aXbYbZc") && !fits("a*b*c", "aXbYbZ"));
        assert!(fits("[x]", "[x]") && !fits("[x]", "x"));
        assert!(fits("**", "") && !fits("?", "") && fits("größe?", "größe1"));
    }
}
