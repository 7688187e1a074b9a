use aws_lc_rs::hmac;
use data_encoding::BASE64;
use dbbackup_contract::{Reason, WebhookFormat};
use dbbackup_notify::{Destination, Webhook};
use std::time::Duration;

use crate::authority::Authority;
use crate::receiver::{Answer, Receiver};
use crate::{notice, secret, sent};

fn webhook(url: &str) -> Webhook {
    Webhook {
        url: secret(url),
        format: WebhookFormat::Generic,
        authorization: None,
        signing_key: None,
        ca: None,
    }
}

fn to(receiver: &Receiver) -> Webhook {
    webhook(&format!("http://127.0.0.1:{}/hook", receiver.port))
}

#[tokio::test]
async fn a_webhook_gets_all_that_is_known_signed_and_with_its_authorization() {
    let receiver = Receiver::start(Answer::of(204), None).await;
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let destination = Destination::Webhook(Webhook {
        authorization: Some(secret("Bearer abc")),
        signing_key: Some(secret(key)),
        ..to(&receiver)
    });
    sent(&destination).await.unwrap();

    let got = &receiver.sent()[0];
    assert_eq!((got.method.as_str(), got.path.as_str()), ("POST", "/hook"));
    let header = |name: &str| got.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("authorization"), "Bearer abc");
    assert_eq!(header("webhook-id"), "5d0c-ops");
    // What a receiver does to verify it.
    let key = BASE64.decode(key.trim_start_matches("whsec_").as_bytes()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let said = format!("5d0c-ops.{}.", header("webhook-timestamp"));
    let signature = header("webhook-signature");
    let signature = BASE64.decode(signature.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
    hmac::verify(&key, &[said.as_bytes(), &got.body].concat(), &signature).unwrap();

    let mut body: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    let text = body.as_object_mut().unwrap().remove("text").unwrap();
    assert_eq!(body, serde_json::to_value(notice()).unwrap());
    let text = text.as_str().unwrap();
    assert!(text.starts_with("Backup failed: shop/nightly: ServerUnreachable: "), "{text}");
    assert!(!text.contains(char::is_control), "{text}");
}

#[tokio::test]
async fn a_chat_gets_a_text_and_nothing_else() {
    let receiver = Receiver::start(Answer::of(200), None).await;
    let destination =
        Destination::Webhook(Webhook { format: WebhookFormat::Slack, ..to(&receiver) });
    sent(&destination).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&receiver.sent()[0].body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    let text = body["text"].as_str().unwrap();
    assert!(text.starts_with("*Backup failed: shop/nightly: ServerUnreachable*\n"), "{text}");
}

#[tokio::test]
async fn what_another_try_may_change_is_retryable_and_the_rest_is_not() {
    for (status, reason) in [
        (500, Reason::NotificationFailed),
        (503, Reason::NotificationFailed),
        (429, Reason::NotificationFailed),
        (408, Reason::NotificationFailed),
        (400, Reason::NotificationRefused),
        (404, Reason::NotificationRefused),
        (410, Reason::NotificationRefused),
    ] {
        let answer = Answer { body: "invalid_token\n".into(), ..Answer::of(status) };
        let receiver = Receiver::start(answer, None).await;
        let failure = sent(&Destination::Webhook(to(&receiver))).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{failure}");
        let expected =
            format!("the webhook at 127.0.0.1 answered with status {status} (invalid_token)");
        assert_eq!(failure.message, expected);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(Answer::of(200), None).await;
    for status in [301, 302, 307, 308] {
        let location = Some(format!("http://127.0.0.1:{}/other", elsewhere.port));
        let receiver = Receiver::start(Answer { location, ..Answer::of(status) }, None).await;
        let failure = sent(&Destination::Webhook(to(&receiver))).await.unwrap_err();
        assert_eq!(failure.reason, Reason::NotificationRefused);
        assert!(failure.message.contains("redirects are not followed"), "{failure}");
        assert!(!failure.to_string().contains("/other"), "{failure}");
    }
    assert!(elsewhere.sent().is_empty());
}

#[tokio::test]
async fn no_failure_tells_the_address_or_what_was_sent_in_confidence() {
    let path = "services/T00000000/B11111111/XXXXXXXXXXXX";
    let body = format!("<pre>Cannot POST /{path}?token=very-secret as Bearer hunter2hunter2</pre>");
    let receiver = Receiver::start(Answer { body, ..Answer::of(404) }, None).await;
    let closed = {
        // Nobody listens there any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    for (port, reason) in
        [(receiver.port, Reason::NotificationRefused), (closed, Reason::NotificationFailed)]
    {
        let url = format!("http://me:pass-word@127.0.0.1:{port}/{path}?token=very-secret");
        let destination = Destination::Webhook(Webhook {
            authorization: Some(secret("Bearer hunter2hunter2")),
            ..webhook(&url)
        });
        let failure = sent(&destination).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{failure}");
        let told = format!("{failure} {failure:?} {destination:?}");
        for confidence in ["T00000000", "B11111111", "XXXX", "very-secret", "hunter2", "pass-word"]
        {
            assert!(!told.contains(confidence), "{confidence} in {told}");
        }
    }
    // The base64 of the user and the password that the address has.
    let body = "Authorization: Basic bWU6cGFzcy13b3Jk".to_owned();
    let receiver = Receiver::start(Answer { body, ..Answer::of(404) }, None).await;
    let url = format!("http://me:pass-word@127.0.0.1:{}/", receiver.port);
    let failure = sent(&Destination::Webhook(webhook(&url))).await.unwrap_err();
    assert!(!failure.message.contains("bWU6"), "{failure}");
    let basic = receiver.sent()[0].headers["authorization"].clone();
    assert_eq!(basic, "Basic bWU6cGFzcy13b3Jk");
    for bad in ["ftp://127.0.0.1/very-secret", "very-secret", "https://", "file:///etc/passwd"] {
        let failure = sent(&Destination::Webhook(webhook(bad))).await.unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(!failure.message.contains("very-secret"), "{failure}");
    }
}

#[tokio::test]
async fn an_authority_of_our_own_is_trusted_alone_and_a_wrong_one_or_name_is_refused() {
    let (ours, other) = (Authority::new(), Authority::new());
    let receiver = Receiver::start(Answer::of(200), Some(ours.sign("127.0.0.1"))).await;
    let url = format!("https://127.0.0.1:{}/hook", receiver.port);
    let trusting = |ca: Option<&str>| {
        let ca = ca.map(|pem| pem.as_bytes().to_vec());
        Destination::Webhook(Webhook { ca, ..webhook(&url) })
    };
    sent(&trusting(Some(&ours.pem))).await.unwrap();
    for ca in [Some(other.pem.as_str()), None] {
        let failure = sent(&trusting(ca)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::NotificationRefused, "{failure}");
        assert!(failure.message.contains("does not prove who it is"), "{failure}");
        assert!(failure.hint.contains("caRef"), "{failure}");
    }
    for none in ["", "no certificate"] {
        let failure = sent(&trusting(Some(none))).await.unwrap_err();
        assert_eq!(failure.reason, Reason::InvalidSpec, "{failure}");
    }
    let misnamed = Receiver::start(Answer::of(200), Some(ours.sign("example.com"))).await;
    let url = format!("https://127.0.0.1:{}/hook", misnamed.port);
    let ca = Some(ours.pem.clone().into_bytes());
    let failure = sent(&Destination::Webhook(Webhook { ca, ..webhook(&url) })).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NotificationRefused, "{failure}");
    assert_eq!((receiver.sent().len(), misnamed.sent().len()), (1, 0));
}

#[tokio::test]
async fn a_receiver_that_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let destination = Destination::Webhook(webhook(&url));
    let failure = destination.send(&notice(), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::NotificationFailed);
    assert_eq!(failure.message, "the webhook at 127.0.0.1 has not answered within 1 seconds");
}
