//! The task of telling somebody, as a Job's pod has it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::{Ended, runner};

/// Takes one request and answers it; gives its path and its body.
fn receiver(status: &'static str) -> (u16, JoinHandle<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taking = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        stream.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = said.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        (first, serde_json::from_slice(&body).unwrap())
    });
    (port, taking)
}

struct Task {
    folder: tempfile::TempDir,
}

impl Task {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn secret(&self, key: &str, value: &str) {
        std::fs::create_dir_all(self.folder.path().join("hook")).unwrap();
        std::fs::write(self.folder.path().join("hook").join(key), value).unwrap();
    }

    fn run(&self) -> Ended {
        let file = |key: &str| {
            json!({"dir": self.folder.path().join("hook"), "key": key, "object": "the Secret hook",
                "namedBy": "notifications[ops].webhook of the BackupSchedule nightly"})
        };
        let task = json!({
            "version": 1, "stallTimeoutSeconds": 900, "workers": 2,
            "subject": {"kind": "Backup", "namespace": "shop", "name": "nightly-1", "uid": "u"},
            "action": {"notify": {
                "notice": {"version": 1, "id": "u-ops", "event": "Recovered", "cluster": "c",
                    "namespace": "shop", "schedule": "nightly", "notification": "ops",
                    "backup": {"name": "nightly-1", "uid": "u", "phase": "Succeeded"}},
                "channel": {"webhook": {"url": {"file": file("url")},
                    "authorization": file("authorization")}},
            }},
        });
        let path = self.folder.path().join("task.json");
        std::fs::write(&path, task.to_string()).unwrap();
        let mut program = runner(["run", "--task", path.to_str().unwrap()]);
        Ended::from(program.env("DBBACKUP_LOG", "trace").output().unwrap())
    }
}

#[test]
fn somebody_is_told_by_the_secrets_that_are_mounted_and_no_repository_is_needed() {
    let task = Task::new();
    let (port, taking) = receiver("200 OK");
    task.secret("url", &format!("http://127.0.0.1:{port}/services/T0000/XXXXXXXX\n"));
    task.secret("authorization", "Bearer hunter2hunter2\n");
    let ended = task.run();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let (first, body) = taking.join().unwrap();
    assert!(first.starts_with("POST /services/T0000/XXXXXXXX "), "{first}");
    assert_eq!((&body["event"], &body["id"]), (&json!("Recovered"), &json!("u-ops")));
    for secret in ["XXXXXXXX", "hunter2"] {
        assert!(!format!("{}{}", ended.text(), ended.err).contains(secret), "{}", ended.err);
    }
}

#[test]
fn who_refuses_ends_the_job_and_who_is_busy_does_not() {
    for (status, code) in [("404 Not Found", 75), ("503 Service Unavailable", 1)] {
        let task = Task::new();
        let (port, taking) = receiver(status);
        task.secret("url", &format!("http://127.0.0.1:{port}/services/XXXXXXXX"));
        task.secret("authorization", "Bearer hunter2hunter2");
        let ended = task.run();
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        taking.join().unwrap();
        assert!(ended.err.contains(&status[..3]), "{}", ended.err);
        assert!(!ended.err.contains("XXXXXXXX") && !ended.err.contains("hunter2"), "{}", ended.err);
    }
}

#[test]
fn a_secret_that_is_missing_is_named() {
    let task = Task::new();
    let ended = task.run();
    assert_eq!(ended.code, Some(68), "{}", ended.err);
    assert!(ended.err.contains("the Secret hook does not exist"), "{}", ended.err);
    assert!(ended.err.contains("of the BackupSchedule nightly"), "{}", ended.err);
    task.secret("url", "http://127.0.0.1:9/");
    let ended = task.run();
    assert!(ended.err.contains("the Secret hook has no key authorization"), "{}", ended.err);
}
