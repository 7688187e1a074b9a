//! How much memory a runner needs: the operator's requests and limits, and what
//! is told when it was not enough.

use crate::{Failure, Reason};

const MIB: u64 = 1024 * 1024;

/// Worker threads of the pipeline where the spec says nothing.
pub const DEFAULT_WORKERS: u32 = 2;

/// Stored bytes of which the tables take a byte: of a tebibyte, 80 MiB, where 72 are measured.
const STORED_A_BYTE: u64 = 13_000;

/// Memory of a runner with `workers` pipeline threads and a repository that holds so many
/// bytes, perhaps behind a `network`, clients of the server included; whole mebibytes.
///
/// A fixed part, a part for each worker, one for what is on its way through a network, and
/// one for tables of packs, which grow with the repository; `dbbackup-repository` holds the
/// formula against its channels and buffers, and against a tebibyte of packs, in tests.
#[must_use]
pub const fn runner_memory_bytes(workers: u32, network: bool, stored_bytes: u64) -> u64 {
    let tables = stored_bytes / STORED_A_BYTE / MIB * MIB;
    let under_way = if network { 48 * MIB } else { 0 };
    144 * MIB + 24 * MIB * workers as u64 + under_way + tables
}

/// The failure of `who`, killed by the kernel under a limit of so many bytes.
#[must_use]
pub fn out_of_memory(who: &str, limit: Option<u64>) -> Failure {
    let message = format!("{who} was killed for want of memory");
    let Some(limit) = limit else { return Failure::new(Reason::OutOfMemory, message) };
    let needed = runner_memory_bytes(DEFAULT_WORKERS, true, 0);
    let failure =
        Failure::new(Reason::OutOfMemory, format!("{message}: the limit is {}", quantity(limit)));
    if limit < needed {
        return failure.with_hint(format!(
            "Raise job.resources.limits.memory to {} at least, or leave it out: that is the most \
             that the runner is given then.",
            quantity(needed)
        ));
    }
    failure
}

/// Bytes as Kubernetes writes them: `240Mi`.
fn quantity(bytes: u64) -> String {
    if bytes.is_multiple_of(MIB) { format!("{}Mi", bytes / MIB) } else { bytes.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_short_is_told_with_the_limit_and_with_what_to_write() {
        for (limit, words, advice) in [
            (None, "pg_dump was killed for want of memory", "Raise job.resources.limits.memory."),
            (Some(48 * MIB), "of memory: the limit is 48Mi", "to 240Mi at least, or leave it out"),
            (Some(1024 * MIB), ": the limit is 1024Mi", "Raise job.resources.limits.memory."),
        ] {
            let failure = out_of_memory("pg_dump", limit);
            assert!(failure.message.ends_with(words), "{failure}");
            assert!(failure.hint.contains(advice), "{failure}");
        }
    }
}
