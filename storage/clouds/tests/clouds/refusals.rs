//! What is said wrongly, what a service does not allow, and whom the driver believes.

use bytes::Bytes;
use dbbackup_storage::{Creation, Error, ErrorKind, Operation, RetryPolicy, Store};
use dbbackup_storage_clouds::{CloudOptions, CloudStore};

use crate::authority::Authority;
use crate::place::Place;
use crate::proxy::{Act, Proxy, header};
use crate::server::{ACCOUNT_KEY, Kind, Server, Tls, sas};
use crate::service_account;

async fn refused(options: CloudOptions) -> Error {
    let retry = RetryPolicy { tries: 1, ..RetryPolicy::default() };
    CloudStore::open(CloudOptions { retry, ..options }).await.unwrap_err()
}

/// What is refused, and that nothing secret is told by it.
#[track_caller]
fn assert_refused(error: &Error, kind: ErrorKind, words: &str) {
    let shown = format!("{error} {error:?}");
    assert_eq!(error.kind, kind, "{shown}");
    assert!(error.to_string().contains(words), "{shown}");
    for secret in [ACCOUNT_KEY, "hunter2", "PRIVATE KEY"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_denied_and_not_told() {
    let place = Place::on(Kind::Azurite);
    let options = || place.options("x");
    place.write("accountKey", "aHVudGVyMg==");
    let error = refused(options()).await;
    assert_refused(
        &error,
        ErrorKind::PermissionDenied,
        "Server failed to authenticate the request",
    );
    place.write("accountKey", "hunter2!");
    let error = refused(options()).await;
    assert_refused(&error, ErrorKind::Misconfigured, "an account key is base64");
    place.write("sasToken", &sas("rlcwd").replace("sig=", "sig=hunter2"));
    let error = refused(options()).await;
    assert_refused(
        &error,
        ErrorKind::PermissionDenied,
        "Server failed to authenticate the request",
    );
    place.write("sasToken", "hunter2");
    let error = refused(options()).await;
    assert_refused(&error, ErrorKind::Misconfigured, "holds no signature");
    for name in ["sasToken", "accountKey"] {
        std::fs::remove_file(place.keys.path().join(name)).unwrap();
    }
    let error = refused(options()).await;
    assert_refused(&error, ErrorKind::Misconfigured, "neither");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_holds_no_credentials_of_google_is_refused_and_not_told() {
    let place = Place::on(Kind::FakeGcs);
    for content in [
        "hunter2".to_owned(),
        "{\"type\": \"external_account\", \"secret\": \"hunter2\"}".to_owned(),
        service_account::key_file().replace("BEGIN PRIVATE KEY-----", "BEGIN PRIVATE KEY-----no"),
    ] {
        place.write("key.json", &content);
        let error = refused(place.options("x")).await;
        assert_refused(&error, ErrorKind::Misconfigured, "holds neither a service account's key");
    }
    std::fs::remove_file(place.keys.path().join("key.json")).unwrap();
    let error = refused(place.options("x")).await;
    assert_refused(&error, ErrorKind::Misconfigured, "key.json does not exist");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_to_google_has_a_token_that_the_account_signed() {
    let place = Place::on(Kind::FakeGcs);
    let proxy = Proxy::before(place.server.port, |head| {
        let token = header(head, "authorization").unwrap().strip_prefix("Bearer ").unwrap();
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(parts.len(), 3, "header, claims and signature (RFC 7519)");
        let decoded = |part: &str| {
            let bytes = data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert!(decoded(parts[0]).contains("RS256"));
        assert!(decoded(parts[1]).contains(service_account::NAME));
        Act::Pass
    })
    .await;
    let store = CloudStore::open(place.behind(proxy.port())).await.unwrap();
    store.create("a", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_a_mistake_of_the_options() {
    for (kind, words) in
        [(Kind::Azurite, "there is no such container"), (Kind::FakeGcs, "azure://")]
    {
        let place = Place::on(kind);
        let error = refused(place.options_of("no-such-bucket", "x")).await;
        let words = if kind == Kind::Azurite { words } else { "gs://no-such-bucket/x" };
        assert_refused(&error, ErrorKind::Misconfigured, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_may_create_and_not_write_neither_replaces_nor_deletes() {
    let place = Place::on(Kind::Azurite);
    place.write("sasToken", &sas("rlc"));
    let store = place.open("x").await;
    assert_eq!(store.create("a", Bytes::from_static(b"1")).await.unwrap(), Creation::Created);
    assert_eq!(store.create("a", Bytes::from_static(b"2")).await.unwrap(), Creation::Exists);
    assert_eq!(store.get("a").await.unwrap(), "1");
    let error = store.delete("a").await.unwrap_err();
    assert_eq!((error.kind, error.operation), (ErrorKind::PermissionDenied, Operation::Delete));
    // The probe is there from before.
    place.open("x").await;
    place.write("sasToken", &sas("rl"));
    let error = refused(place.options("other")).await;
    assert_refused(&error, ErrorKind::PermissionDenied, "may not do that");
}

/// What Google Cloud says to who may create objects, but not delete them, where one exists.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_denied_to_replace_is_told_that_the_object_exists() {
    let place = Place::on(Kind::FakeGcs);
    place.open("x").await.create("a", Bytes::from_static(b"1")).await.unwrap();
    let proxy = Proxy::before(place.server.port, |head| match head.starts_with("POST") {
        true => Act::Answer(denied()),
        false => Act::Pass,
    })
    .await;
    let store = CloudStore::open(place.behind(proxy.port())).await.unwrap();
    assert_eq!(store.create("a", Bytes::from_static(b"2")).await.unwrap(), Creation::Exists);
    let error = store.create("b", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("does not have storage.objects"), "{error}");
}

fn denied() -> String {
    let body = "{\"error\": {\"code\": 403, \"message\": \"backup@acme does not have \
                storage.objects.delete access\", \"errors\": [{\"reason\": \"forbidden\"}]}}";
    let length = body.len();
    format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_something_else_is_a_mistake_of_the_options() {
    for kind in [Kind::Azurite, Kind::FakeGcs] {
        let place = Place::on(kind);
        for status in ["404 Not Found", "405 Method Not Allowed", "302 Found"] {
            let page = "<html><body>Welcome!</body></html>";
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{page}",
                page.len()
            );
            let proxy =
                Proxy::before(place.server.port, move |_| Act::Answer(answer.clone())).await;
            let error = refused(place.behind(proxy.port())).await;
            let kinds = [ErrorKind::Misconfigured, ErrorKind::Unsuitable];
            assert!(kinds.contains(&error.kind), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_prove_its_name_by_the_authority_that_was_said() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign("127.0.0.1");
    let tls = Tls { certificate: &certificate, key: &key, ca: &ours.pem };
    let server = Server::start_with(Kind::Azurite, Some(&tls));
    let place = Place::of(server);
    let with = |pem: &str| CloudOptions { ca_pem: Some(pem.into()), ..place.options("x") };

    let store = CloudStore::open(with(&ours.pem)).await.unwrap();
    store.create("a", Bytes::from_static(b"1")).await.unwrap();
    let error = refused(with(&others.pem)).await;
    assert_refused(&error, ErrorKind::Misconfigured, "certificate is not accepted");
    for nonsense in ["", "no certificate"] {
        let error = refused(with(nonsense)).await;
        assert_refused(&error, ErrorKind::Misconfigured, "the CA");
    }
    let plain = Place::on(Kind::FakeGcs);
    let endpoint = Some(plain.server.endpoint().replace("http:", "https:"));
    let error = refused(CloudOptions { endpoint, ..plain.options("x") }).await;
    assert_refused(&error, ErrorKind::Misconfigured, "does not speak TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_reads_needs_the_rights_to_read_and_writes_nothing() {
    let place = Place::on(Kind::Azurite);
    place.write("accountKey", ACCOUNT_KEY);
    let writer = CloudStore::open(place.options("x")).await.unwrap();
    assert_eq!(writer.create("a/b", Bytes::from_static(b"c")).await.unwrap(), Creation::Created);

    place.write("sasToken", &sas("rl"));
    // Where there is no probe from before.
    let error = refused(place.options("other")).await;
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    let options = CloudOptions { writable: false, ..place.options("x") };
    let reader = CloudStore::open(options).await.unwrap();
    assert_eq!(reader.get("a/b").await.unwrap(), "c");
    let refused = [
        (Operation::Create, reader.create("a/c", Bytes::new()).await.map(drop)),
        (Operation::Delete, reader.delete("a/b").await),
    ];
    for (operation, refused) in refused {
        let error = refused.unwrap_err();
        assert_eq!((error.kind, error.operation), (ErrorKind::PermissionDenied, operation));
        assert!(error.to_string().contains("opened for reading only"), "{error}");
    }
}
