//! Where a server's program lies in an image that nobody here has made.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbbackup_shim::{FromShim, line_text};

use crate::version::{major, version};

/// How long all programs that are found may take to say their versions.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most folders that are looked into: an answer has to fit a message.
const MOST_FOLDERS: usize = 64;
/// Most bytes of what an answer says of one of them.
const MOST_BYTES: usize = 512;
/// Where programs are, where nobody has set `PATH` (environ(7)).
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The answer to the question for a program, of this major version rather than another.
pub(crate) fn find(program: &str, wanted: Option<u32>) -> FromShim {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(usual_folders(Path::new("/")));
    find_in(folders, program, wanted)
}

fn find_in(folders: Vec<PathBuf>, program: &str, wanted: Option<u32>) -> FromShim {
    let until = Instant::now() + PATIENCE;
    let (mut seen, mut tried) = (Vec::new(), Vec::new());
    let mut found = None;
    for folder in folders {
        // A relative folder would be another one for whoever starts the program.
        if !folder.is_absolute() || seen.contains(&folder) || seen.len() >= MOST_FOLDERS {
            continue;
        }
        let (path, folder) = (folder.join(program), seen.push_mut(folder));
        let outcome = look(&path, program, until);
        let shown = folder.display();
        match (outcome, path.to_str()) {
            (None, _) => tried.push(short(&shown.to_string())),
            (Some(Err(why)), _) => tried.push(short(&format!("{shown} ({why})"))),
            (Some(Ok(_)), None) => tried.push(short(&format!("{shown} (no UTF-8)"))),
            (Some(Ok(version)), Some(path)) => {
                let fits = wanted.is_none() || major(&version) == wanted;
                let answer = FromShim::Found { program: path.to_owned(), version };
                if fits {
                    return answer;
                }
                found.get_or_insert(answer);
            }
        }
    }
    found.unwrap_or(FromShim::NotFound { tried })
}

/// What is in a folder: nothing, a program of this version, or one that does not start.
fn look(path: &Path, program: &str, until: Instant) -> Option<Result<String, String>> {
    if program.is_empty() || program.contains('/') {
        return Some(Err("no name of a program".to_owned()));
    }
    if !path.is_file() {
        return None;
    }
    Some(version(path, until))
}

fn short(text: &str) -> String {
    let mut text = line_text(text.as_bytes());
    text.truncate(text.floor_char_boundary(MOST_BYTES));
    text
}

/// Where packages and images put servers, the newest version first.
fn usual_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = versions(&root.join("usr/lib/postgresql"), "");
    folders.extend(versions(&root.join("usr"), "pgsql-"));
    let mut folders: Vec<_> = folders.iter().map(|folder| folder.join("bin")).collect();
    folders.extend(["opt/bitnami/postgresql/bin", "usr/local/pgsql/bin"].map(|one| root.join(one)));
    folders
}

/// The folders named by a prefix and a version, the newest first.
fn versions(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let version = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let numbers = name.to_str()?.strip_prefix(prefix)?.split('.');
        numbers.map(|number| number.parse().ok()).collect::<Option<Vec<u32>>>()
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| Some((version(&entry)?, entry.path())))
        .take(MOST_FOLDERS)
        .collect();
    found.sort_by_key(|(version, _)| Reverse(version.clone()));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A folder with a program that is this script.
    fn folder(root: &Path, name: &str, script: &str) -> PathBuf {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        // Another process writes it: a file that this one had open could not be started while a
        // second test's new process still has it from here (ETXTBSY).
        let writes = "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\"";
        let program = folder.join("postgres");
        let script = format!("#!/bin/sh\n{script}\n");
        let status =
            Command::new("sh").arg("-c").arg(writes).arg(&program).arg(script).status().unwrap();
        assert!(status.success());
        folder
    }

    fn prints(version: &str) -> String {
        format!("echo 'postgres (PostgreSQL) {version}'; echo more")
    }

    fn found(answer: FromShim) -> (String, String) {
        let FromShim::Found { program, version } = answer else { panic!("{answer:?}") };
        (program, version)
    }

    #[test]
    fn the_wanted_version_is_preferred_and_another_is_better_than_none() {
        let root = tempfile::tempdir().unwrap();
        for major in ["9.6", "15", "17"] {
            folder(root.path(), &format!("usr/lib/postgresql/{major}/bin"), &prints(major));
        }
        folder(root.path(), "usr/pgsql-16/bin", &prints("16.1"));
        let find = |wanted| found(find_in(usual_folders(root.path()), "postgres", wanted)).1;
        assert_eq!(find(None), "postgres (PostgreSQL) 17");
        assert_eq!(find(Some(15)), "postgres (PostgreSQL) 15");
        assert_eq!(find(Some(16)), "postgres (PostgreSQL) 16.1");
        assert_eq!(find(Some(18)), "postgres (PostgreSQL) 17");
    }

    #[test]
    fn a_program_that_does_not_start_is_passed_over_and_named_with_its_words() {
        let root = tempfile::tempdir().unwrap();
        let broken = folder(root.path(), "a", "echo no such library >&2; exit 127");
        let silent = folder(root.path(), "b", "exit 0");
        let missing = root.path().join("c");
        let folders = vec![broken, silent, missing, "relative".into()];
        let FromShim::NotFound { tried } = find_in(folders.clone(), "postgres", None) else {
            panic!("found");
        };
        assert_eq!(tried.len(), 3, "{tried:?}");
        assert!(tried[0].ends_with("/a (exit status: 127: no such library)"), "{tried:?}");
        assert!(tried[1].ends_with("/b (it prints no version)"), "{tried:?}");
        assert!(tried[2].ends_with("/c"), "{tried:?}");

        let good = folder(root.path(), "d", &prints("17.6"));
        let folders = folders.into_iter().chain([good.clone()]).collect();
        let (program, version) = found(find_in(folders, "postgres", Some(17)));
        assert_eq!(Path::new(&program), good.join("postgres"));
        assert_eq!(version, "postgres (PostgreSQL) 17.6");
    }

    #[test]
    fn a_program_is_a_name_and_no_path() {
        for program in ["", "../bin/sh", "/bin/sh"] {
            let answer = find_in(vec!["/bin".into()], program, None);
            assert!(matches!(answer, FromShim::NotFound { .. }), "{answer:?}");
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path(), "a", "echo 17; sleep 600");
        let until = Instant::now() + Duration::from_millis(200);
        let outcome = look(&folder.join("postgres"), "postgres", until);
        assert_eq!(outcome, Some(Err("it does not end".to_owned())));
    }
}
