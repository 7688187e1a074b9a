//! Where the program finds who it is, when no keys are said. AWS itself cannot be had
//! here: small servers of the test's own answer as its services do, and what they
//! give is what the S3 server asks for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::s3::Bucket;
use crate::s3_server::{ACCESS_KEY, SECRET_KEY};
use crate::support::{Ended, write_secret};

/// A request: its first line and headers, and its body.
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Answers requests on a port of its own until it is dropped.
pub(crate) struct Service {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Service {
    /// `answer` gives status and body.
    pub(crate) fn start(answer: impl Fn(&Request) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                // An empty request is the one that ends it.
                let Some(request) = read(connection.as_ref().unwrap()) else { return };
                let first = request.head.lines().next().unwrap().to_owned();
                noted.lock().unwrap().push(first);
                let (status, body) = answer(&request);
                let _ = write!(
                    connection.unwrap(),
                    "HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\
                     x-aws-ec2-metadata-token-ttl-seconds: 21600\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { port, seen, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        let _ = self.thread.take().unwrap().join();
    }
}

fn read(connection: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body: String::from_utf8(body).unwrap() })
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Without a session token: the S3 server knows which ones it gave out, and these keys
/// are not of a session.
fn keys_as_json() -> String {
    format!(
        r#"{{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "{ACCESS_KEY}",
            "SecretAccessKey": "{SECRET_KEY}", "Token": "",
            "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}}"#
    )
}

/// `init` with these variables of the environment and no keys in flags.
fn init(bucket: &Bucket, variables: &[(&str, &str)]) -> Ended {
    let mut command = bucket.command(&["init"]);
    command.env("HOME", bucket.place.folder.path()).envs(variables.iter().copied());
    command.output().unwrap().into()
}

#[test]
fn a_token_of_the_cluster_is_exchanged_for_keys() {
    let bucket = Bucket::new();
    let token = bucket.place.path("token");
    write_secret(&token, b"a-token-of-the-cluster");
    let sts = Service::start(|request| {
        assert!(request.body.contains("Action=AssumeRoleWithWebIdentity"), "{}", request.body);
        assert!(request.body.contains("WebIdentityToken=a-token-of-the-cluster"));
        let body = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:aws:sts::1:x</Arn>\
             <AssumedRoleId>x</AssumedRoleId></AssumedRoleUser><Credentials>\
             <AccessKeyId>{ACCESS_KEY}</AccessKeyId>\
             <SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken></SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        );
        (200, body)
    });
    // What EKS puts into a pod whose service account has a role.
    let role = "arn:aws:iam::123456789012:role/backup";
    let variables = [
        ("AWS_ROLE_ARN", role),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_STS", &sts.address()),
    ];
    init(&bucket, &variables).well();
    assert_eq!(sts.seen().len(), 1, "{:?}", sts.seen());
}

#[test]
fn a_role_that_trusts_somebody_else_is_denied_in_the_words_of_the_service() {
    let bucket = Bucket::new();
    let token = bucket.place.path("token");
    write_secret(&token, b"a-token-of-the-cluster");
    let sts = Service::start(|_| {
        let body = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
             <Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform \
             sts:AssumeRoleWithWebIdentity</Message></Error><RequestId>1</RequestId>\
             </ErrorResponse>";
        (403, body.to_owned())
    });
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_STS", &sts.address()),
    ];
    let ended = init(&bucket, &variables);
    assert_eq!(ended.code, Some(67), "{}", ended.err);
    assert!(ended.err.contains("Not authorized to perform sts:Assume"), "{}", ended.err);
    assert!(!ended.err.contains("a-token-of-the-cluster"), "{}", ended.err);
}

#[test]
fn an_agent_on_the_node_gives_keys_to_who_shows_its_token() {
    let bucket = Bucket::new();
    let token = bucket.place.path("token");
    write_secret(&token, b"pod-token");
    let agent = Service::start(|request| match header(&request.head, "authorization") {
        Some("pod-token") => (200, keys_as_json()),
        _ => (401, String::new()),
    });
    // What EKS pod identity puts into a pod.
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*format!("{}/v1/credentials", agent.address())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
    ];
    init(&bucket, &variables).well();
    assert_eq!(agent.seen(), ["GET /v1/credentials HTTP/1.1"]);
}

#[test]
fn a_machine_gives_the_keys_of_its_role() {
    let bucket = Bucket::new();
    let metadata = Service::start(|request| {
        let first = request.head.lines().next().unwrap();
        let path = first.split(' ').nth(1).unwrap();
        if first.starts_with("PUT /latest/api/token ") {
            return (200, "session".to_owned());
        }
        assert_eq!(header(&request.head, "x-aws-ec2-metadata-token"), Some("session"));
        match path {
            "/latest/meta-data/iam/security-credentials/" => (200, "backup".to_owned()),
            "/latest/meta-data/iam/security-credentials/backup" => (200, keys_as_json()),
            _ => (404, String::new()),
        }
    });
    init(&bucket, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.address())]).well();
    assert!(metadata.seen().len() >= 3, "{:?}", metadata.seen());
}

#[test]
fn a_profile_of_a_file_gives_keys() {
    let bucket = Bucket::new();
    let file = bucket.place.path("profiles");
    let text = format!(
        "[backup]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    );
    write_secret(&file, text.as_bytes());
    let file = file.to_str().unwrap();
    init(&bucket, &[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", "backup")]).well();
}

#[test]
fn nobody_is_not_somebody() {
    let bucket = Bucket::new();
    let ended = init(&bucket, &[("AWS_EC2_METADATA_DISABLED", "true")]);
    assert_eq!(ended.code, Some(64), "{}", ended.err);
    assert!(ended.err.contains("no credentials are said"), "{}", ended.err);
    assert!(ended.err.contains("(InvalidSpec)"), "{}", ended.err);
}
