//! How much memory a runner needs: the operator's requests and limits, and what
//! is told when it was not enough.

use crate::{Failure, Reason};

const MIB: u64 = 1024 * 1024;

/// Worker threads of the pipeline where the spec says nothing.
pub const DEFAULT_WORKERS: u32 = 2;

/// Stored bytes of which the tables take a byte: of a tebibyte, 116 MiB, where 106 are measured.
const STORED_A_BYTE: u64 = 9_000;

/// Memory of a runner with `workers` pipeline threads and a repository that holds so many
/// bytes, clients of the server included; whole mebibytes.
///
/// A fixed part, a part for each worker, and one for tables of packs, which grow with the
/// repository; `dbbackup-repository` holds the formula against its channels and buffers,
/// and against a tebibyte of packs, in tests.
#[must_use]
pub const fn runner_memory_bytes(workers: u32, stored_bytes: u64) -> u64 {
    let tables = stored_bytes / STORED_A_BYTE / MIB * MIB;
    144 * MIB + 24 * MIB * workers as u64 + tables
}

/// The failure of `who`, killed by the kernel under a limit of so many bytes.
#[must_use]
pub fn out_of_memory(who: &str, limit: Option<u64>) -> Failure {
    let message = format!("{who} was killed for want of memory");
    let Some(limit) = limit else { return Failure::new(Reason::OutOfMemory, message) };
    let needed = runner_memory_bytes(DEFAULT_WORKERS, 0);
    let failure =
        Failure::new(Reason::OutOfMemory, format!("{message}: the limit is {}", quantity(limit)));
    if limit < needed {
        return failure.with_hint(format!(
            "Raise job.resources.limits.memory to {} at least, or leave it out: that is what the \
             runner is given then.",
            quantity(needed)
        ));
    }
    failure
}

/// Bytes as Kubernetes writes them: `192Mi`.
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
            (Some(48 * MIB), "of memory: the limit is 48Mi", "to 192Mi at least, or leave it out"),
            (Some(1024 * MIB), ": the limit is 1024Mi", "Raise job.resources.limits.memory."),
        ] {
            let failure = out_of_memory("pg_dump", limit);
            assert!(failure.message.ends_with(words), "{failure}");
            assert!(failure.hint.contains(advice), "{failure}");
        }
    }
}
