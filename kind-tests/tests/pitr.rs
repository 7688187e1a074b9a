//! A whole server comes back as it was at a moment, on a claim of its own; what cannot be is
//! refused before anything is made, and what is not ours is left alone.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::runner::pods_of;
use dbbackup_kind_tests::{Scenario, Server, backup, create_repository, kubectl, schedule};
use jiff::Timestamp;
use serde_json::Value;

/// A schedule `nightly` of bases, whose log is archived.
fn archiving() -> String {
    let yaml = schedule("nightly", "shop-db", "{}", "{}").replace("      databases: {}\n", "");
    let wanted =
        "  method: Physical\n  pointInTimeRecovery: {enabled: true, maxLag: 1s}\n  schedule:";
    yaml.replace("  schedule:", wanted)
}

/// YAML of a recovery.
fn recovery(name: &str, target: &str, claim: &str) -> String {
    format!(
        r"
apiVersion: dbbackup.dev/v1alpha1
kind: PitrRestore
metadata: {{name: {name}}}
spec:
  from: {{scheduleRef: {{name: nightly}}}}
  recoveryTarget: {target}
  image: localhost/postgres:17
  to: {{volumeClaim: {claim}}}
"
    )
}

const TEMPLATE: &str = "{template: {size: 2Gi}}";

/// A server with a base, whose log is archived.
fn with_base(scenario: &Scenario) -> Server<'_> {
    let server = Server::start(scenario);
    server.create_database("shop", 1000);
    create_repository(scenario);
    scenario.apply(&archiving());
    let _ = scenario.wait_for_condition("backupschedule/nightly", "LogArchived");
    scenario.apply(&backup("base", "nightly"));
    let base = scenario.wait_for_condition("backup/base", "Complete");
    assert_eq!(base["status"]["method"]["used"], "Physical");
    server
}

/// The server's own clock.
fn clock(server: &Server<'_>) -> Timestamp {
    let format = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";
    let sql = format!("select to_char(clock_timestamp() at time zone 'UTC', '{format}')");
    server.sql("shop", &sql).parse().unwrap()
}

/// Waits until all up to this time is archived.
fn wait_until_kept(scenario: &Scenario, time: Timestamp) {
    scenario.wait_until("the log is archived", || {
        let schedule = scenario.object("backupschedule/nightly");
        let kept = schedule["status"]["log"]["keptTime"].as_str()?.parse::<Timestamp>().ok()?;
        (kept >= time).then_some(())
    });
}

/// Runs SQL on a server that is started on a claim, which a pod of the claim's name keeps.
fn sql_on(scenario: &Scenario, claim: &str, sql: &str) -> String {
    scenario.apply(&RECOVERED.replace("CLAIM", claim));
    let pod = format!("pod/{claim}");
    scenario.kubectl(&["wait", &pod, "--for=condition=Ready", "--timeout=180s"]);
    let psql =
        "psql --no-psqlrc --quiet --tuples-only --no-align --username=postgres --dbname shop";
    let arguments: Vec<_> =
        ["exec", "--stdin", &pod, "--"].into_iter().chain(psql.split(' ')).collect();
    scenario.kubectl_with_input(&arguments, sql).unwrap()
}

/// Whether a claim is there.
fn has_claim(scenario: &Scenario, name: &str) -> bool {
    scenario.object(&format!("pvc/{name}")) != Value::Null
}

const DIGEST: &str =
    "select count(*) || ':' || md5(string_agg(i::text, ',' order by id)) from items i";

