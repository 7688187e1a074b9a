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

/// A config that was read and understood.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) repository: RepositoryId,
    pub(crate) cipher: Cipher,
    /// A feature that this release does not know forbids writing.
    pub(crate) read_only: bool,
    /// The oldest collector that may delete here.
    pub(crate) min_collector: u32,
    name: String,
    content: Vec<u8>,
    mac: [u8; DIGEST_BYTES],
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

impl Config {
    /// Reads the config that stands under `name`. That the key vouches for it is
    /// seen by [`Config::verify`], once there is one.
    pub(crate) fn parse(name: &str, object: &[u8]) -> Result<Self> {
        let damaged = |detail: &str| Error::damaged(name, detail);
        let (content, mac) =
            object.split_last_chunk::<DIGEST_BYTES>().ok_or_else(|| damaged("it is cut"))?;
        let (body, digest) =
            content.split_last_chunk::<DIGEST_BYTES>().ok_or_else(|| damaged("it is cut"))?;
        if sha256(body) != *digest {
            return Err(damaged("its SHA-256 does not fit"));
        }
        let json = body
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.split_first_chunk::<4>())
            .filter(|(length, json)| u32::from_le_bytes(**length) as usize == json.len())
            .map(|(_, json)| json)
            .filter(|json| json.len() <= MAX_JSON_BYTES)
            .ok_or_else(|| damaged("its length does not fit"))?;
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
        Ok(Self {
            repository,
            cipher,
            read_only: !json.features.read_only.is_empty(),
            min_collector: json.min_collector,
            name: name.to_owned(),
            content: content.to_vec(),
            mac: *mac,
        })
    }

    /// Checks that a holder of the key has written it.
    pub(crate) fn verify(&self, keys: &Keyring) -> Result<()> {
        let expected = match self.cipher {
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
            let config = Config::parse("config/0", &object).unwrap();
            config.verify(&keys).unwrap();
            assert_eq!((config.repository, config.cipher), (keys.repository, keys.cipher));
            for position in 0..object.len() {
                let mut damaged = object.clone();
                damaged[position] ^= 0x20;
                let read = Config::parse("config/0", &damaged).and_then(|c| c.verify(&keys));
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
            Config::parse("config/0", &object)
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
