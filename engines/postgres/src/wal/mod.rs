//! Reading the write-ahead log, as it is streamed: whether it is whole, and what in it says
//! where one can recover to.
//!
//! The layout is no promise between major versions (`src/include/access/xlogrecord.h`,
//! `xlog_internal.h`): it is read for those that were tried, by the number that begins each page.

mod block;
mod facts;
mod reader;
mod version;

pub(crate) use self::facts::{Fact, facts_of, microseconds_of, time_of};
pub(crate) use self::reader::{Lineage, Record, WalError, WalReader};
