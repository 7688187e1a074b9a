//! What a place can do of its own, as far as it was found out.

use std::time::Duration;

/// What was found out about a place when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it creates an object only where there is none.
    pub create_if_absent: CreateIfAbsent,
    /// Whether it takes checksums of what is sent to it.
    pub checksums: Checksums,
    /// For how long nobody can delete what a repository cannot do without, from its
    /// creation or its last [`Store::keep`](crate::Store::keep) on; `None`: it is not locked.
    pub lock: Option<Duration>,
    /// Whether a network lies before it: that an object is durable is known only some tenths
    /// of a second after its last byte was sent.
    pub network: bool,
}

impl Capabilities {
    /// What memory and file systems can do.
    pub const LOCAL: Self = Self {
        create_if_absent: CreateIfAbsent::Obeyed,
        checksums: Checksums::NotNeeded,
        lock: None,
        network: false,
    };
}

/// Whether a place creates an object only where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreateIfAbsent {
    /// Of several that create the same name at once exactly one succeeds.
    Obeyed,
    /// The condition is accepted and has no effect. The driver looks before it
    /// creates; two that create the same name at the same moment may both succeed,
    /// and the later object stands.
    Ignored,
    /// The condition is an error. The driver looks before it creates, as for `Ignored`.
    Refused,
    /// Nobody has looked: the place was opened for reading only.
    #[default]
    NotProbed,
}

/// Whether a place takes checksums of what is sent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Each object is sent with one.
    Taken,
    /// They are an error, so none are sent.
    Refused,
    /// Nothing is sent anywhere.
    NotNeeded,
    /// The driver sends none.
    NotSent,
    /// Nobody has looked: the place was opened for reading only.
    #[default]
    NotProbed,
}
