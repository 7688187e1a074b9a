//! The envelope around every object: header, frames, tags (`docs/format.md`,
//! "The envelope"). Plain bytes in, sealed bytes out, and back.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

use crate::environment::{Environment, random};
use crate::keyring::{Cipher, Keyring, sha256};
use crate::{Error, Result};

/// Bytes before the first frame.
pub(crate) const HEADER_BYTES: usize = 40;
/// Bytes that sealing adds to a frame.
pub(crate) const TAG_BYTES: usize = 16;
const MAGIC: &[u8; 4] = b"dbbk";
/// The format's version.
pub(crate) const VERSION: u8 = 0;

/// The random bytes of an object's header.
pub(crate) type Salt = [u8; 32];
/// The tag of a frame.
pub(crate) type Tag = [u8; TAG_BYTES];

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Pack = 1,
    Meta = 2,
    Snapshot = 3,
    Session = 4,
    Beat = 5,
    Condemned = 6,
    Verdict = 7,
    Marks = 9,
    Blockers = 10,
    Log = 12,
    Decision = 13,
    Ledger = 15,
    Leaving = 16,
    WrittenOff = 17,
}

/// Seals and opens the frames of one object.
#[derive(Debug)]
pub(crate) struct ObjectSeal {
    pub(crate) salt: Salt,
    name: String,
    key: Option<LessSafeKey>,
    /// AAD up to the counter: repository, version, kind.
    bound: [u8; 18],
    kind: Kind,
}

impl ObjectSeal {
    /// For a new object.
    pub(crate) fn fresh(
        keys: &Keyring,
        environment: &dyn Environment,
        kind: Kind,
        name: String,
    ) -> Result<Self> {
        Self::with_salt(keys, random(environment)?, kind, name)
    }

    /// For an object whose random bytes are known.
    pub(crate) fn with_salt(keys: &Keyring, salt: Salt, kind: Kind, name: String) -> Result<Self> {
        let key = match keys.cipher {
            Cipher::None => None,
            Cipher::Aes256Gcm => Some(keys.object_key(&salt, kind as u8, &name)?),
        };
        let mut bound = [0; 18];
        bound[..16].copy_from_slice(&keys.repository.0);
        bound[16] = VERSION;
        bound[17] = kind as u8;
        Ok(Self { salt, name, key, bound, kind })
    }

    /// For an object that begins with `header`.
    pub(crate) fn of_header(
        keys: &Keyring,
        header: &[u8],
        kind: Kind,
        name: String,
    ) -> Result<Self> {
        let Some(header) = header.first_chunk::<HEADER_BYTES>() else {
            return Err(Error::damaged(name, "its header is cut"));
        };
        if header[..4] != *MAGIC {
            return Err(Error::damaged(name, "it is no object of a repository"));
        }
        if header[4] != VERSION {
            return Err(Error::VersionUnsupported(format!(
                "{name} has the format's version {}, this release reads version {VERSION}",
                header[4]
            )));
        }
        if header[5] != kind as u8 || header[6] != keys.cipher as u8 || header[7] != 0 {
            return Err(Error::damaged(name, "its header is another object's"));
        }
        let mut salt = [0; 32];
        salt.copy_from_slice(&header[8..]);
        Self::with_salt(keys, salt, kind, name)
    }

    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The object's first bytes.
    pub(crate) fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(MAGIC);
        header[4] = VERSION;
        header[5] = self.kind as u8;
        header[6] = if self.key.is_some() { Cipher::Aes256Gcm } else { Cipher::None } as u8;
        header[8..].copy_from_slice(&self.salt);
        header
    }

    /// Seals the bytes of `object` from `start` on, and appends their tag.
    pub(crate) fn seal(
        &self,
        counter: u64,
        last: bool,
        object: &mut Vec<u8>,
        start: usize,
    ) -> Result<Tag> {
        let aad = self.aad(counter, last);
        let nonce = nonce(counter);
        let content = &mut object[start..];
        let mut tag = [0; TAG_BYTES];
        match &self.key {
            Some(key) => {
                let sealed = key
                    .seal_in_place_separate_tag(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::from(&aad),
                        content,
                    )
                    .map_err(|_| Error::System(format!("{} cannot be sealed", self.name)))?;
                tag.copy_from_slice(sealed.as_ref());
            }
            None => tag = clear_tag(&aad, &self.salt, &nonce, content),
        }
        object.extend_from_slice(&tag);
        Ok(tag)
    }

    /// Opens a frame in place and cuts off its tag.
    pub(crate) fn open(&self, counter: u64, last: bool, frame: &mut Vec<u8>) -> Result<()> {
        let aad = self.aad(counter, last);
        let nonce = nonce(counter);
        let refused = || Error::damaged(&self.name, format!("frame {counter} does not open"));
        let length = frame.len().checked_sub(TAG_BYTES).ok_or_else(refused)?;
        match &self.key {
            Some(key) => {
                key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(&aad), frame)
                    .map_err(|_| refused())?;
            }
            None => {
                if frame[length..] != clear_tag(&aad, &self.salt, &nonce, &frame[..length]) {
                    return Err(refused());
                }
            }
        }
        frame.truncate(length);
        Ok(())
    }

    fn aad(&self, counter: u64, last: bool) -> Vec<u8> {
        let mut aad = Vec::with_capacity(self.bound.len() + 9 + self.name.len());
        aad.extend_from_slice(&self.bound);
        aad.push(u8::from(last));
        aad.extend_from_slice(&counter.to_le_bytes());
        aad.extend_from_slice(self.name.as_bytes());
        aad
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// Without encryption a frame's tag guards against accidents.
fn clear_tag(aad: &[u8], salt: &Salt, nonce: &[u8; 12], content: &[u8]) -> Tag {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(aad);
    context.update(salt);
    context.update(nonce);
    context.update(content);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&context.finish().as_ref()[..TAG_BYTES]);
    tag
}

