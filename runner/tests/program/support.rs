//! Calls of the program, and the places that it works with.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program, not yet started. It gets no variable of this process.
pub(crate) fn runner<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dbbackup-runner"));
    command
        .env_clear()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How a call of the program ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let err = String::from_utf8(output.stderr).expect("standard error is UTF-8");
        Self { code: output.status.code(), out: output.stdout, err }
    }
}

impl Ended {
    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("standard output is UTF-8")
    }

    /// Asserts that it went well, and that standard error stayed empty.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        assert_eq!(self.err, "");
        self
    }
}

/// A folder with a repository and its key, removed when dropped.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    /// Address of the repository.
    pub(crate) repository: String,
    key: PathBuf,
}

impl Place {
    /// A place with a repository.
    pub(crate) fn new() -> Self {
        let place = Self::without_repository();
        place.call(["init"]).well();
        place
    }

    pub(crate) fn without_repository() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        Self::at(folder, &repository)
    }

    /// A place whose repository lies somewhere else.
    pub(crate) fn at(folder: tempfile::TempDir, repository: &Path) -> Self {
        Self::at_address(folder, format!("file://{}", repository.display()))
    }

    /// A place whose repository is at this address.
    pub(crate) fn at_address(folder: tempfile::TempDir, repository: String) -> Self {
        let key = folder.path().join("key");
        // A raw key: no passphrase has to be stretched at each call.
        write_secret(&key, &[7; 32]);
        Self { folder, repository, key }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with a command, the repository, its key, and what follows.
    pub(crate) fn command<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
    ) -> Command {
        let mut arguments = arguments.into_iter();
        let mut command = runner(arguments.next());
        command.arg(&self.repository).args(arguments).arg("--key-file").arg(&self.key);
        command
    }

    pub(crate) fn call<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Ended {
        self.command(arguments).output().unwrap().into()
    }

    /// Feeds `input` to the program.
    pub(crate) fn feed<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
        input: &[u8],
    ) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // It may end before it has read everything.
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().unwrap()
        })
        .into()
    }
}

/// A file that only its owner reads.
pub(crate) fn write_secret(path: &Path, content: &[u8]) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(content).unwrap();
}

/// Bytes that do not compress, the same for the same seed (xorshift64*, Vigna 2016).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    })
    .flatten()
    .take(length)
    .collect()
}

/// Waits until `condition` holds; `shown` says what is there instead.
pub(crate) fn wait_until(
    what: &str,
    mut condition: impl FnMut() -> bool,
    shown: impl Fn() -> String,
) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: {}", shown());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a program of ours catches SIGTERM.
pub(crate) fn wait_until_it_listens(child: &Child) {
    let path = format!("/proc/{}/status", child.id());
    let caught = || {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
        u64::from_str_radix(&mask, 16).ok()
    };
    let sigterm = 1 << 14;
    wait_until(
        "SIGTERM is not caught",
        || caught().is_some_and(|mask| mask & sigterm != 0),
        || format!("{:x?}", caught()),
    );
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(child: &Child, name: &str) {
    signal_to(child.id(), name);
}

/// The same by its id.
pub(crate) fn signal_to(id: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status();
    assert!(status.unwrap().success());
}

/// Stores with these arguments and this input; the snapshot's id.
pub(crate) fn store(place: &Place, arguments: &[&str], input: &[u8]) -> String {
    let ended = place.feed(arguments.iter().chain(&["--json"]), input).well();
    let outcome: serde_json::Value = serde_json::from_str(ended.text()).unwrap();
    outcome["id"].as_str().unwrap().to_owned()
}

/// All files below a folder; none if it does not exist.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// The first of the files below a folder.
pub(crate) fn first_file(folder: &Path) -> PathBuf {
    files_below(folder).into_iter().next().unwrap_or_else(|| panic!("{folder:?} has no file"))
}

/// Turns a byte in the middle of a file.
pub(crate) fn corrupt(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Objects of a repository are not writable.
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
}

/// A file system that is mounted for a test, on a folder of its own.
pub(crate) struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// An ext4 of `megabytes` in a file: one that can be frozen.
    pub(crate) fn ext4(megabytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        let mounted = Self::mount(folder, |on| {
            run("mount", &["-o", "loop", image.to_str().unwrap(), on.to_str().unwrap()]);
        });
        std::fs::remove_dir(mounted.path("lost+found")).unwrap();
        mounted
    }

    /// A tmpfs of `megabytes`: one that is soon full.
    pub(crate) fn tmpfs(megabytes: u64) -> Self {
        let size = format!("size={megabytes}m");
        Self::mount(tempfile::tempdir().unwrap(), |on| {
            run("mount", &["-t", "tmpfs", "-o", &size, "dbbackup-test", on.to_str().unwrap()]);
        })
    }

    fn mount(folder: tempfile::TempDir, mount: impl FnOnce(&Path)) -> Self {
        let on = folder.path().join("mounted");
        std::fs::create_dir(&on).unwrap();
        mount(&on);
        Self { folder }
    }

    /// A path on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("mounted").join(name)
    }

    fn root(&self) -> String {
        self.path("").to_str().unwrap().to_owned()
    }

    /// Whoever writes to it from now on waits until it is thawed.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        run("fsfreeze", &["--freeze", &self.root()]);
        Frozen(self)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A process of a test that failed may still have files open on it.
        let _ = Command::new("umount").args(["--lazy", &self.root()]).status();
    }
}

/// A frozen file system; thawed when dropped, however the test ends.
pub(crate) struct Frozen<'a>(&'a Mounted);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").args(["--unfreeze", &self.0.root()]).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}
