//! The page about failures and exit codes, written from the tables.

use std::fmt::Write as _;

use crate::{ErrorClass, ExitCode, Reason};

/// The page as Markdown: `docs/failures.md`.
#[must_use]
pub fn failures_page() -> String {
    let mut page = String::from(
        "<!-- Written by `make generate` from contract/src/reason.rs; do not edit. -->\n\
         # Failures\n\n\
         Every failure has a stable *reason*: statuses, events, metrics and the runner's messages use the\n\
         same one. A *retryable* failure is tried again by itself; a *fatal* one waits for somebody. A case\n\
         may carry a hint that fits it better than the general one shown here.\n\n\
         | reason | meaning | class | exit code | what to do |\n|---|---|---|---|---|\n",
    );
    for entry in Reason::TABLE {
        let reason = entry.reason;
        let code = match reason.class() {
            ErrorClass::Retryable => ExitCode::Retryable,
            _ => reason.exit_code(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{reason}` | {} | {:?} | {} | {} |",
            entry.meaning.trim(),
            reason.class(),
            code.code(),
            reason.hint().replace('|', "\\|"),
        );
    }
    page.push_str(
        "\n## Exit codes of the runner\n\n\
         Codes 64–79 are permanent: a Job does not try again. A signal's code (137, 143) is none of ours.\n\n\
         | code | meaning |\n|---|---|\n",
    );
    for code in ExitCode::ALL {
        let _ = writeln!(page, "| {} | {} |", code.code(), code.meaning());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_failures_is_what_the_tables_say() {
        let committed = include_str!("../../docs/failures.md");
        assert!(
            committed == failures_page(),
            "docs/failures.md is out of date: run `make generate`"
        );
    }
}
