//! Whether the kernel killed something in this container for lack of memory.
//!
//! The counter `oom_kill` of the cgroup (v2, `memory.events`) moves when it
//! does; read before and after a child's life it tells its end apart from any
//! other SIGKILL. Kernel documentation: admin-guide/cgroup-v2, "memory.events".

use std::path::Path;

/// Where a container sees its own cgroup.
const MEMORY_EVENTS: &str = "/sys/fs/cgroup/memory.events";

/// Processes that were killed for lack of memory so far; `None` outside a cgroup v2.
pub(crate) fn oom_kills() -> Option<u64> {
    oom_kills_in(Path::new(MEMORY_EVENTS))
}

fn oom_kills_in(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read_from_its_own_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.events");
        std::fs::write(&path, "low 0\noom 4\noom_kill 3\noom_group_kill 1\n").unwrap();
        assert_eq!(oom_kills_in(&path), Some(3));
        assert_eq!(oom_kills_in(&dir.path().join("absent")), None);
    }
}
