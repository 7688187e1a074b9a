//! How much memory a runner needs: the operator's requests and limits.

/// Worker threads of the pipeline where the spec says nothing.
pub const DEFAULT_WORKERS: u32 = 2;

/// Memory of a runner with `workers` pipeline threads, in bytes, clients of the
/// server included.
///
/// A fixed part and a part for each worker; `dbbackup-repository` holds the
/// formula against its channels and buffers in a test.
#[must_use]
pub const fn runner_memory_bytes(workers: u32) -> u64 {
    const MIB: u64 = 1024 * 1024;
    144 * MIB + 24 * MIB * workers as u64
}
