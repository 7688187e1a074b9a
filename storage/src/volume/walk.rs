//! Listing: the tree below a prefix, folder by folder.

use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;
use tokio::sync::mpsc::Sender;

use super::files::{Root, enter, object_info};
use super::{Folder, failure};
use crate::{ObjectInfo, Operation, Result};

/// Names have four parts at most; deeper folders are not ours.
const MAX_DEPTH: usize = 8;
/// Made by mkfs at the root of a volume.
const LOST_AND_FOUND: &str = "lost+found";

type Found = Sender<Result<ObjectInfo>>;

/// The listener has gone away.
struct Gone;

/// Sends every object whose name begins with `prefix`.
pub(super) fn list(root: &Root, prefix: &str, found: &Found) {
    let (folders, rest) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let start = if folders.is_empty() { String::new() } else { format!("{folders}/") };
    let walked = match root.walk(folders, false) {
        Ok(folder) => walk(&folder, &start, rest, MAX_DEPTH, found),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(errno) => send(found, Err(failure(Operation::List, prefix, errno))),
    };
    // Whoever dropped the listing wants no more of it.
    let _: std::result::Result<(), Gone> = walked;
}

fn walk(
    folder: &Folder,
    path: &str,
    prefix: &str,
    depth: usize,
    found: &Found,
) -> std::result::Result<(), Gone> {
    let entries = match fs::Dir::read_from(folder) {
        Ok(entries) => entries,
        Err(errno) => return send(found, Err(failure(Operation::List, path, errno))),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(errno) => return send(found, Err(failure(Operation::List, path, errno))),
        };
        let name = entry.file_name().to_string_lossy();
        // Hidden names are `.`, `..`, our temporary files, and what network file
        // systems keep beside (`.nfs…`, `.snapshot`).
        let passed_over =
            name.starts_with('.') || !name.starts_with(prefix) || name == LOST_AND_FOUND;
        if passed_over {
            continue;
        }
        let full = format!("{path}{name}");
        let stat = match fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Deleted since the folder was read.
            Err(Errno::NOENT) => continue,
            Err(errno) => return send(found, Err(failure(Operation::List, &full, errno))),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if depth == 0 {
                continue;
            }
            match enter(folder.as_fd(), &name, false) {
                Ok(inner) => walk(&inner, &format!("{full}/"), "", depth - 1, found)?,
                Err(Errno::NOENT) => {}
                Err(errno) => send(found, Err(failure(Operation::List, &full, errno)))?,
            }
        } else {
            // What is no file is listed too, without a size: it is not ours, and
            // whoever asks whether the place is empty must see it.
            let foreign =
                ObjectInfo { name: full.clone(), size: 0, modified: std::time::UNIX_EPOCH };
            send(found, Ok(object_info(full, &stat).unwrap_or(foreign)))?;
        }
    }
    Ok(())
}

fn send(found: &Found, item: Result<ObjectInfo>) -> std::result::Result<(), Gone> {
    found.blocking_send(item).map_err(|_| Gone)
}