#[test]
fn a_server_comes_back_as_it_was_between_two_commits_and_the_live_one_is_left_alone() {
    let scenario = Scenario::begin("pitr");
    let server = with_base(&scenario);
    server.sql("shop", "insert into items values (-1, 'newer than the base', 0)");
    let wanted = server.digest_of_items("shop");
    let before = clock(&server);
    server.sql("shop", "delete from items");
    wait_until_kept(&scenario, clock(&server));

    scenario.apply(&recovery("before", &format!("{{time: '{before}'}}"), TEMPLATE));
    let done = scenario.wait_for_condition("pitrrestore/before", "Complete");
    let status = &done["status"];
    assert_eq!(status["phase"], "Succeeded");
    assert_eq!(
        status["base"]["snapshotId"],
        scenario.object("backup/base")["status"]["snapshotId"]
    );
    assert_eq!(
        (&status["volumeClaimName"], &status["reached"]["timeline"]),
        (&"before".into(), &2.into())
    );
    assert_eq!(status["reached"]["lsn"], status["resolvedTarget"]["lsn"]);
    let words = status["display"].as_str().unwrap();
    assert!(words.starts_with("recovered to ") && words.contains("on the claim before"), "{words}");
    assert_eq!(scenario.object("pvc/before")["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(sql_on(&scenario, "before", DIGEST), wanted);
    // It is a server of its own by now, and takes writes.
    sql_on(&scenario, "before", "insert into items values (-2, 'on its own', 0)");
    assert_eq!(server.sql("shop", "select count(*) from items"), "0");

    // A recovered server outlives its request.
    scenario.kubectl(&["delete", "pitrrestore/before", "--timeout=60s"]);
    scenario.wait_until("no Job of it is left", || {
        pods_of(&scenario, "before").is_empty().then_some(())
    });
    assert_eq!(sql_on(&scenario, "before", "select count(*) from items"), "1002");
}

#[test]
fn all_that_was_archived_comes_back_by_its_series_alone_and_goes_with_its_request() {
    let scenario = Scenario::begin("pitr-latest");
    let server = with_base(&scenario);
    server.sql("shop", "insert into items values (-1, 'the last one', 0)");
    let wanted = server.digest_of_items("shop");
    wait_until_kept(&scenario, clock(&server));
    let uid = "jsonpath={.metadata.uid}";
    let cluster = kubectl(&["get", "namespace/kube-system", "--output", uid]).unwrap();
    scenario.kubectl(&["delete", "dbbs/nightly", "--timeout=180s"]);

    let series = format!("{cluster}/{}/nightly", scenario.namespace());
    let from = format!("{{repositoryRef: {{name: main}}, series: {series}}}");
    let yaml = recovery("latest", "{latest: {}}", "{template: {size: 2Gi}, reclaimPolicy: Delete}");
    scenario.apply(&yaml.replace("{scheduleRef: {name: nightly}}", &from));
    let _ = scenario.wait_for_condition("pitrrestore/latest", "Complete");
    assert_eq!(sql_on(&scenario, "latest", DIGEST), wanted);
    scenario.kubectl(&["delete", "pod/latest", "pitrrestore/latest", "--timeout=60s"]);
    scenario.wait_until("the claim is gone", || (!has_claim(&scenario, "latest")).then_some(()));
}

#[test]
fn what_cannot_be_reached_is_refused_with_the_window_before_a_claim_is_made() {
    let scenario = Scenario::begin("pitr-unreachable");
    let server = with_base(&scenario);
    let now = clock(&server);
    wait_until_kept(&scenario, now);
    for (name, target) in [
        ("too-early", "{time: '2001-01-01T00:00:00Z'}".to_owned()),
        ("to-come", "{time: '2099-01-01T00:00:00Z'}".to_owned()),
        ("no-such-point", "{name: nobody-made-it}".to_owned()),
    ] {
        scenario.apply(&recovery(name, &target, TEMPLATE));
        let what = format!("pitrrestore/{name}");
        let failed = scenario.wait_for_failure(&what, "TargetUnreachable", &[]);
        let window = &failed["status"]["recoveryWindow"];
        assert!(window["earliest"].is_string() && window["latest"].is_string(), "{failed}");
        assert!(!has_claim(&scenario, name), "{name}");
    }
    scenario.apply(&recovery("small", "{latest: {}}", "{template: {size: 1Mi}}"));
    let failed = scenario.wait_for_failure("pitrrestore/small", "VolumeTooSmall", &["size is 1Mi"]);
    assert!(failed["status"]["neededBytes"].as_u64().unwrap() > 1 << 20, "{failed}");
    assert!(!has_claim(&scenario, "small"));
}

#[test]
fn an_image_that_is_no_servers_is_refused_and_one_that_is_not_there_is_told() {
    let scenario = Scenario::begin("pitr-image");
    let server = with_base(&scenario);
    wait_until_kept(&scenario, clock(&server));
    let with_image = |name: &str, image: &str| {
        let yaml = recovery(name, "{latest: {}}", TEMPLATE);
        scenario.apply(&yaml.replace("localhost/postgres:17", image));
    };
    with_image("no-server", "localhost/dbbackup-runner:dev");
    scenario.wait_for_failure("pitrrestore/no-server", "ServerImageUnsuitable", &[]);
    with_image("nowhere", "localhost/nowhere:17");
    let (_, message) = scenario.wait_for_reason("pitrrestore/nowhere", "ImagePullFailed");
    let words = "the image localhost/nowhere:17, which spec.image names, cannot be pulled";
    assert!(message.contains(words) && message.contains("job.startTimeout"), "{message}");
}

#[test]
fn a_claim_with_anything_else_on_it_is_left_as_it_is() {
    let scenario = Scenario::begin("pitr-claim");
    let server = with_base(&scenario);
    wait_until_kept(&scenario, clock(&server));
    // One that is named is waited for.
    scenario.apply(&recovery("onto", "{latest: {}}", "{name: mine}"));
    scenario.wait_for_reason("pitrrestore/onto", "ClaimNotFound");
    let in_it = |pod: &str, command: &str| {
        let yaml = SHELL.replace("NAME", pod).replace("COMMAND", command);
        scenario.apply(&yaml);
        let done = format!("pod/{pod}");
        let ended = "--for=jsonpath={.status.phase}=Succeeded";
        scenario.kubectl(&["wait", &done, ended, "--timeout=90s"]);
        scenario.kubectl(&["logs", &done])
    };
    // Not made with its content in one step: the recovery must not come between.
    scenario.kubectl(&["delete", "pitrrestore/onto", "--timeout=60s"]);
    scenario.apply(&MINE.replace("NAME", "mine"));
    in_it("writer", "echo mine > /claim/diary");
    scenario.apply(&recovery("onto", "{latest: {}}", "{name: mine}"));
    scenario.wait_for_failure("pitrrestore/onto", "VolumeNotEmpty", &[]);
    let left = in_it("reader", "ls -A /claim | grep -v lost+found; cat /claim/diary");
    assert_eq!(left, "diary\nmine");

    // Nor is one taken that has the name by chance.
    scenario.apply(&MINE.replace("NAME", "by-chance"));
    scenario.apply(&recovery("by-chance", "{latest: {}}", TEMPLATE));
    let words = ["by-chance exists already"];
    scenario.wait_for_failure("pitrrestore/by-chance", "VolumeNotEmpty", &words);
}

const MINE: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: NAME}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 2Gi}}
";

const SHELL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, fsGroupChangePolicy: OnRootMismatch, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: shell
    image: localhost/postgres:17
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'COMMAND']
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: claim, mountPath: /claim}]
  volumes: [{name: claim, persistentVolumeClaim: {claimName: mine}}]
";

/// The server's own image on the claim, as docs/pitr.md says: it finds its data there.
const RECOVERED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: CLAIM}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, fsGroupChangePolicy: OnRootMismatch, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: postgresql
    image: localhost/postgres:17
    imagePullPolicy: IfNotPresent
    readinessProbe: {tcpSocket: {port: 5432}, periodSeconds: 1}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /var/lib/postgresql/data}, {name: run, mountPath: /tmp}]
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: CLAIM}}
  - {name: run, emptyDir: {medium: Memory}}
";
