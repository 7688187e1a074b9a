//! Prints the page about all fields: `make generate` writes it to `docs/reference.md`.

fn main() {
    #[allow(clippy::print_stdout)] // The page is this program's output.
    {
        print!("{}", dbbackup_crds::reference_page());
    }
}
