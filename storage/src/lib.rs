//! Where objects are kept: the contract of a store, its drivers, and the suite
//! that holds every driver to the contract.
//!
//! A store knows names and bytes. What they mean is `dbbackup-repository`'s
//! business; it sees every place through [`Store`].

mod capabilities;
mod causes;
mod conformance;
mod error;
mod faulty;
mod limits;
mod memory;
mod paced;
mod range;
mod repeater;
mod retrying;
mod scatter;
mod store;
mod timed;
mod unreliable;
mod volume;

pub use capabilities::{Capabilities, Checksums, CreateIfAbsent};
pub use causes::{causes, on_one_line, server_says, told};
pub use conformance::{ConformanceError, check_conformance};
pub use error::{Error, ErrorKind, Operation, Result};
pub use faulty::{CallCounts, Effect, FaultyStore};
pub use limits::Limits;
pub use memory::MemoryStore;
pub use paced::PacedStore;
pub use range::AskedRange;
pub use repeater::{Repeater, RetryPolicy};
pub use retrying::RetryingStore;
pub use store::{
    Creation, Listing, MAX_OBJECT_BYTES, ObjectInfo, Store, collect_listing, validate_name,
    validate_prefix, validate_size,
};
pub use timed::TimedStore;
pub use unreliable::UnreliableStore;
pub use volume::{VolumeOptions, VolumeStore};
