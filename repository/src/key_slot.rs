//! Key slots: the master key, wrapped under one secret each (`docs/format.md`,
//! "Key slots").

use std::num::NonZeroU32;

use aws_lc_rs::aead::{Aad, Nonce};
use aws_lc_rs::pbkdf2;
use zeroize::Zeroizing;

use crate::access::{KeySecret, KeySource};
use crate::environment::{Environment, random};
use crate::keyring::{KEY_BYTES, RepositoryId, aead_key, derive, sha256};
use crate::names::{KEYS, base32};
use crate::{Error, Result};

/// Rounds that are written: OWASP's Password Storage Cheat Sheet for
/// PBKDF2-HMAC-SHA256.
const ROUNDS: u32 = 600_000;
/// Rounds that are accepted: enough to be worth it, few enough not to hang.
const ACCEPTED_ROUNDS: std::ops::RangeInclusive<u32> = 100_000..=10_000_000;

const MAGIC: &[u8; 4] = b"dbks";
const SLOT_BYTES: usize = 164;
const BOUND_BYTES: usize = 84;
const DIGESTED_BYTES: usize = 132;

const KDF_PBKDF2: u8 = 1;
const KDF_RAW: u8 = 3;

/// What trying a slot with a secret gave.
#[derive(Debug)]
pub(crate) enum Opening {
    Opened(Zeroizing<[u8; KEY_BYTES]>),
    /// The slot is whole, and the secret is not its.
    WrongKey,
    /// The slot is of another repository, or needs another kind of secret.
    NotForIt,
}

/// Makes a slot for `source`: its object's name and content.
pub(crate) fn build_slot(
    repository: RepositoryId,
    master: &[u8; KEY_BYTES],
    source: &KeySource,
    environment: &dyn Environment,
) -> Result<(String, Vec<u8>)> {
    let id: [u8; 16] = random(environment)?;
    let salt: [u8; 32] = random(environment)?;
    let (kdf, rounds) = match source.secret {
        KeySecret::Passphrase(_) => (KDF_PBKDF2, ROUNDS),
        KeySecret::Raw(_) => (KDF_RAW, 0),
    };
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&[0, kdf, 0, 0]);
    slot.extend_from_slice(&repository.0);
    slot.extend_from_slice(&id);
    slot.extend_from_slice(&rounds.to_le_bytes());
    slot.extend_from_slice(&[0; 8]);
    slot.extend_from_slice(&salt);
    let key = aead_key(&*wrapping_key(&source.secret, &salt, rounds)?)?;
    let mut wrapped = Zeroizing::new(*master);
    let tag = key
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(&slot), &mut wrapped[..])
        .map_err(|_| Error::System("the master key cannot be wrapped".into()))?;
    slot.extend_from_slice(&wrapped[..]);
    slot.extend_from_slice(tag.as_ref());
    let digest = sha256(&slot);
    slot.extend_from_slice(&digest);
    Ok((format!("{KEYS}{}", base32(&id)), slot))
}

/// A slot whose digest is right.
#[derive(Debug)]
pub(crate) struct Slot {
    bytes: [u8; SLOT_BYTES],
}

impl Slot {
    /// Reads the slot that stands under `name`.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::KeySlotDamaged(name.to_owned());
        let bytes: [u8; SLOT_BYTES] = bytes.try_into().map_err(|_| damaged())?;
        let slot = Self { bytes };
        let whole = bytes[..4] == *MAGIC
            && sha256(&bytes[..DIGESTED_BYTES]) == bytes[DIGESTED_BYTES..]
            && name.strip_prefix(KEYS) == Some(base32(&bytes[24..40]).as_str());
        if !whole {
            return Err(damaged());
        }
        if bytes[4] != 0 {
            return Err(Error::VersionUnsupported(format!("{name} has version {}", bytes[4])));
        }
        if bytes[5] == KDF_PBKDF2 && !ACCEPTED_ROUNDS.contains(&slot.rounds()) {
            return Err(damaged());
        }
        Ok(slot)
    }

    fn rounds(&self) -> u32 {
        u32::from_le_bytes([self.bytes[40], self.bytes[41], self.bytes[42], self.bytes[43]])
    }

    /// Whether the slot is of this repository.
    pub(crate) fn belongs_to(&self, repository: RepositoryId) -> bool {
        self.bytes[8..24] == repository.0
    }

    /// Tries `source`. Takes about 0.2 s of one core for a passphrase.
    pub(crate) fn open(&self, source: &KeySource) -> Result<Opening> {
        match (self.bytes[5], &source.secret) {
            (KDF_PBKDF2, KeySecret::Passphrase(_)) | (KDF_RAW, KeySecret::Raw(_)) => {}
            _ => return Ok(Opening::NotForIt),
        }
        let salt = &self.bytes[52..BOUND_BYTES];
        let key = aead_key(&*wrapping_key(&source.secret, salt, self.rounds())?)?;
        let mut wrapped = Zeroizing::new(self.bytes[BOUND_BYTES..DIGESTED_BYTES].to_vec());
        let bound = Aad::from(&self.bytes[..BOUND_BYTES]);
        let Ok(opened) = key.open_in_place(zero_nonce(), bound, &mut wrapped) else {
            return Ok(Opening::WrongKey);
        };
        let mut master = Zeroizing::new([0; KEY_BYTES]);
        master.copy_from_slice(opened);
        Ok(Opening::Opened(master))
    }
}

fn wrapping_key(
    secret: &KeySecret,
    salt: &[u8],
    rounds: u32,
) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    match secret {
        KeySecret::Passphrase(passphrase) => {
            let rounds = NonZeroU32::new(rounds)
                .ok_or_else(|| Error::System("a slot without rounds".into()))?;
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                rounds,
                salt,
                passphrase.expose().as_bytes(),
                &mut key[..],
            );
            Ok(key)
        }
        KeySecret::Raw(raw) => derive(&raw[..], salt, &[b"dbbackup/v0/slot"]),
    }
}

/// Each wrapping key is used once, since its salt is fresh.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEnvironment;

    #[test]
    fn a_slot_opens_with_its_own_secret_only_and_tells_damage_from_a_wrong_key() {
        let repository = RepositoryId([3; 16]);
        let right = KeySource::raw("a", &[9; 32]).unwrap();
        let wrong = KeySource::raw("b", &[8; 32]).unwrap();
        let (name, bytes) = build_slot(repository, &[7; 32], &right, &SystemEnvironment).unwrap();
        let slot = Slot::parse(&name, &bytes).unwrap();
        assert!(slot.belongs_to(repository) && !slot.belongs_to(RepositoryId([4; 16])));
        assert!(
            matches!(slot.open(&right).unwrap(), Opening::Opened(master) if *master == [7; 32])
        );
        assert!(matches!(slot.open(&wrong).unwrap(), Opening::WrongKey));
        let passphrase = KeySource::passphrase("c", b"x").unwrap();
        assert!(matches!(slot.open(&passphrase).unwrap(), Opening::NotForIt));
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert!(
                matches!(Slot::parse(&name, &damaged), Err(Error::KeySlotDamaged(_))),
                "{position}"
            );
        }
        assert!(Slot::parse("keys/other", &bytes).is_err());
        assert!(Slot::parse(&name, &bytes[1..]).is_err());
    }
}
