//! The config: which format, which repository, which features (`docs/format.md`,
//! "Config").

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keyring::{Cipher, Keyring, RepositoryId, sha256};
use crate::names::CONFIG;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"dbbkconf";
const MAX_JSON_BYTES: usize = 64 * 1024;
const DIGEST_BYTES: usize = 32;
/// Largest config, in bytes.
pub(crate) const MAX_CONFIG_BYTES: usize = MAGIC.len() + 4 + MAX_JSON_BYTES + 2 * DIGEST_BYTES;

/// What a config says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigJson {
    version: u32,
    repository_id: String,
    encryption: String,
    created_time: Timestamp,
    #[serde(default)]
    features: Features,
    #[serde(default)]
    min_collector: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Features {
    compatible: Vec<String>,
    read_only: Vec<String>,
    incompatible: Vec<String>,
}

/// A config whose bytes are whole; what it says may be for a newer release.
#[derive(Clone, Debug)]
pub(crate) struct ConfigObject {
    name: String,
    /// All but the MAC.
    content: Vec<u8>,
    mac: [u8; DIGEST_BYTES],
}

/// A config that was read and understood.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) repository: RepositoryId,
    pub(crate) cipher: Cipher,
    /// A feature that this release does not know forbids writing.
    pub(crate) read_only: bool,
    /// The oldest collector that may delete here.
    pub(crate) min_collector: u32,
}

/// Builds the first config.
pub(crate) fn build_config(keys: &Keyring, name: &str, now: Timestamp) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(&ConfigJson {
        version: 0,
        repository_id: keys.repository.to_string(),
        encryption: match keys.cipher {
            Cipher::None => "none",
            Cipher::Aes256Gcm => "aes-256-gcm",
        }
        .to_owned(),
        created_time: now,
        features: Features::default(),
        min_collector: 0,
    })
    .map_err(|error| Error::System(error.to_string()))?;
    let mut object = Vec::new();
    object.extend_from_slice(MAGIC);
    object.extend_from_slice(&(json.len() as u32).to_le_bytes());
    object.extend_from_slice(&json);
    let digest = sha256(&object);
    object.extend_from_slice(&digest);
    let mac = match keys.cipher {
        Cipher::None => [0; DIGEST_BYTES],
        Cipher::Aes256Gcm => keys.config_mac(name, &object),
    };
    object.extend_from_slice(&mac);
    Ok(object)
}

impl ConfigObject {
    /// Takes the object that stands under `name` apart. That the key vouches for it is
    /// seen by [`ConfigObject::verify`], once there is one.
    pub(crate) fn parse(name: &str, object: &[u8]) -> Result<Self> {
        let damaged = |detail: &str| Error::damaged(name, detail);
        let (content, mac) =
            object.split_last_chunk::<DIGEST_BYTES>().ok_or_else(|| damaged("it is cut"))?;
        let (body, digest) =
            content.split_last_chunk::<DIGEST_BYTES>().ok_or_else(|| damaged("it is cut"))?;
        if sha256(body) != *digest {
            return Err(damaged("its SHA-256 does not fit"));
        }
        body.strip_prefix(MAGIC)
            .and_then(|rest| rest.split_first_chunk::<4>())
            .filter(|(length, json)| u32::from_le_bytes(**length) as usize == json.len())
            .filter(|(_, json)| json.len() <= MAX_JSON_BYTES)
            .ok_or_else(|| damaged("its length does not fit"))?;
        Ok(Self { name: name.to_owned(), content: content.to_vec(), mac: *mac })
    }

    fn json(&self) -> &[u8] {
        let json = MAGIC.len() + 4..self.content.len().saturating_sub(DIGEST_BYTES);
        self.content.get(json).unwrap_or_default()
    }

