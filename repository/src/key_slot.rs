//! Key slots: the master key, wrapped under one secret each (`docs/format.md`,
//! "Key slots").

use std::fmt;

use aws_lc_rs::aead::{Aad, Nonce};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::access::KeySource;
use crate::environment::{Environment, random};
use crate::keyring::{KEY_BYTES, RepositoryId, aead_key, derive, sha256};
use crate::names::{KEYS, base32};
use crate::stretching::{Kdf, Stretching};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"dbks";
const ID_BYTES: usize = 16;
const SALT: std::ops::Range<usize> = 52..84;
const WRAPPED: std::ops::Range<usize> = 84..132;
const LABEL: std::ops::Range<usize> = 132..220;
const DIGEST_BYTES: usize = 32;
/// Longest name in a label, in bytes: that of an entry of the spec.
pub const MAX_KEY_NAME_BYTES: usize = 63;
/// A label before it is sealed: a length, a name, zeros; a time.
const LABEL_BYTES: usize = 1 + MAX_KEY_NAME_BYTES + 8;

/// A key slot's id: the last part of its object's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId([u8; ID_BYTES]);

impl SlotId {
    /// Reads 26 characters of base32.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::BASE32_NOPAD.decode(text.to_uppercase().as_bytes()).ok()?;
        let id = Self(bytes.try_into().ok()?);
        // There is one spelling: a name is compared by its bytes.
        (id.to_string() == text).then_some(id)
    }

    /// The name of the slot's object.
    pub(crate) fn object_name(self) -> String {
        format!("{KEYS}{self}")
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32(&self.0))
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a slot's writer said of it. Who holds the master key reads it, whichever
/// secret the slot is for, and knows that a holder of the master key wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotLabel {
    /// The key's name: that of the spec's entry, or what a person gave it.
    pub name: String,
    /// When the slot was made, by its writer's clock.
    pub created: Timestamp,
}

/// What trying a slot with a secret gave.
#[derive(Debug)]
pub(crate) enum Opening {
    Opened(Zeroizing<[u8; KEY_BYTES]>),
    /// The slot is whole, and the secret is not its.
    WrongKey,
    /// The slot needs another kind of secret.
    NotForIt,
}

/// Makes a slot for `source`.
pub(crate) fn build_slot(
    repository: RepositoryId,
    master: &[u8; KEY_BYTES],
    source: &KeySource,
    kdf: Kdf,
    environment: &dyn Environment,
) -> Result<(SlotId, Vec<u8>)> {
    let id = SlotId(random(environment)?);
    let salt: [u8; 32] = random(environment)?;
    let stretching = Stretching::of_new(&source.secret, kdf);
    let (code, numbers) = stretching.encoded();
    let mut slot = Vec::with_capacity(LABEL.end + DIGEST_BYTES);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&[0, code, 1, 0]);
    slot.extend_from_slice(&repository.0);
    slot.extend_from_slice(&id.0);
    numbers.iter().for_each(|number| slot.extend_from_slice(&number.to_le_bytes()));
    slot.extend_from_slice(&salt);
    let Some(wrapping_key) = stretching.wrapping_key(&source.secret, &salt)? else {
        return Err(Error::System("a stretching that is not for its secret".into()));
    };
    seal(&mut slot, &wrapping_key, &master[..])?;
    let label = SlotLabel { name: source.name.clone(), created: environment.now() };
    seal(&mut slot, &*label_key(master, &salt)?, &label.encoded())?;
    let digest = sha256(&slot);
    slot.extend_from_slice(&digest);
    Ok((id, slot))
}

/// Appends `content`, sealed, and bound to all that stands before it.
fn seal(slot: &mut Vec<u8>, key: &[u8; KEY_BYTES], content: &[u8]) -> Result<()> {
    let mut sealed = Zeroizing::new(content.to_vec());
    let tag = aead_key(key)?
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(&slot[..]), &mut sealed[..])
        .map_err(|_| Error::System("a key slot cannot be sealed".into()))?;
    slot.extend_from_slice(&sealed);
    slot.extend_from_slice(tag.as_ref());
    Ok(())
}

fn open<'a>(
    key: &[u8; KEY_BYTES],
    bound: &[u8],
    sealed: &'a mut [u8],
) -> Result<Option<&'a mut [u8]>> {
    Ok(aead_key(key)?.open_in_place(zero_nonce(), Aad::from(bound), sealed).ok())
}

fn label_key(master: &[u8; KEY_BYTES], salt: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    derive(master, salt, &[b"dbbackup/v0/slot-label"])
}

