//! How a secret becomes the key that wraps the master key: what a slot says of
//! it, its bounds, and the computation (`docs/format.md`, "Key slots").

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::pbkdf2;
use zeroize::{Zeroize as _, Zeroizing};

use crate::access::KeySecret;
use crate::keyring::{KEY_BYTES, derive};
use crate::{Error, Result};

/// Rounds that are written: OWASP's Password Storage Cheat Sheet for
/// PBKDF2-HMAC-SHA256.
const ROUNDS: u32 = 600_000;
/// Rounds that are accepted: enough to be worth it, few enough not to hang.
const ACCEPTED_ROUNDS: std::ops::RangeInclusive<u32> = 100_000..=10_000_000;

/// What is written for Argon2id: RFC 9106's second recommended option, for
/// environments with little memory.
const ARGON2ID: Stretching = Stretching::Argon2id { passes: 3, memory_kib: 64 * 1024, lanes: 4 };
/// Memory that is accepted, in KiB. From OWASP's smallest choice with two passes, up
/// to what fits into the smallest runner (`contract::runner_memory_bytes(1, false, 0)`, 168 MiB)
/// before its data path begins: whoever may write below `keys/` must not be able to
/// kill every Job with one object.
const ACCEPTED_KIB: std::ops::RangeInclusive<u32> = 19 * 1024..=128 * 1024;
const ACCEPTED_PASSES: std::ops::RangeInclusive<u32> = 2..=16;
const ACCEPTED_LANES: std::ops::RangeInclusive<u32> = 1..=16;

/// What one secret may be stretched for slots of which nobody knows who wrote them, in
/// rounds: whoever may only create objects can add slots without end, each of the
/// largest work. As much as 64 slots of what is written take, some ten seconds.
const MOST_WORK: u64 = 64 * ROUNDS as u64;
/// Rounds of PBKDF2 that take as long as a pass of Argon2id over a KiB.
const ROUNDS_A_KIB: u64 = 3;

const PBKDF2_CODE: u8 = 1;
const ARGON2ID_CODE: u8 = 2;
const RAW_CODE: u8 = 3;

/// How passphrases of new key slots are stretched. Raw keys are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2-HMAC-SHA256, 600,000 rounds: approved by FIPS (SP 800-132).
    #[default]
    Pbkdf2,
    /// Argon2id (RFC 9106), 64 MiB, 3 passes, 4 lanes: a guess costs memory, too.
    Argon2id,
}

/// What a key slot says of its stretching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretching {
    /// PBKDF2-HMAC-SHA256 of a passphrase.
    Pbkdf2 {
        /// Iterations.
        rounds: u32,
    },
    /// Argon2id of a passphrase.
    Argon2id {
        /// Passes over the memory.
        passes: u32,
        /// Memory in KiB.
        memory_kib: u32,
        /// Lanes.
        lanes: u32,
    },
    /// A raw key, which needs none.
    RawKey,
}

impl fmt::Display for Stretching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2 { rounds } => write!(f, "PBKDF2 with {rounds} rounds"),
            Self::Argon2id { passes, memory_kib, lanes } => {
                let mib = memory_kib / 1024;
                write!(f, "Argon2id with {mib} MiB, {passes} passes, {lanes} lanes")
            }
            Self::RawKey => f.write_str("raw key"),
        }
    }
}

impl Stretching {
    /// What is written for this secret.
    pub(crate) fn of_new(secret: &KeySecret, kdf: Kdf) -> Self {
        match (secret, kdf) {
            (KeySecret::Raw(_), _) => Self::RawKey,
            (KeySecret::Passphrase(_), Kdf::Pbkdf2) => Self::Pbkdf2 { rounds: ROUNDS },
            (KeySecret::Passphrase(_), Kdf::Argon2id) => ARGON2ID,
        }
    }

    /// The number in a slot, and the three that follow its ids.
    pub(crate) fn encoded(self) -> (u8, [u32; 3]) {
        match self {
            Self::Pbkdf2 { rounds } => (PBKDF2_CODE, [rounds, 0, 0]),
            Self::Argon2id { passes, memory_kib, lanes } => {
                (ARGON2ID_CODE, [passes, memory_kib, lanes])
            }
            Self::RawKey => (RAW_CODE, [0, 0, 0]),
        }
    }

