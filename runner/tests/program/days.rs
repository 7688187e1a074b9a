//! Repositories that grow older.

use std::path::Path;
use std::time::{Duration, SystemTime};

/// Lets a day pass, as far as the files of the repository know.
pub(crate) fn a_day_later(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            a_day_later(&entry.path());
            continue;
        }
        let time = entry.metadata().unwrap().modified().unwrap() - Duration::from_secs(90_000);
        let times = std::fs::FileTimes::new().set_modified(time);
        std::fs::File::options().append(true).open(entry.path()).unwrap().set_times(times).unwrap();
        assert!(entry.metadata().unwrap().modified().unwrap() < SystemTime::now());
    }
}
