//! The signature of a webhook, by Standard Webhooks 1.0 (<https://www.standardwebhooks.com>):
//! HMAC-SHA256 over `ID.TIMESTAMP.BODY`. Libraries in most languages verify it.

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use dbbackup_contract::{Failure, SecretString};

use crate::invalid;

/// What stands before a key that is written in base64.
const PREFIX: &str = "whsec_";
/// A shorter key is guessed.
const LEAST_KEY: usize = 16;

/// A key that signs.
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    /// Reads a key: `whsec_` and base64, or the bytes themselves.
    pub(crate) fn read(text: &SecretString) -> Result<Self, Failure> {
        let text = text.expose();
        let bytes = match text.strip_prefix(PREFIX) {
            Some(encoded) => BASE64
                .decode(encoded.as_bytes())
                .map_err(|_| invalid("the signing key has no base64 after whsec_"))?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() < LEAST_KEY {
            let message = format!("the signing key is shorter than {LEAST_KEY} bytes");
            return Err(invalid(message));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of the header `webhook-signature`.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut signing = hmac::Context::with_key(&self.0);
        signing.update(format!("{id}.{timestamp}.").as_bytes());
        signing.update(body);
        format!("v1,{}", BASE64.encode(signing.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbbackup_contract::Reason;

    fn key(text: &str) -> Result<SigningKey, Failure> {
        SigningKey::read(&SecretString::new(text.to_owned()))
    }

    /// The example of the specification's reference implementations.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_told() {
        for bad in ["whsec_!!!", "whsec_c2hvcnQ=", "too little"] {
            let failure = key(bad).err().unwrap();
            assert_eq!(failure.reason, Reason::InvalidSpec);
            assert!(!failure.message.contains(bad), "{failure}");
        }
        assert!(key("sixteen bytes ok").is_ok());
    }
}