    /// Reads what the whole slot `name` says of it.
    ///
    /// # Errors
    /// `KeySlotDamaged` where it exceeds its bounds: nobody of ours has written that.
    /// `VersionUnsupported` for a derivation that this release does not know.
    pub(crate) fn decode(name: &str, code: u8, numbers: [u32; 3]) -> Result<Self> {
        let (fits, stretching) = match (code, numbers) {
            (PBKDF2_CODE, [rounds, b, c]) => {
                let fits = ACCEPTED_ROUNDS.contains(&rounds) && (b, c) == (0, 0);
                (fits, Self::Pbkdf2 { rounds })
            }
            (ARGON2ID_CODE, [passes, memory_kib, lanes]) => {
                let fits = ACCEPTED_PASSES.contains(&passes)
                    && ACCEPTED_KIB.contains(&memory_kib)
                    && ACCEPTED_LANES.contains(&lanes);
                (fits, Self::Argon2id { passes, memory_kib, lanes })
            }
            (RAW_CODE, numbers) => (numbers == [0, 0, 0], Self::RawKey),
            (other, _) => {
                return Err(Error::VersionUnsupported(format!(
                    "{name} has the key derivation {other}, which this release does not know"
                )));
            }
        };
        fits.then_some(stretching).ok_or_else(|| Error::KeySlotDamaged(name.to_owned()))
    }

    /// What trying a slot of this kind with `secret` costs, in rounds; `None` if it needs
    /// another kind of secret.
    pub(crate) fn work(self, secret: &KeySecret) -> Option<u64> {
        match (self, secret) {
            (Self::Pbkdf2 { rounds }, KeySecret::Passphrase(_)) => Some(rounds.into()),
            (Self::Argon2id { passes, memory_kib, .. }, KeySecret::Passphrase(_)) => {
                Some(u64::from(passes) * u64::from(memory_kib) * ROUNDS_A_KIB)
            }
            (Self::RawKey, KeySecret::Raw(_)) => Some(0),
            _ => None,
        }
    }

    /// The key that wraps the master key; `None` if a slot of this kind needs another
    /// kind of secret. A passphrase takes a core for tenths of seconds, and Argon2id
    /// its memory, which is given back before this returns.
    ///
    /// # Errors
    /// When memory is short.
    pub(crate) fn wrapping_key(
        self,
        secret: &KeySecret,
        salt: &[u8],
    ) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        match (self, secret) {
            (Self::Pbkdf2 { rounds }, KeySecret::Passphrase(passphrase)) => {
                let rounds = NonZeroU32::new(rounds)
                    .ok_or_else(|| Error::System("a slot without rounds".into()))?;
                let passphrase = passphrase.expose().as_bytes();
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase, &mut key[..]);
            }
            (Self::Argon2id { passes, memory_kib, lanes }, KeySecret::Passphrase(passphrase)) => {
                let parameters = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES));
                let parameters = parameters.map_err(failed)?;
                let passphrase = passphrase.expose().as_bytes();
                argon2id(parameters, passphrase, salt, &mut key[..])?;
            }
            (Self::RawKey, KeySecret::Raw(raw)) => {
                key = derive(&raw[..], salt, &[b"dbbackup/v0/slot"])?;
            }
            _ => return Ok(None),
        }
        Ok(Some(key))
    }
}

/// How much one secret may still be stretched.
#[derive(Clone, Debug)]
pub(crate) struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self::of(MOST_WORK)
    }
}

impl Budget {
    /// So many rounds.
    pub(crate) fn of(rounds: u64) -> Self {
        Self(rounds)
    }

