//! The guards of the deletion protocol (`docs/format.md`, "Deleting"). Each one
//! is there because without it data is lost; the simulation breaks them one at a
//! time, to see that it would notice.

/// A rule that keeps what is in use from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Condemned packs are read after the session was created, not before.
    SessionFirst,
    /// Condemned packs are absent for new snapshots.
    Inheritance,
    /// Packs whose blocks were moved are absent for new snapshots.
    MovedIsAbsent,
    /// A pack whose blocks were moved goes when every block in use was.
    MovedWhole,
    /// Sessions are listed long after the packs were condemned.
    Grace,
    /// A silent session is fenced before it counts as resolved.
    Fence,
    /// Nothing is decided before every blocker is resolved.
    Blockers,
    /// What is deleted is decided by heads that are read after that.
    Verdict,
    /// Heads of sessions that listings may not show yet are asked for by name.
    ReadBlockers,
    /// A run that was forgotten is not made again.
    ForgottenRun,
    /// A snapshot that was forgotten stays so when its head comes back.
    ForgottenHead,
    /// Who lets a snapshot go sees a pin that was quicker.
    DecidedOnce,
    /// A head stays while anybody reads its snapshot who began before it was let go.
    Readers,
    /// Snapshots that are gone without a note stop the collection.
    Alarm,
}

/// Whether a guard holds: always, but for the test that breaks it.
pub(crate) fn holds(guard: Guard) -> bool {
    #[cfg(test)]
    return BROKEN.get() != Some(guard);
    #[cfg(not(test))]
    {
        let _ = guard;
        true
    }
}

#[cfg(test)]
thread_local! {
    /// The guard that the simulation on this thread has broken.
    pub(crate) static BROKEN: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}
