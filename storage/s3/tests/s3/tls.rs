//! Whom the driver believes to be the server.

use bytes::Bytes;
use dbbackup_storage::{ErrorKind, RetryPolicy, Store};
use dbbackup_storage_s3::{S3Options, S3Store};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::place::{Place, keys};
use crate::server::{ACCESS_KEY, Kind, SECRET_KEY, Server};

/// An authority of our own, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key of a server with this name or address.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

async fn open(place: &Place, endpoint: String, ca_pem: &str) -> dbbackup_storage::Result<S3Store> {
    S3Store::open(S3Options {
        endpoint: Some(endpoint),
        ca_pem: Some(ca_pem.as_bytes().to_vec()),
        retry: RetryPolicy { tries: 1, ..RetryPolicy::default() },
        ..place.options("x")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_prove_its_name_by_the_authority_that_was_said() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("127.0.0.1");
    let server = Server::start_with(Kind::Versity, Some((&certificate, &key)));
    let place = Place { server, keys: keys(ACCESS_KEY, SECRET_KEY) };
    let endpoint = place.server.endpoint();
    place.make_bucket_by(&ours.pem).await;

    let store = open(&place, endpoint.clone(), &ours.pem).await.unwrap();
    store.create("a", Bytes::from_static(b"1")).await.unwrap();

    let error = open(&place, endpoint.clone(), &others.pem).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("certificate is not accepted"), "{error}");

    let elsewhere = endpoint.replace("127.0.0.1", "localhost");
    let error = open(&place, elsewhere, &ours.pem).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");

    for nonsense in ["", "no certificate", &key] {
        let error = open(&place, endpoint.clone(), nonsense).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("the CA"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_to_a_server_without_it_is_a_mistake_of_the_options() {
    let place = Place::on(Kind::Versity).await;
    let endpoint = place.server.endpoint().replace("http:", "https:");
    let error = open(&place, endpoint, &Authority::new().pem).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}
