use std::time::Duration;

use dbbackup_contract::{Reason, SmtpTls};
use dbbackup_notify::{Credentials, Destination, Email};

use crate::authority::Authority;
use crate::mail_server::MailServer;
use crate::scripted::Scripted;
use crate::{notice, secret, sent};

fn email(port: u16, tls: SmtpTls) -> Email {
    Email {
        host: "127.0.0.1".into(),
        port,
        tls,
        from: "dbbackup@example.com".into(),
        to: vec!["ops@example.com".into(), "night@example.com".into()],
        credentials: None,
        ca: None,
    }
}

fn alice(password: &str) -> Option<Credentials> {
    Some(Credentials { username: secret("alice"), password: secret(password) })
}

fn trusting(authority: &Authority) -> Option<Vec<u8>> {
    Some(authority.pem.clone().into_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_by_each_protection_and_says_at_once_what_happened() {
    let ours = Authority::new();
    for (mode, tls) in
        [("starttls", SmtpTls::StartTls), ("tls", SmtpTls::Tls), ("none", SmtpTls::None)]
    {
        let secure = tls != SmtpTls::None;
        let server = MailServer::start(mode, secure.then(|| ours.sign("127.0.0.1")));
        let destination = Destination::Email(Email {
            credentials: alice("correct horse").filter(|_| secure),
            ca: trusting(&ours).filter(|_| secure),
            ..email(server.port, tls)
        });
        sent(&destination).await.unwrap();
        let mails = server.mails();
        let [mail] = mails.as_slice() else { panic!("{mode}: {} mails", mails.len()) };
        let (head, body) = mail.split_once("\n\n").unwrap();
        let head: Vec<&str> = head.lines().collect();
        for line in [
            "Subject: Backup failed: shop/nightly: ServerUnreachable",
            "From: dbbackup@example.com",
            "To: ops@example.com, night@example.com",
            "Message-ID: <5d0c-ops@example.com>",
            "Auto-Submitted: auto-generated",
        ] {
            assert!(head.contains(&line), "{line} is not in {head:#?}");
        }
        assert!(!mail.lines().any(|line| line.starts_with("Bcc")), "{mail}");
        assert!(body.contains("What to do: Check host and port"), "{mail}");
        assert!(
            body.contains("kubectl --namespace shop describe backup nightly-29391435"),
            "{mail}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_authority_or_name_is_refused_and_no_password_is_told() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = MailServer::start("starttls", Some(ours.sign("127.0.0.1")));
    let with = |password: &str, ca: Option<Vec<u8>>| {
        let email = email(server.port, SmtpTls::StartTls);
        Destination::Email(Email { credentials: alice(password), ca, ..email })
    };
    let failure = sent(&with("wrong horse", trusting(&ours))).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NotificationRefused);
    assert!(failure.message.contains("answered with 535"), "{failure}");
    assert!(!format!("{failure:?}").contains("wrong horse"), "{failure:?}");
    for ca in [trusting(&other), None] {
        let failure = sent(&with("correct horse", ca)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::NotificationRefused, "{failure}");
        assert!(failure.message.contains("does not prove who it is"), "{failure}");
    }
    let misnamed = MailServer::start("tls", Some(ours.sign("mail.example.com")));
    let email = email(misnamed.port, SmtpTls::Tls);
    let failure =
        sent(&Destination::Email(Email { ca: trusting(&ours), ..email })).await.unwrap_err();
    assert!(failure.message.contains("does not prove who it is"), "{failure}");
    assert!(server.mails().is_empty() && misnamed.mails().is_empty());
}

#[tokio::test]
async fn nothing_is_said_to_a_server_from_which_tls_was_stripped() {
    let server = Scripted::start(&[
        ("EHLO", "250-mail.example.com\r\n250 AUTH PLAIN LOGIN"),
        ("AUTH", "235 welcome"),
        ("QUIT", "221 bye"),
    ])
    .await;
    let destination = Destination::Email(Email {
        credentials: alice("correct horse"),
        ..email(server.port, SmtpTls::StartTls)
    });
    let failure = sent(&destination).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NotificationRefused, "{failure}");
    assert!(failure.message.contains("does not offer what is needed"), "{failure}");
    let beyond = |line: &String| !line.starts_with("EHLO") && line != "QUIT";
    assert!(!server.said().iter().any(beyond), "{:?}", server.said());
}

#[tokio::test]
async fn no_password_goes_over_a_plain_connection() {
    let server = Scripted::start(&[("EHLO", "250-mail\r\n250 AUTH PLAIN")]).await;
    let destination = Destination::Email(Email {
        credentials: alice("correct horse"),
        ..email(server.port, SmtpTls::None)
    });
    let failure = sent(&destination).await.unwrap_err();
    assert_eq!(failure.reason, Reason::InvalidSpec);
    assert!(server.said().is_empty());
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_one_that_says_no_is_not() {
    let busy = Scripted::start(&[
        ("EHLO", "250 mail.example.com"),
        ("MAIL", "451 4.3.0 try again later"),
        ("QUIT", "221 bye"),
    ]);
    let no = Scripted::start(&[
        ("EHLO", "250 mail.example.com"),
        ("MAIL", "250 ok"),
        ("RCPT", "550 5.1.1 no such user"),
        ("QUIT", "221 bye"),
    ]);
    for (server, reason, answer) in [
        (busy.await, Reason::NotificationFailed, "answered with 451 (4.3.0 try again later)"),
        (no.await, Reason::NotificationRefused, "answered with 550 (5.1.1 no such user)"),
    ] {
        let destination = Destination::Email(email(server.port, SmtpTls::None));
        let failure = sent(&destination).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.message.ends_with(answer), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let server = Scripted::start(&[]).await;
    let destination = Destination::Email(email(server.port, SmtpTls::None));
    let failure = destination.send(&notice(), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NotificationFailed);
    assert!(failure.message.ends_with("has not answered within 1 seconds"), "{failure}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_before_anything_is_sent() {
    for bad in ["", "ops", "ops@example.com\r\nBcc: all@example.com", "a b@example.com"] {
        let email = Email { to: vec![bad.into()], ..email(9, SmtpTls::None) };
        let failure = sent(&Destination::Email(email)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec, "{bad}");
    }
}
