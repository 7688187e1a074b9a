//! Time and randomness, as arguments: tests give their own.

use std::fmt::Debug;

use jiff::Timestamp;

use crate::{Error, Result};

/// Where a repository takes the time and random bytes from.
pub trait Environment: Send + Sync + Debug {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Fills `bytes` with random bytes fit for keys.
    ///
    /// # Errors
    /// When the system gives none.
    fn fill_random(&self, bytes: &mut [u8]) -> Result<()>;
}

/// The system's clock and random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<()> {
        aws_lc_rs::rand::fill(bytes)
            .map_err(|_| Error::System("the system gives no random numbers".into()))
    }
}

/// Fresh random bytes.
pub(crate) fn random<const N: usize>(environment: &dyn Environment) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    environment.fill_random(&mut bytes)?;
    Ok(bytes)
}