/// Seals an object of one frame.
pub(crate) fn seal_object(
    keys: &Keyring,
    environment: &dyn Environment,
    kind: Kind,
    name: &str,
    content: &[u8],
) -> Result<Vec<u8>> {
    let seal = ObjectSeal::fresh(keys, environment, kind, name.to_owned())?;
    let mut object = Vec::with_capacity(HEADER_BYTES + content.len() + TAG_BYTES);
    object.extend_from_slice(&seal.header());
    object.extend_from_slice(content);
    seal.seal(0, true, &mut object, HEADER_BYTES)?;
    Ok(object)
}

/// Opens an object of one frame.
pub(crate) fn open_object(
    keys: &Keyring,
    kind: Kind,
    name: &str,
    object: &[u8],
) -> Result<Vec<u8>> {
    let seal = ObjectSeal::of_header(keys, object, kind, name.to_owned())?;
    let mut content = object[HEADER_BYTES..].to_vec();
    seal.open(0, true, &mut content)?;
    Ok(content)
}

/// SHA-256 of a stored object, as hexadecimal digits.
pub(crate) fn object_digest(object: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&sha256(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEnvironment;
    use crate::keyring::RepositoryId;
    use proptest::prelude::*;

    fn rings() -> [Keyring; 2] {
        [Keyring::for_tests(), Keyring::unencrypted(RepositoryId([1; 16])).unwrap()]
    }

    proptest! {
        #[test]
        fn every_changed_byte_is_noticed(content: Vec<u8>, at: prop::sample::Index, bit in 0..8) {
            for keys in rings() {
                let name = "sessions/a";
                let mut object =
                    seal_object(&keys, &SystemEnvironment, Kind::Session, name, &content).unwrap();
                prop_assert_eq!(
                    &open_object(&keys, Kind::Session, name, &object).unwrap(), &content
                );
                let position = at.index(object.len());
                object[position] ^= 1_u8 << bit;
                prop_assert!(open_object(&keys, Kind::Session, name, &object).is_err());
            }
        }

        #[test]
        fn hostile_objects_do_not_open(bytes: Vec<u8>) {
            for keys in rings() {
                prop_assert!(open_object(&keys, Kind::Meta, "meta/00/a", &bytes).is_err());
            }
        }
    }

    #[test]
    fn an_object_opens_only_under_its_own_name_kind_counter_and_place() {
        for keys in rings() {
            let object =
                seal_object(&keys, &SystemEnvironment, Kind::Session, "sessions/a", b"x").unwrap();
            assert!(open_object(&keys, Kind::Session, "sessions/b", &object).is_err());
            assert!(open_object(&keys, Kind::Beat, "sessions/a", &object).is_err());
            let seal =
                ObjectSeal::of_header(&keys, &object, Kind::Session, "sessions/a".into()).unwrap();
            for (counter, last) in [(1, true), (0, false)] {
                let mut frame = object[HEADER_BYTES..].to_vec();
                assert!(seal.open(counter, last, &mut frame).is_err());
            }
        }
    }

    #[test]
    fn another_version_is_refused_as_such() {
        let keys = Keyring::for_tests();
        let mut object =
            seal_object(&keys, &SystemEnvironment, Kind::Session, "sessions/a", b"x").unwrap();
        object[4] = 1;
        let error = open_object(&keys, Kind::Session, "sessions/a", &object).unwrap_err();
        assert!(matches!(error, Error::VersionUnsupported(_)), "{error}");
    }
}
