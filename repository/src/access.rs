//! How a repository is opened: which encryption, and the secrets of its key slots.

use std::fmt;

use dbbackup_contract::SecretString;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// Length of a raw key, in bytes.
const RAW_KEY_BYTES: usize = 32;
/// Longest passphrase, in bytes: nobody has a longer one, a mistaken file may be.
const MAX_PASSPHRASE_BYTES: usize = 64 * 1024;

/// What the caller says of the encryption. It must agree with the repository.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// The repository is not encrypted.
    None,
    /// Any of these opens it.
    Keys(Vec<KeySource>),
}

/// One secret that may open a key slot.
#[derive(Clone, Debug)]
pub struct KeySource {
    /// Its name in the spec, for reports.
    pub name: String,
    pub(crate) secret: KeySecret,
}

/// The secret itself.
#[derive(Clone)]
pub(crate) enum KeySecret {
    Passphrase(SecretString),
    Raw(Zeroizing<[u8; RAW_KEY_BYTES]>),
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(***)",
            Self::Raw(_) => "Raw(***)",
        })
    }
}

impl KeySource {
    /// A passphrase, as it stands in a file: one trailing line end does not count.
    ///
    /// # Errors
    /// When it is empty, too long, or not UTF-8.
    pub fn passphrase(name: impl Into<String>, content: &[u8]) -> Result<Self> {
        let name = name.into();
        let invalid =
            |detail: &str| Error::KeyInvalid { name: name.clone(), detail: detail.to_owned() };
        let text = std::str::from_utf8(without_line_end(content))
            .map_err(|_| invalid("the passphrase is not UTF-8"))?;
        if text.is_empty() {
            return Err(invalid("the passphrase is empty"));
        }
        if text.len() > MAX_PASSPHRASE_BYTES {
            return Err(invalid("the passphrase is longer than 64 KiB"));
        }
        let secret = KeySecret::Passphrase(SecretString::new(text.to_owned()));
        Ok(Self { name, secret })
    }

    /// A raw key, as it stands in a file: 32 bytes, or their base64.
    ///
    /// # Errors
    /// When it is neither.
    pub fn raw(name: impl Into<String>, content: &[u8]) -> Result<Self> {
        let name = name.into();
        let trimmed = without_line_end(content);
        let mut key = Zeroizing::new([0; RAW_KEY_BYTES]);
        if content.len() == RAW_KEY_BYTES {
            key.copy_from_slice(content);
        } else if trimmed.len() == RAW_KEY_BYTES {
            key.copy_from_slice(trimmed);
        } else {
            let decoded = data_encoding::BASE64
                .decode(trimmed)
                .or_else(|_| data_encoding::BASE64_NOPAD.decode(trimmed))
                .map(Zeroizing::new)
                .ok()
                .filter(|decoded| decoded.len() == RAW_KEY_BYTES);
            let Some(decoded) = decoded else {
                let detail = "it must hold 32 bytes, or their base64".to_owned();
                return Err(Error::KeyInvalid { name, detail });
            };
            key.copy_from_slice(&decoded);
        }
        Ok(Self { name, secret: KeySecret::Raw(key) })
    }
}

fn without_line_end(content: &[u8]) -> &[u8] {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    content.strip_suffix(b"\r").unwrap_or(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(content: &[u8]) -> Option<[u8; 32]> {
        match KeySource::raw("k", content).ok()?.secret {
            KeySecret::Raw(key) => Some(*key),
            KeySecret::Passphrase(_) => None,
        }
    }

    #[test]
    fn a_raw_key_is_read_as_bytes_or_base64_with_or_without_line_end() {
        let key = [0x41_u8; 32];
        let base64 = data_encoding::BASE64.encode(&key);
        for content in [
            key.to_vec(),
            [&key[..], b"\n"].concat(),
            base64.clone().into_bytes(),
            format!("{base64}\r\n").into_bytes(),
            base64.trim_end_matches('=').as_bytes().to_vec(),
        ] {
            assert_eq!(raw(&content), Some(key), "{content:?}");
        }
        let ends_in_line_feed = [[7; 31].as_slice(), b"\n"].concat();
        assert_eq!(raw(&ends_in_line_feed).unwrap()[31], b'\n');
        for content in [&b""[..], b"short", &[0; 31], &[0; 34], &[0; 64]] {
            assert_eq!(raw(content), None, "{content:?}");
        }
    }

    #[test]
    fn an_empty_passphrase_is_refused_and_none_is_shown() {
        assert!(KeySource::passphrase("k", b"\n").is_err());
        let source = KeySource::passphrase("k", b"hunter2\n").unwrap();
        assert!(!format!("{source:?}").contains("hunter"));
    }
}
