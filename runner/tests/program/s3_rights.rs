//! What a writer needs of a bucket and no more, by the very text of `docs/storage.md`; and
//! servers that do not keep what exists from being replaced.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::proxy::{Act, Proxy};
use crate::s3_server::{ACCESS_KEY, Kind, SECRET_KEY, Server};
use crate::support::{Ended, Place, noise, write_secret};

/// The bucket of the documentation, and the prefix.
const BUCKET: &str = "acme-backups";
const REPOSITORY: &str = "s3://acme-backups/shop";

/// Writes keys into a folder.
fn write_keys(folder: &Path, keys: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, key) in keys {
        write_secret(&folder.join(name), key.as_bytes());
    }
}

/// A policy of the documentation, which is marked there.
fn documented_policy(mark: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/storage.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, after) = page.split_once(&format!("<!-- {mark} -->")).unwrap();
    let (_, after) = after.split_once("```json\n").unwrap();
    after.split_once("```").unwrap().0.to_owned()
}

/// Sends a request until it is answered well: a server that listens may not be ready, and
/// its parts (buckets, roles) become so one after the other. Gives the answer.
fn ask(server: &Server, service: &str, request: (&str, &str), body: &str) -> String {
    let mut answer = String::new();
    for _ in 0..200 {
        answer = send(server, service, request, body);
        if answer.starts_with("HTTP/1.1 200") {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{request:?}: {answer}\n{}", server.log());
}

/// Sends a request that is signed (Signature Version 4 of AWS) and gives the answer.
fn send(server: &Server, service: &str, (method, path): (&str, &str), body: &str) -> String {
    let sign = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let sha256 =
        |text: &str| HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let now = jiff::Timestamp::now();
    let (time, day) = (now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d").to_string());
    let (host, content) = (format!("127.0.0.1:{}", server.port), sha256(body));
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let request = format!(
        "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{content}\nx-amz-date:{time}\n\n\
         {signed}\n{content}"
    );
    let scope = format!("{day}/us-east-1/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(&request));
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in [&*day, "us-east-1", service, "aws4_request", &*text] {
        key = sign(&key, part);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
         x-amz-date: {time}\r\nx-amz-content-sha256: {content}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={signed}, \
         Signature={}\r\n\r\n{body}",
        body.len(),
        HEXLOWER.encode(&key)
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn make_bucket(server: &Server) {
    ask(server, "s3", ("PUT", &format!("/{BUCKET}")), "");
}

/// Writes keys into a folder that have no more rights than the policy gives.
fn write_keys_with_rights(server: &Server, folder: &Path, policy: &str) {
    let form = format!(
        "Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600&Policy={}",
        utf8_percent_encode(policy, NON_ALPHANUMERIC)
    );
    let answer = ask(server, "sts", ("POST", "/"), &form);
    let given = |name: &str| {
        let (_, after) = answer.split_once(&format!("<{name}>")).unwrap();
        after.split_once('<').unwrap().0.to_owned()
    };
    write_keys(
        folder,
        &[
            ("accessKeyId", &given("AccessKeyId")),
            ("secretAccessKey", &given("SecretAccessKey")),
            ("sessionToken", &given("SessionToken")),
        ],
    );
}

fn command(place: &Place, endpoint: &str, keys: &str, arguments: &[&str]) -> Ended {
    let mut command: Command = place.command(arguments);
    command.args(["--s3-endpoint", endpoint, "--s3-path-style"]);
    command.arg("--s3-credentials-dir").arg(place.path(keys)).output().unwrap().into()
}

#[test]
fn a_writer_with_the_documented_rights_stores_and_cannot_delete() {
    let server = Server::start(Kind::Minio);
    make_bucket(&server);
    let place = Place::at_address(tempfile::tempdir().unwrap(), REPOSITORY.to_owned());
    let policy = documented_policy("the policy that a test uses");
    write_keys_with_rights(&server, &place.path("writer"), &policy);
    let owner = [("accessKeyId", ACCESS_KEY), ("secretAccessKey", SECRET_KEY)];
    write_keys(&place.path("owner"), &owner);
    let call =
        |keys: &str, arguments: &[&str]| command(&place, &server.endpoint(), keys, arguments);

    call("writer", &["init"]).well();
    std::fs::write(place.path("content"), noise(1, 1 << 20)).unwrap();
    let path = place.path("content");
    let path = path.to_str().unwrap();
    let stored = call("writer", &["store", "name", "--path", path, "--json"]).well();
    let stored: serde_json::Value = serde_json::from_str(stored.text()).unwrap();
    let id = stored["id"].as_str().unwrap();
    call("writer", &["check", "--level", "data"]).well();
    let target = place.path("target");
    call("writer", &["fetch", id, "--target", target.to_str().unwrap()]).well();

    call("writer", &["forget", "--snapshot", id]).well();
    let ended = call("writer", &["prune"]);
    assert_eq!(ended.code, Some(67), "{}{}", ended.text(), ended.err);
    assert!(ended.err.contains("(StoragePermissionDenied)"), "{}", ended.err);
    call("owner", &["prune"]).well();
}

#[test]
fn a_reader_with_the_documented_rights_gets_everything_back_and_writes_nothing() {
    let server = Server::start(Kind::Minio);
    make_bucket(&server);
    let place = Place::at_address(tempfile::tempdir().unwrap(), REPOSITORY.to_owned());
    let policy = documented_policy("the reader's policy that a test uses");
    write_keys_with_rights(&server, &place.path("reader"), &policy);
    write_keys(
        &place.path("owner"),
        &[("accessKeyId", ACCESS_KEY), ("secretAccessKey", SECRET_KEY)],
    );
    let call =
        |keys: &str, arguments: &[&str]| command(&place, &server.endpoint(), keys, arguments);
    let content = noise(1, 1 << 20);
    std::fs::write(place.path("content"), &content).unwrap();
    let path = place.path("content");
    let path = path.to_str().unwrap();
    call("owner", &["init"]).well();
    let stored = call("owner", &["store", "name", "--path", path, "--json"]).well();
    let stored: serde_json::Value = serde_json::from_str(stored.text()).unwrap();
    let id = stored["id"].as_str().unwrap();

    call("reader", &["check", "--level", "data", "--read-only"]).well();
    let target = place.path("target");
    call("reader", &["fetch", id, "--read-only", "--target", target.to_str().unwrap()]).well();
    assert_eq!(std::fs::read(&target).unwrap(), content);
    for arguments in [
        &["store", "name", "--path", path, "--read-only"][..],
        &["forget", "--snapshot", id, "--read-only"],
        &["prune", "--read-only"],
    ] {
        let ended = call("reader", arguments);
        assert!(ended.err.contains("(RepositoryReadOnly)\nhint: "), "{}", ended.err);
    }
    let ended = call("reader", &["fetch", id, "--target", target.to_str().unwrap()]);
    assert!(ended.err.contains("(StoragePermissionDenied)"), "{}", ended.err);
}

/// moto, which checks no signature: a request may lose a header that was signed.
#[test]
fn a_server_that_replaces_what_exists_is_refused_with_what_to_do() {
    let server = Server::start(Kind::Moto);
    make_bucket(&server);
    let place = Place::at_address(tempfile::tempdir().unwrap(), REPOSITORY.to_owned());
    let keys = [("accessKeyId", ACCESS_KEY), ("secretAccessKey", SECRET_KEY)];
    write_keys(&place.path("keys"), &keys);
    let path = place.path("keys/accessKeyId");
    let path = path.to_str().unwrap();
    command(&place, &server.endpoint(), "keys", &["init"]).well();

    let threads = tokio::runtime::Runtime::new().unwrap();
    let proxy = threads.block_on(Proxy::before(server.port, |_| Act::Without("if-none-match")));
    for arguments in [&["init"][..], &["store", "name", "--path", path]] {
        let ended = command(&place, &proxy.endpoint(), "keys", arguments);
        assert_eq!(ended.code, Some(73), "{}", ended.err);
        assert!(ended.err.contains("replaces what exists"), "{}", ended.err);
        assert!(ended.err.contains("(StorageUnsuitable)\nhint: "), "{}", ended.err);
    }
}