    /// Takes this work from it; false if it is more than is left. A slot that asks for
    /// too much keeps no smaller one from being tried.
    pub(crate) fn take(&mut self, work: u64) -> bool {
        let left = self.0.checked_sub(work);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// RFC 9106, version 0x13, without secret value and associated data.
fn argon2id(parameters: Params, passphrase: &[u8], salt: &[u8], key: &mut [u8]) -> Result<()> {
    let mut memory: Vec<Block> = Vec::new();
    let blocks = parameters.block_count();
    memory
        .try_reserve_exact(blocks)
        .map_err(|_| Error::System(format!("there are no {blocks} KiB for Argon2id")))?;
    memory.resize(blocks, Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    let done = argon2.hash_password_into_with_memory(passphrase, salt, key, &mut memory);
    memory.zeroize();
    done.map_err(failed)
}

fn failed(error: argon2::Error) -> Error {
    Error::System(format!("Argon2id: {error}"))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use dbbackup_contract::{SecretString, runner_memory_bytes};

    use super::*;

    fn passphrase() -> KeySecret {
        KeySecret::Passphrase(SecretString::new("correct horse".to_owned()))
    }

    /// Made by argon2-cffi 25.1.0 (the reference implementation in C) and by Python's hashlib:
    ///
    /// ```text
    /// from argon2.low_level import hash_secret_raw, Type; import hashlib
    /// salt = bytes(range(32))
    /// hash_secret_raw(b"correct horse", salt, 3, 65536, 4, 32, Type.ID).hex()
    /// hash_secret_raw(b"correct horse", salt, 2, 19456, 1, 32, Type.ID).hex()
    /// hashlib.pbkdf2_hmac("sha256", b"correct horse", salt, 600000, 32).hex()
    /// ```
    #[test]
    fn passphrases_are_stretched_as_other_implementations_do_it() {
        let salt: Vec<u8> = (0..32).collect();
        let smallest = Stretching::Argon2id { passes: 2, memory_kib: 19 * 1024, lanes: 1 };
        let pbkdf2 = Stretching::of_new(&passphrase(), Kdf::Pbkdf2);
        for (stretching, expected) in [
            (
                Stretching::of_new(&passphrase(), Kdf::Argon2id),
                "fc5d642bb060f1becda3a96cf47ed429465a98babc939c96228302fc85e53a4f",
            ),
            (smallest, "0fb7142cbef5e0e5911b1f6d59f08b3512ca07be95eae5b7c49931d0836f62f7"),
            (pbkdf2, "6e0e47b07fb12cc6608ce003ec335e64e80afd97be2916c2b75e7acca956b65f"),
        ] {
            let key = stretching.wrapping_key(&passphrase(), &salt).unwrap().unwrap();
            assert_eq!(HEXLOWER.encode(&key[..]), expected, "{stretching}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_exceeds_a_bound_is_not_computed() {
        let read = |code, numbers| Stretching::decode("keys/a", code, numbers);
        let raw = KeySecret::Raw(Zeroizing::new([1; 32]));
        for stretching in [
            Stretching::of_new(&passphrase(), Kdf::Pbkdf2),
            Stretching::of_new(&passphrase(), Kdf::Argon2id),
            Stretching::of_new(&raw, Kdf::Argon2id),
        ] {
            let (code, numbers) = stretching.encoded();
            assert_eq!(read(code, numbers).unwrap(), stretching);
        }
        for (code, numbers) in [
            (1, [99_999, 0, 0]),
            (1, [10_000_001, 0, 0]),
            (1, [600_000, 1, 0]),
            (2, [1, 65_536, 4]),
            (2, [17, 65_536, 4]),
            (2, [3, 19_455, 4]),
            (2, [3, 131_073, 4]),
            (2, [3, u32::MAX, 4]),
            (2, [3, 65_536, 0]),
            (2, [3, 65_536, 17]),
            (3, [0, 0, 1]),
        ] {
            let error = read(code, numbers).unwrap_err();
            assert!(matches!(error, Error::KeySlotDamaged(_)), "{code} {numbers:?}: {error}");
        }
        for code in [0, 4, 255] {
            let error = read(code, [0, 0, 0]).unwrap_err();
            assert!(matches!(error, Error::VersionUnsupported(_)), "{error}");
        }
    }

    #[test]
    fn a_budget_is_enough_for_64_slots_of_what_is_written_and_not_for_four_of_the_largest() {
        let largest = Stretching::Pbkdf2 { rounds: *ACCEPTED_ROUNDS.end() };
        for (stretching, most) in [
            (Stretching::of_new(&passphrase(), Kdf::Pbkdf2), 64),
            (Stretching::of_new(&passphrase(), Kdf::Argon2id), 65),
            (largest, 3),
        ] {
            let mut budget = Budget::default();
            let work = stretching.work(&passphrase()).unwrap();
            assert_eq!((0..1000).filter(|_| budget.take(work)).count(), most, "{stretching}");
        }
        let raw = KeySecret::Raw(Zeroizing::new([1; 32]));
        assert_eq!(Stretching::RawKey.work(&raw), Some(0));
        assert_eq!((largest.work(&raw), Stretching::RawKey.work(&passphrase())), (None, None));
    }

    #[test]
    fn the_largest_stretching_fits_into_the_smallest_runner() {
        let stretching = u64::from(*ACCEPTED_KIB.end()) * 1024;
        assert!(stretching + 32 * 1024 * 1024 <= runner_memory_bytes(1, false, 0));
    }
}
