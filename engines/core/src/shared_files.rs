//! Files in folders that somebody else writes into as well, such as a server that is recovered: what
//! lies there under a known name may be a link to elsewhere, or a pipe that never ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Makes a file in the place of whatever has its name. A link goes, and what it leads to stays.
///
/// # Errors
/// What the system says; `IsADirectory` and its like where a folder has that name.
pub fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Without following a link that came meanwhile.
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
}

/// Opens a file that is one: neither a link, nor a pipe or a device.
///
/// # Errors
/// What the system says (`FilesystemLoop` of a link); `InvalidInput` of anything else that is no file.
pub fn open_plain(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // A pipe would wait for somebody at its other end.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = options.custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_a_link_leads_to_is_neither_written_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let (link, elsewhere) = (folder.path().join("link"), folder.path().join("elsewhere"));
        std::fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        assert!(open_plain(&link, OpenOptions::new().read(true)).is_err());
        assert!(open_plain(&link, OpenOptions::new().append(true).create(true)).is_err());
        create_anew(&link, 0o600).unwrap().write_all(b"ours").unwrap();
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "theirs");
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "ours");
        assert!(open_plain(&link, OpenOptions::new().read(true)).is_ok());
    }

    #[test]
    fn a_device_is_no_file_and_nobody_waits_for_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            assert!(open_plain(path, OpenOptions::new().read(true)).is_err(), "{path:?}");
        }
    }
}
