//! The keys of an open repository, all derived from one master key
//! (`docs/format.md`, "Keys").

use std::fmt;

use aws_lc_rs::{aead, digest, hkdf, hmac};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// Length of the master key and of every derived one, in bytes.
pub(crate) const KEY_BYTES: usize = 32;

/// A repository's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RepositoryId(pub(crate) [u8; 16]);

impl RepositoryId {
    /// Reads 32 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How frames are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    None = 0,
    Aes256Gcm = 1,
}

/// Id of a chunk: without encryption 32 bytes, with it 16 bytes and 16 zeros.
pub(crate) type ChunkId = [u8; 32];

/// The keys of one repository.
pub(crate) struct Keyring {
    pub(crate) repository: RepositoryId,
    pub(crate) cipher: Cipher,
    master: Zeroizing<[u8; KEY_BYTES]>,
    chunk_id: Zeroizing<[u8; KEY_BYTES]>,
    names: hmac::Key,
    config: hmac::Key,
    stream_digest: DigestKey,
}

/// What digests of streams are keyed with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DigestKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl DigestKey {
    /// A key of so many bytes; `None` for any other number of them.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// As the head of a copy holds it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// A stream's digest, to be fed.
    pub(crate) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({}, {:?}, ***)", self.repository, self.cipher)
    }
}

impl Keyring {
    /// The keys under `master`.
    pub(crate) fn encrypted(
        repository: RepositoryId,
        master: Zeroizing<[u8; KEY_BYTES]>,
    ) -> Result<Self> {
        Self::new(repository, Cipher::Aes256Gcm, master)
    }

    /// The keys of a repository without encryption, which anybody can make.
    pub(crate) fn unencrypted(repository: RepositoryId) -> Result<Self> {
        Self::new(repository, Cipher::None, Zeroizing::new([0; KEY_BYTES]))
    }

    fn new(
        repository: RepositoryId,
        cipher: Cipher,
        master: Zeroizing<[u8; KEY_BYTES]>,
    ) -> Result<Self> {
        let of = |label: &str| {
            derive(&master[..], &repository.0, &[format!("dbbackup/v0/{label}").as_bytes()])
        };
        let mac = |label: &str| of(label).map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key[..]));
        Ok(Self {
            chunk_id: of("chunk-id")?,
            names: mac("names")?,
            config: mac("config")?,
            stream_digest: DigestKey(of("stream-digest")?),
            master,
            repository,
            cipher,
        })
    }

    /// Bytes of an id as footers hold it.
    pub(crate) fn id_bytes(&self) -> usize {
        match self.cipher {
            Cipher::None => 32,
            Cipher::Aes256Gcm => 16,
        }
    }

    /// The id of a chunk with this content: keyed BLAKE3, without encryption plain
    /// BLAKE3 in full (ADR 48).
    pub(crate) fn chunk_id(&self, content: &[u8]) -> ChunkId {
        match self.cipher {
            Cipher::None => *blake3::hash(content).as_bytes(),
            Cipher::Aes256Gcm => {
                let mut id = [0; 32];
                let digest = blake3::keyed_hash(&self.chunk_id, content);
                id[..16].copy_from_slice(&digest.as_bytes()[..16]);
                id
            }
        }
    }

    /// HMAC under the key of names.
    pub(crate) fn name_mac(&self, label: &str, content: &[u8]) -> [u8; 32] {
        mac(&self.names, &[label.as_bytes(), &[0], content])
    }

    /// HMAC of a config.
    pub(crate) fn config_mac(&self, name: &str, content: &[u8]) -> [u8; 32] {
        mac(&self.config, &[name.as_bytes(), &[0], content])
    }

    /// What digests of streams are keyed with, but those of copies.
    pub(crate) fn stream_digest(&self) -> &DigestKey {
        &self.stream_digest
    }

    /// The key of the object with these random bytes.
    pub(crate) fn object_key(
        &self,
        salt: &[u8; 32],
        kind: u8,
        name: &str,
    ) -> Result<aead::LessSafeKey> {
        let info: [&[u8]; 3] = [b"dbbackup/v0/object", &[kind], name.as_bytes()];
        aead_key(&*derive(&self.master[..], salt, &info)?)
    }

    /// The master key, to be wrapped into a slot.
    pub(crate) fn master(&self) -> &[u8; KEY_BYTES] {
        &self.master
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::encrypted(RepositoryId([1; 16]), Zeroizing::new([2; 32])).unwrap()
    }
}

fn mac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// SHA-256.
pub(crate) fn sha256(content: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    hash
}

/// HKDF-SHA256 (RFC 5869), 32 bytes.
pub(crate) fn derive(
    secret: &[u8],
    salt: &[u8],
    info: &[&[u8]],
) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key[..]))
        .map_err(|_| Error::System("a key could not be derived".into()))?;
    Ok(key)
}

/// A key of AES-256-GCM.
pub(crate) fn aead_key(key: &[u8]) -> Result<aead::LessSafeKey> {
    aead::UnboundKey::new(&aead::AES_256_GCM, key)
        .map(aead::LessSafeKey::new)
        .map_err(|_| Error::System("a key has the wrong length".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_keys_are_golden() {
        let keys = Keyring::for_tests();
        let digest = keys.stream_digest().hasher().update(b"abc").finalize();
        let seen = [
            HEXLOWER.encode(&keys.chunk_id(b"abc")),
            HEXLOWER.encode(&keys.name_mac("run", b"abc")),
            HEXLOWER.encode(&keys.config_mac("config/0", b"abc")),
            digest.to_hex().to_string(),
        ];
        assert_golden(&seen);
    }

    /// Golden values, made again by Python's `hmac`, `hashlib` and `blake3`.
    fn assert_golden(seen: &[String; 4]) {
        assert_eq!(
            seen,
            &[
                "d0142f758da64452754c3054be106aae00000000000000000000000000000000".to_owned(),
                "880bbbb1c22d99d9fe7d57abee034df3acce90c4c0d9bb049e045c3f19fe24b2".to_owned(),
                "a5dc03e12f4ccd00f180f97a14e9dc5c482fd33e27265491f6a37668c4a44b5c".to_owned(),
                "ad01b33cc94df1beb4f28197dca2ebc82e18c421d333b1311b0bf1c9754a258d".to_owned()
            ]
        );
    }

    #[test]
    fn a_keyring_does_not_print_its_keys() {
        assert_eq!(
            format!("{:?}", Keyring::for_tests()),
            "Keyring(01010101010101010101010101010101, Aes256Gcm, ***)"
        );
    }
}