impl SlotLabel {
    fn encoded(&self) -> [u8; LABEL_BYTES] {
        let mut length = self.name.len().min(MAX_KEY_NAME_BYTES);
        while !self.name.is_char_boundary(length) {
            length -= 1;
        }
        let mut bytes = [0; LABEL_BYTES];
        bytes[0] = length as u8;
        bytes[1..=length].copy_from_slice(&self.name.as_bytes()[..length]);
        bytes[LABEL_BYTES - 8..].copy_from_slice(&self.created.as_second().to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (name, time) = bytes.split_last_chunk::<8>()?;
        let (length, name) = name.split_first()?;
        let (name, zeros) = name.split_at_checked(usize::from(*length))?;
        if zeros.iter().any(|byte| *byte != 0) {
            return None;
        }
        Some(Self {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            created: Timestamp::from_second(i64::from_le_bytes(*time)).ok()?,
        })
    }
}

/// A slot whose digest is right.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    pub(crate) repository: RepositoryId,
    pub(crate) stretching: Stretching,
    bytes: Vec<u8>,
}

impl Slot {
    /// Reads the slot that stands under `name`.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::KeySlotDamaged(name.to_owned());
        let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or_else(damaged)?;
        if !content.starts_with(MAGIC) || sha256(content) != *digest {
            return Err(damaged());
        }
        let Some([_, _, _, _, version, code, labelled, _]) = content.first_chunk::<8>() else {
            return Err(damaged());
        };
        if *version != 0 {
            return Err(Error::VersionUnsupported(format!("{name} has version {version}")));
        }
        let length = if *labelled == 0 { WRAPPED.end } else { LABEL.end };
        if *labelled > 1 || content.len() != length {
            return Err(damaged());
        }
        let part = |at: usize| content[at..].first_chunk::<ID_BYTES>().copied().unwrap_or_default();
        let id = SlotId(part(24));
        if id.object_name() != name {
            return Err(damaged());
        }
        let number = |at: usize| {
            u32::from_le_bytes(content[at..].first_chunk().copied().unwrap_or_default())
        };
        let stretching = Stretching::decode(name, *code, [number(40), number(44), number(48)])?;
        Ok(Self { id, repository: RepositoryId(part(8)), stretching, bytes: bytes.to_vec() })
    }

    /// Tries `source`. Takes some tenths of a second of one core for a passphrase.
    pub(crate) fn open(&self, source: &KeySource) -> Result<Opening> {
        let salt = &self.bytes[SALT];
        let Some(key) = self.stretching.wrapping_key(&source.secret, salt)? else {
            return Ok(Opening::NotForIt);
        };
        let mut wrapped = Zeroizing::new(self.bytes[WRAPPED].to_vec());
        let Some(opened) = open(&key, &self.bytes[..WRAPPED.start], &mut wrapped)? else {
            return Ok(Opening::WrongKey);
        };
        let mut master = Zeroizing::new([0; KEY_BYTES]);
        master.copy_from_slice(opened);
        Ok(Opening::Opened(master))
    }

    /// Whether these bytes are this slot's.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes
    }

    /// Whether the slot has a label at all: what builds before it wrote has none.
    pub(crate) fn has_label(&self) -> bool {
        self.bytes[6] == 1
    }

    /// The label, if a holder of this master key has written it.
    pub(crate) fn label(&self, master: &[u8; KEY_BYTES]) -> Result<Option<SlotLabel>> {
        if !self.has_label() {
            return Ok(None);
        }
        let mut sealed = self.bytes[LABEL].to_vec();
        let key = label_key(master, &self.bytes[SALT])?;
        let opened = open(&key, &self.bytes[..LABEL.start], &mut sealed)?;
        Ok(opened.and_then(|label| SlotLabel::decode(label)))
    }
}

/// A slot as builds before labels wrote it.
#[cfg(test)]
pub(crate) fn build_slot_without_label(
    repository: RepositoryId,
    master: &[u8; KEY_BYTES],
    source: &KeySource,
) -> (SlotId, Vec<u8>) {
    let environment = crate::SystemEnvironment;
    let (id, with_label) =
        build_slot(repository, master, source, Kdf::Pbkdf2, &environment).unwrap();
    // Its key is bound to the flag, so it has to be sealed anew.
    let mut slot = with_label[..WRAPPED.start].to_vec();
    slot[6] = 0;
    let stretching = Stretching::of_new(&source.secret, Kdf::Pbkdf2);
    let key = stretching.wrapping_key(&source.secret, &with_label[SALT]).unwrap().unwrap();
    seal(&mut slot, &key, master).unwrap();
    slot.extend_from_slice(&sha256(&slot));
    (id, slot)
}

/// A whole slot that opens nothing, and costs so many rounds to find out.
#[cfg(test)]
pub(crate) fn build_forged_slot(repository: RepositoryId, rounds: u32) -> (SlotId, Vec<u8>) {
    let source = KeySource::raw("forged", &[6; 32]).unwrap();
    let environment = crate::SystemEnvironment;
    let (id, mut slot) =
        build_slot(repository, &[6; KEY_BYTES], &source, Kdf::Pbkdf2, &environment).unwrap();
    slot[5] = Stretching::Pbkdf2 { rounds }.encoded().0;
    slot[40..44].copy_from_slice(&rounds.to_le_bytes());
    let digest = sha256(&slot[..LABEL.end]);
    slot[LABEL.end..].copy_from_slice(&digest);
    (id, slot)
}

