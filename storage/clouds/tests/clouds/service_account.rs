//! A service account of nobody.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use data_encoding::BASE64;

/// The account's name.
pub(crate) const NAME: &str = "backup@acme.iam.gserviceaccount.com";

/// A file of a new key, as Google Cloud gives it.
pub(crate) fn key_file() -> String {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----\\n",
        BASE64.encode(der.as_ref())
    );
    format!(
        "{{\"type\": \"service_account\", \"project_id\": \"acme\", \"private_key_id\": \"1\",\
          \"private_key\": \"{pem}\", \"client_email\": \"{NAME}\"}}"
    )
}
