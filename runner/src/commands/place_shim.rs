//! `place-shim`: puts the program that starts a recovered server into the folder that the server's
//! container shares with the runner's. The runner's image has no shell that could copy it.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dbbackup_contract::{ExitCode, Failure, Reason};

use crate::cli::PlaceShimArgs;

/// It is run by whatever user the server's container has, and changed by nobody.
const MODE: u32 = 0o555;

pub(super) fn place_shim(args: &PlaceShimArgs) -> Result<ExitCode, Failure> {
    place(&args.from, &args.to).map_err(|error| {
        let (from, to) = (args.from.display(), args.to.display());
        Failure::new(Reason::LocalFileError, format!("cannot copy {from} to {to}: {error}"))
    })?;
    tracing::info!(to = %args.to.display(), "the program for the server's container is in its place");
    Ok(ExitCode::Success)
}

/// Copies beside the target first: it is there whole, or not at all, and one that runs is never
/// written to.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    let draft = to.with_extension("new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut source = std::fs::File::open(from)?;
    let mut copy = std::fs::File::create_new(&draft)?;
    io::copy(&mut source, &mut copy)?;
    copy.set_permissions(std::fs::Permissions::from_mode(MODE))?;
    drop(copy);
    std::fs::rename(&draft, to)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_program_takes_the_place_of_an_older_one_and_of_a_half_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("dbbackup-shim"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        fs::write(folder.path().join("dbbackup-shim.new"), "half of one").unwrap();
        for _ in 0..2 {
            let args = PlaceShimArgs { from: from.clone(), to: to.clone() };
            assert_eq!(place_shim(&args).unwrap(), ExitCode::Success);
            assert_eq!((fs::read_to_string(&to).unwrap(), mode(&to)), ("new".to_owned(), 0o555));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_program_that_is_not_there_leaves_the_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("dbbackup-shim");
        fs::write(&to, "old").unwrap();
        let args = PlaceShimArgs { from: folder.path().join("none"), to: to.clone() };
        let failure = place_shim(&args).unwrap_err();
        assert_eq!(failure.reason, Reason::LocalFileError);
        assert!(failure.message.contains("none"), "{failure}");
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
    }
}
