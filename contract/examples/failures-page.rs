//! Prints the page about failures: `make generate` writes it to `docs/failures.md`.

fn main() {
    #[allow(clippy::print_stdout)] // The page is this program's output.
    {
        print!("{}", dbbackup_contract::failures_page());
    }
}
