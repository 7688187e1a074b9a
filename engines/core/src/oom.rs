//! Whether the kernel killed something in this container for lack of memory, and
//! under which limit.
//!
//! The counter `oom_kill` of the cgroup moves when it does; read before and after
//! a child's life it tells its end apart from any other SIGKILL. It stands in
//! `memory.events` in version 2 (kernel documentation: admin-guide/cgroup-v2) and
//! in `memory.oom_control` in version 1 (admin-guide/cgroup-v1/memory).

use std::path::Path;

/// Where a container sees its own cgroup: version 2, then version 1.
const COUNTERS: [&str; 2] =
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
const LIMITS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Version 1 says "no limit" by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// Processes that were killed for lack of memory so far; `None` outside a cgroup.
pub(crate) fn oom_kills() -> Option<u64> {
    COUNTERS.iter().find_map(|path| oom_kills_in(Path::new(path)))
}

/// The container's limit of memory in bytes, if it has one.
pub(crate) fn memory_limit() -> Option<u64> {
    LIMITS.iter().find_map(|path| limit_in(Path::new(path)))
}

fn oom_kills_in(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn limit_in(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read_from_its_own_line_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counter");
        for text in [
            "low 0\noom 4\noom_kill 3\noom_group_kill 1\n",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(oom_kills_in(&path), Some(3));
        }
        assert_eq!(oom_kills_in(&dir.path().join("absent")), None);
    }

    #[test]
    fn no_limit_is_none_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("limit");
        for (text, limit) in
            [("20971520\n", Some(20_971_520)), ("max\n", None), ("9223372036854771712\n", None)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(limit_in(&path), limit);
        }
    }
}