    /// What it says.
    ///
    /// # Errors
    /// `RepositoryVersionUnsupported`, `RepositoryDamaged`.
    pub(crate) fn read(&self) -> Result<Config> {
        let damaged = |detail: &str| Error::damaged(&self.name, detail);
        let json = self.json();
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        if version != 0 {
            return Err(Error::VersionUnsupported(format!(
                "the repository has the format's version {version}, this release reads version 0"
            )));
        }
        let json: ConfigJson =
            serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        if let Some(feature) = json.features.incompatible.first() {
            return Err(Error::VersionUnsupported(format!(
                "the repository has the feature {feature:?}, which this release does not know"
            )));
        }
        let cipher = match json.encryption.as_str() {
            "none" => Cipher::None,
            "aes-256-gcm" => Cipher::Aes256Gcm,
            other => {
                return Err(Error::VersionUnsupported(format!(
                    "the repository has the encryption {other:?}, which this release does not know"
                )));
            }
        };
        let repository = RepositoryId::parse(&json.repository_id)
            .ok_or_else(|| damaged("its repository id is none"))?;
        Ok(Config {
            repository,
            cipher,
            read_only: !json.features.read_only.is_empty(),
            min_collector: json.min_collector,
        })
    }

    /// Checks that a holder of the key has written it.
    ///
    /// # Errors
    /// `RepositoryDamaged`.
    pub(crate) fn verify(&self, keys: &Keyring) -> Result<()> {
        // Not by the cipher that it names: who forges it would say that there is none.
        let expected = match keys.cipher {
            Cipher::None => [0; DIGEST_BYTES],
            Cipher::Aes256Gcm => keys.config_mac(&self.name, &self.content),
        };
        if aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &self.mac).is_err() {
            return Err(Error::damaged(&self.name, "nobody with the key has written it"));
        }
        Ok(())
    }
}

/// The number of a config's name.
pub(crate) fn config_number(name: &str) -> Option<u32> {
    name.strip_prefix(CONFIG).and_then(crate::names::parse_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_and_every_changed_byte_is_noticed() {
        for keys in [Keyring::for_tests(), Keyring::unencrypted(RepositoryId([5; 16])).unwrap()] {
            let object = build_config(&keys, "config/0", Timestamp::UNIX_EPOCH).unwrap();
            let whole = ConfigObject::parse("config/0", &object).unwrap();
            whole.verify(&keys).unwrap();
            let config = whole.read().unwrap();
            assert_eq!((config.repository, config.cipher), (keys.repository, keys.cipher));
            for position in 0..object.len() {
                let mut damaged = object.clone();
                damaged[position] ^= 0x20;
                let read = ConfigObject::parse("config/0", &damaged).and_then(|c| c.verify(&keys));
                assert!(read.is_err(), "{position}");
            }
        }
    }

    #[test]
    fn a_newer_version_and_unknown_features_are_refused_as_such() {
        let with = |json: &str| {
            let mut object = MAGIC.to_vec();
            object.extend_from_slice(&(json.len() as u32).to_le_bytes());
            object.extend_from_slice(json.as_bytes());
            let digest = sha256(&object);
            object.extend_from_slice(&digest);
            object.extend_from_slice(&[0; 32]);
            ConfigObject::parse("config/0", &object).and_then(|whole| whole.read())
        };
        let rest = r#""repositoryId":"00000000000000000000000000000000","encryption":"none","createdTime":"2026-01-01T00:00:00Z""#;
        let newer = with(r#"{"version":1,"shape":"new"}"#).unwrap_err();
        assert!(matches!(newer, Error::VersionUnsupported(_)), "{newer}");
        let feature = format!(r#"{{"version":0,{rest},"features":{{"incompatible":["x"]}}}}"#);
        assert!(matches!(with(&feature), Err(Error::VersionUnsupported(_))));
        let read_only = format!(r#"{{"version":0,{rest},"features":{{"readOnly":["x"]}}}}"#);
        assert!(with(&read_only).unwrap().read_only);
        let compatible = format!(r#"{{"version":0,{rest},"features":{{"compatible":["x"]}}}}"#);
        assert!(!with(&compatible).unwrap().read_only);
    }
}
