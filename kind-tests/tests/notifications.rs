//! Who is told how backups end, and what becomes of those who cannot be.

use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, schedule};
use serde_json::Value;

/// A receiver that prints what it is sent to `/ok…`, a line each, and knows no other path. The
/// image is there anyway, and Debian's Perl in it.
const RECEIVER: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData:
  url: http://hook:8080/ok/T0000/e2e-secret-path
  token: Bearer e2e-secret-token
  key: e2e-secret-signing-key
---
apiVersion: v1
kind: ConfigMap
metadata: {name: hook}
data:
  receive.pl: |
    use IO::Socket::INET;
    $| = 1;
    my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 16, ReuseAddr => 1) or die $!;
    while (my $client = $server->accept) {
      my $first = <$client> // next;
      my %header;
      while (defined(my $line = <$client>)) {
        $line =~ s/\r?\n$//;
        last if $line eq "";
        $header{lc $1} = $2 if $line =~ /^([^:]+):\s*(.*)$/;
      }
      read $client, my $body, $header{"content-length"} // 0;
      my $ok = $first =~ m{^POST /ok/T0000/e2e-secret-path } && $header{authorization} eq "Bearer e2e-secret-token";
      print "$header{'webhook-id'} $header{'webhook-signature'} $body\n" if $ok;
      my $status = $ok ? "204 No Content" : "404 Not Found";
      print $client "HTTP/1.1 $status\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
      close $client;
    }
---
apiVersion: v1
kind: Service
metadata: {name: hook}
spec:
  selector: {app: hook}
  ports: [{port: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: hook, labels: {app: hook}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: hook
      image: localhost/postgres:17
      imagePullPolicy: Never
      command: [perl, /program/receive.pl]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: program, mountPath: /program}]
      readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
  volumes: [{name: program, configMap: {name: hook}}]
"#;

const NOTIFICATIONS: &str = "[{name: ops, webhook: {urlSecretRef: {name: hook, key: url}, \
    authorizationSecretRef: {name: hook, key: token}, signingKeySecretRef: {name: hook, key: key}}}, \
    {name: nobody, webhook: {url: 'http://hook:8080/none'}}]";

/// A schedule of these databases that tells somebody.
fn telling(databases: &str) -> String {
    let nightly = schedule("nightly", "shop-db", databases, "{}");
    nightly.replace("  job: {}", &format!("  notifications: {NOTIFICATIONS}\n  job: {{}}"))
}

/// What the receiver has taken: id, signature, message.
fn taken(scenario: &Scenario) -> Vec<(String, String, Value)> {
    let log = scenario.kubectl(&["logs", "hook"]);
    let lines = log.lines().map(|line| {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (id, signature, body) = (part(), part(), part());
        (id, signature, serde_json::from_str(&body).unwrap_or_default())
    });
    lines.collect()
}

/// Waits until nothing is left to be told of a backup; gives what became of it, by name.
fn settled(scenario: &Scenario, name: &str) -> Vec<(String, Value)> {
    scenario.wait_until(&format!("who is to be told of {name} was"), || {
        let backup = scenario.object(&format!("backup/{name}"));
        let all = backup["status"]["notifications"].as_array().cloned().unwrap_or_default();
        let is_settled =
            |told: &Value| ["Sent", "Failed"].map(Value::from).contains(&told["phase"]);
        let told = all
            .into_iter()
            .map(|told| (told["name"].as_str().unwrap_or_default().to_owned(), told));
        let told: Vec<_> = told.collect();
        (!told.is_empty() && told.iter().all(|(_, told)| is_settled(told))).then_some(told)
    })
}

fn phases(told: &[(String, Value)]) -> Vec<(&str, &str)> {
    told.iter()
        .map(|(name, told)| (name.as_str(), told["phase"].as_str().unwrap_or_default()))
        .collect()
}

#[test]
fn a_failure_is_told_once_and_its_end_too_and_who_cannot_be_told_changes_no_backup() {
    let scenario = Scenario::begin("notifications");
    let server = Server::start(&scenario);
    server.create_database("shop", 100);
    create_repository(&scenario);
    scenario.apply(RECEIVER);
    scenario.kubectl(&["wait", "pod/hook", "--for=condition=Ready", "--timeout=90s"]);

    scenario.apply(&telling("{include: [missing]}"));
    scenario.apply(&backup("first", "nightly"));
    let failed = scenario.wait_for_condition("backup/first", "Failed");
    let told = settled(&scenario, "first");
    assert_eq!(phases(&told), [("ops", "Sent"), ("nobody", "Failed")]);
    let error = &told[1].1["error"];
    assert_eq!(error["reason"], "NotificationRefused", "{error}");
    assert!(error["message"].as_str().unwrap().contains("status 404"), "{error}");
    let warning = scenario.wait_for_warning("backup/first", "NotificationRefused");
    assert!(warning.starts_with("the notification nobody: the webhook at hook"), "{warning}");
    let after = scenario.object("backup/first");
    for field in ["phase", "conditions", "error", "display"] {
        assert_eq!(after["status"][field], failed["status"][field], "{field}");
    }
    let [(id, signature, message)] = &taken(&scenario)[..] else { panic!("not one message") };
    let uid = after["metadata"]["uid"].as_str().unwrap();
    assert_eq!(*id, format!("{uid}-ops"));
    assert!(signature.starts_with("v1,"), "{signature}");
    assert_eq!(message["event"], "Failed");
    assert_eq!(message["backup"]["name"], "first");
    assert_eq!(message["error"]["reason"], after["status"]["error"]["reason"]);
    scenario.wait_until("the schedule tells who could not be told", || {
        let conditions = scenario.object("dbbs/nightly")["status"]["conditions"].take();
        let notified = conditions.as_array()?.iter().find(|found| found["type"] == "Notified")?;
        (notified["status"] == "False").then(|| {
            let message = notified["message"].as_str().unwrap();
            assert!(message.starts_with("nobody: "), "{message}");
        })
    });

    // It goes on: who knows is not told again, who was not reached is tried again.
    scenario.apply(&backup("second", "nightly"));
    let _ = scenario.wait_for_condition("backup/second", "Failed");
    assert_eq!(phases(&settled(&scenario, "second")), [("nobody", "Failed")]);
    assert_eq!(taken(&scenario).len(), 1);

    scenario.apply(&telling("{include: [shop]}"));
    scenario.apply(&backup("third", "nightly"));
    let _ = scenario.wait_for_condition("backup/third", "Complete");
    assert_eq!(phases(&settled(&scenario, "third"))[0], ("ops", "Sent"));
    let all = taken(&scenario);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].2["event"], "Recovered");

    // What is secret of it stands nowhere but in the secret.
    let shown = scenario.kubectl(&["get", "dbbackup,jobs,pods,events", "--output", "yaml"]);
    let runners = ["logs", "--selector=dbbackup.dev/purpose=notify", "--tail=-1"];
    let shown = shown + &scenario.kubectl(&runners);
    assert!(!shown.contains("e2e-secret"), "{shown}");
}