/// Each key is used once, since its salt is fresh.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEnvironment;

    const REPOSITORY: RepositoryId = RepositoryId([3; 16]);
    const MASTER: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn built(source: &KeySource, kdf: Kdf) -> (String, Vec<u8>) {
        let (id, bytes) = build_slot(REPOSITORY, &MASTER, source, kdf, &SystemEnvironment).unwrap();
        (id.object_name(), bytes)
    }

    #[test]
    fn a_slot_opens_with_its_own_secret_only_and_tells_damage_from_a_wrong_key() {
        let raw = |byte| KeySource::raw("a", &[byte; 32]).unwrap();
        let passphrase = |text: &str| KeySource::passphrase("b", text.as_bytes()).unwrap();
        for (right, wrong, other, kdf) in [
            (raw(9), raw(8), passphrase("x"), Kdf::Pbkdf2),
            (passphrase("x"), passphrase("y"), raw(8), Kdf::Pbkdf2),
            (passphrase("x"), passphrase("y"), raw(8), Kdf::Argon2id),
        ] {
            let (name, bytes) = built(&right, kdf);
            let slot = Slot::parse(&name, &bytes).unwrap();
            assert_eq!(slot.repository, REPOSITORY);
            let opened = slot.open(&right).unwrap();
            assert!(matches!(opened, Opening::Opened(master) if *master == MASTER));
            assert!(matches!(slot.open(&wrong).unwrap(), Opening::WrongKey));
            assert!(matches!(slot.open(&other).unwrap(), Opening::NotForIt));
            for position in 0..bytes.len() {
                for bit in [1, 0x80] {
                    let mut damaged = bytes.clone();
                    damaged[position] ^= bit;
                    let error = Slot::parse(&name, &damaged).unwrap_err();
                    assert!(matches!(error, Error::KeySlotDamaged(_)), "{position}: {error}");
                }
                assert!(Slot::parse(&name, &bytes[..position]).is_err());
                assert!(Slot::parse(&name, &bytes[position + 1..]).is_err());
            }
            assert!(Slot::parse("keys/other", &bytes).is_err());
        }
    }

    #[test]
    fn a_label_is_read_with_the_master_key_and_proves_who_wrote_the_slot() {
        let source = KeySource::raw("k2026", &[9; 32]).unwrap();
        let (name, bytes) = built(&source, Kdf::Pbkdf2);
        let slot = Slot::parse(&name, &bytes).unwrap();
        let label = slot.label(&MASTER).unwrap().unwrap();
        assert_eq!(label.name, "k2026");
        assert!(Timestamp::now().duration_since(label.created).as_secs() < 60);
        assert_eq!(slot.label(&[8; 32]).unwrap(), None, "another master key");
        let shown = bytes.windows(5).any(|window| window == b"k2026");
        assert!(!shown, "the name stands in clear");
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_and_a_label_survives() {
        for (name, kept) in [("", 0), ("ä", 2), (&*"x".repeat(80), 63), (&*"ä".repeat(40), 62)] {
            let label = SlotLabel { name: name.to_owned(), created: Timestamp::UNIX_EPOCH };
            let read = SlotLabel::decode(&label.encoded()).unwrap();
            assert_eq!(read.name, name[..kept], "{name}");
        }
        let mut bytes = SlotLabel { name: "a".into(), created: Timestamp::UNIX_EPOCH }.encoded();
        bytes[5] = 1;
        assert_eq!(SlotLabel::decode(&bytes), None, "what follows the name is not zero");
        bytes[0] = 64;
        assert_eq!(SlotLabel::decode(&bytes), None, "a name longer than its place");
    }

    #[test]
    fn a_slot_without_a_label_as_earlier_builds_wrote_it_opens() {
        let source = KeySource::raw("a", &[9; 32]).unwrap();
        let (id, slot) = build_slot_without_label(REPOSITORY, &MASTER, &source);
        assert_eq!(slot.len(), 164);
        let slot = Slot::parse(&id.object_name(), &slot).unwrap();
        assert!(matches!(slot.open(&source).unwrap(), Opening::Opened(_)));
        assert_eq!((slot.has_label(), slot.label(&MASTER).unwrap()), (false, None));
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = SlotId([0xa5; 16]);
        let text = id.to_string();
        assert_eq!((text.len(), SlotId::parse(&text)), (26, Some(id)));
        assert_eq!(id.object_name(), format!("keys/{text}"));
        for wrong in ["", "a", &text.to_uppercase(), &format!("{text}a"), &text[1..], "ä"] {
            assert_eq!(SlotId::parse(wrong), None, "{wrong}");
        }
    }
}
