//! Each class of failure: what a person is told of it, what is tried again, and
//! what must not be lost.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use dbbackup_kind_tests::runner::{name_of, on_the_repository, on_the_volume, pods_of};
use dbbackup_kind_tests::{
    CLAIM, Operator, Scenario, Server, SmallVolume, backup, create_objects, create_repository,
    kubectl, restore, schedule,
};

/// A server with a database, and a repository.
fn with_server(scenario: &Scenario, rows: u32) -> Server<'_> {
    let server = Server::start(scenario);
    server.create_database("shop", rows);
    create_repository(scenario);
    server
}

/// A server with a database whose restores take a while, and a backup of it: `done`.
fn with_backup(scenario: &Scenario) -> Server<'_> {
    let server = with_server(scenario, 2000);
    server.slow_restores_of("shop");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    scenario.apply(&backup("done", "nightly"));
    let _ = scenario.wait_for_condition("backup/done", "Complete");
    server
}

#[test]
fn a_server_that_cannot_be_reached_is_tried_again_and_told_by_every_means() {
    let scenario = Scenario::begin("unreachable");
    create_repository(&scenario);
    let elsewhere = |host: &str| {
        schedule(host, "shop-db", "{}", "{}").replace("host: shop-db", &format!("host: {host}"))
    };
    // Neither the name nor, at the other one's address, a server is there.
    scenario.apply(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: shop-db}\nstringData: {username: a, password: b}\n",
    );
    scenario.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: silent}\nspec: {ports: [{port: 5432}], selector: {app: none}}\n",
    );
    for (host, name) in [("nowhere", "no-host"), ("silent", "no-server")] {
        scenario.apply(&elsewhere(host));
        scenario.apply(&backup(name, host));
    }
    // While it goes on the column says what the last attempt failed with.
    let (column, message) = scenario.wait_for_reason("backup/no-host", "HostNotFound");
    assert!(column.starts_with("attempt ") && column.contains("nowhere"), "{column}");
    assert!(message.contains("nowhere") && message.contains("Check the spelling"), "{message}");

    for (name, reason, host) in
        [("no-host", "HostNotFound", "nowhere"), ("no-server", "ServerUnreachable", "silent")]
    {
        let what = format!("backup/{name}");
        let failed = scenario.wait_for_failure(&what, reason, &[host, "gave up after 4 attempts"]);
        assert_eq!(failed["status"]["attempts"], 4);
        scenario.assert_exit_code(name, 1);
        let metric = format!(
            "dbbackup_backup_last_failure{{namespace=\"e2e-unreachable\",reason=\"{reason}\",schedule=\"{host}\"}} 1"
        );
        scenario.wait_until(&format!("the metrics have {metric}"), || {
            Operator::metrics().contains(&metric).then_some(())
        });
    }
    let counted = Operator::metrics();
    assert!(counted.contains("dbbackup_failures_total{kind=\"Backup\",reason=\"HostNotFound\"}"));
    let (column, _) = scenario.wait_until("the schedule tells it", || {
        let object = scenario.object("backupschedule/nowhere");
        let column = object["status"]["display"].as_str()?.to_owned();
        column.contains("last failed: HostNotFound (no-host)").then_some((column, ()))
    });
    assert!(column.ends_with("never succeeded"), "{column}");
    let (_, message) = scenario.wait_for_reason("backupschedule/nowhere", "HostNotFound");
    for words in ["the last backup no-host failed: ", "Check the spelling"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn a_wrong_key_names_its_secret_and_a_corrected_one_is_seen_within_a_minute() {
    let scenario = Scenario::begin("keys");
    let _server = with_server(&scenario, 100);
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    let secret = |passphrase: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: other-key}}\nstringData: {{passphrase: {passphrase}}}\n"
        )
    };
    let object = "
apiVersion: dbbackup.dev/v1alpha1
kind: BackupRepository
metadata: {name: NAME}
spec:
  storage: {volume: {claimName: backups, path: dbbackup}}
  encryption: {keys: [{name: second, passphraseSecretRef: {name: other-key}}]}
";
    scenario.apply(&object.replace("NAME", "other"));
    let (column, _) = scenario.wait_for_reason("backuprepository/other", "SecretNotFound");
    assert!(column.contains("the Secret other-key does not exist"), "{column}");
    scenario.apply(&secret("not this one"));
    let (column, message) = scenario.wait_for_reason("backuprepository/other", "WrongKey");
    assert!(column.contains("does not open the repository"), "{column}");
    for words in [
        "the key passphrase of the Secret other-key",
        "encryption.keys[second].passphraseSecretRef of the BackupRepository other",
        "It is tried again within a minute.",
    ] {
        assert!(message.contains(words), "{message}");
    }
    scenario.wait_for_warning("backuprepository/other", "WrongKey");
    scenario.assert_exit_code("other", 69);
    // What refers to it waits, and says why.
    scenario
        .apply(&schedule("waiting", "shop-db", "{}", "{}").replace("name: main", "name: other"));
    scenario.apply(&backup("patient", "waiting"));
    let (column, _) = scenario.wait_for_reason("backup/patient", "ReferenceNotReady");
    assert!(column.contains("BackupRepository other is not ready: WrongKey"), "{column}");

    scenario.apply(&secret("correct horse battery staple"));
    let _ = scenario.wait_for_condition("backup/patient", "Complete");

    // A damaged slot is something else than a wrong key.
    let damage = "for slot in /repository/dbbackup/keys/*; do \
                    chmod u+w $slot && printf damaged | dd of=$slot bs=1 seek=40 conv=notrunc; \
                  done";
    on_the_volume(&scenario, damage);
    scenario.apply(&backup("damaged", "nightly"));
    scenario.wait_for_failure("backup/damaged", "KeySlotDamaged", &["key slot", "keys/"]);
    scenario.assert_exit_code("damaged", 72);
}

#[test]
fn a_full_volume_fails_the_backup_and_harms_no_other() {
    let scenario = Scenario::begin("full");
    let server = Server::start(&scenario);
    server.create_database("shop", 2000);
    let volume = SmallVolume::create(&scenario, 24);
    create_objects(&scenario);
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    scenario.apply(&backup("before", "nightly"));
    let _ = scenario.wait_for_condition("backup/before", "Complete");
    let before = server.digest_of_items("shop");

    // Five megabytes that cannot be compressed, and room for two.
    server.sql(
        "shop",
        "create table noise as select n, string_agg(sha512((n * 100 + m)::text::bytea), '') as bytes
         from generate_series(1, 1000) n, generate_series(1, 80) m group by n;
         update items set name = name || '!'",
    );
    volume.leave(2);
    scenario.apply(&backup("too-much", "nightly"));
    scenario.wait_for_failure("backup/too-much", "StorageFull", &["Make room on the volume"]);
    scenario.assert_exit_code("too-much", 74);
    assert_eq!(pods_of(&scenario, "too-much").len(), 1, "not tried again");

    volume.make_room();
    on_the_repository(&scenario, "checker", "[check, --level, data, REPOSITORY]");
    scenario.apply(&backup("after", "nightly"));
    let _ = scenario.wait_for_condition("backup/after", "Complete");
    for (name, expected) in [("before", before), ("after", server.digest_of_items("shop"))] {
        let as_name = format!("shop_{name}");
        scenario.apply(&restore(&format!("from-{name}"), name, "shop", &as_name));
        let what = format!("restorerequest/from-{name}");
        let _ = scenario.wait_for_condition(&what, "Complete");
        assert_eq!(server.digest_of_items(&as_name), expected, "{name}");
    }
}

#[test]
fn a_quota_is_told_while_the_pod_waits_and_is_the_reason_when_it_is_given_up() {
    let scenario = Scenario::begin("quota");
    let _server = with_server(&scenario, 100);
    // The server's pod is there already; none may come.
    scenario.apply(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: tight}\nspec: {hard: {pods: \"1\"}}\n",
    );
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{}"));
    scenario.apply(&schedule("hasty", "shop-db", "{}", "{startTimeout: 20s}"));
    scenario.apply(&backup("patient", "nightly"));
    scenario.apply(&backup("hasty", "hasty"));
    let (column, message) = scenario.wait_for_reason("backup/patient", "PodRejected");
    assert!(column.starts_with("starting: "), "{column}");
    for words in ["exceeded quota: tight", "Raise the quota", "It is given up at"] {
        assert!(message.contains(words), "{message}");
    }
    let words = ["exceeded quota: tight", "it was given up after 20s"];
    scenario.wait_for_failure("backup/hasty", "PodRejected", &words);
    scenario.wait_until("neither its Job stays nor that of the look ahead", || {
        let jobs = scenario.objects("jobs", "");
        (!jobs.iter().any(|job| name_of(job).starts_with("hasty"))).then_some(())
    });

    scenario.kubectl(&["delete", "resourcequota/tight"]);
    let done = scenario.wait_for_condition("backup/patient", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
}

#[test]
fn a_quota_of_backups_is_told_by_the_schedule_and_the_slot_is_not_lost() {
    let scenario = Scenario::begin("backup-quota");
    let _server = with_server(&scenario, 100);
    scenario.apply(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: none}\n\
         spec: {hard: {count/backups.dbbackup.dev: \"0\"}}\n",
    );
    let at_once = schedule("nightly", "shop-db", "{}", "{}");
    scenario.apply(&at_once.replace("  job: {}", "  immediate: true\n  job: {}"));
    let (column, message) = scenario.wait_for_reason("backupschedule/nightly", "BackupRejected");
    assert!(column.contains("could not be created"), "{column}");
    for words in ["exceeded quota: none", "Raise the quota"] {
        assert!(message.contains(words), "{message}");
    }

    scenario.kubectl(&["delete", "resourcequota/none"]);
    scenario.wait_until("the first backup is made", || {
        let schedule = scenario.object("backupschedule/nightly");
        (schedule["status"]["lastBackup"]["phase"] == "Succeeded").then_some(())
    });
}

#[test]
fn a_limit_range_that_forbids_what_a_job_needs_is_told_and_one_that_only_fills_in_does_no_harm() {
    let scenario = Scenario::begin("limit-range");
    let _server = with_server(&scenario, 100);
    let range = |limits: &str| {
        format!(
            "apiVersion: v1\nkind: LimitRange\nmetadata: {{name: range}}\n\
             spec: {{limits: [{{type: Container, {limits}}}]}}\n"
        )
    };
    scenario.apply(&schedule("nightly", "shop-db", "{}", "{startTimeout: 25s}"));
    for (name, limits, words) in [
        ("too-much", "max: {memory: 64Mi}", "maximum memory usage per Container is 64Mi"),
        ("too-little", "min: {memory: 1Gi}", "minimum memory usage per Container is 1Gi"),
    ] {
        scenario.apply(&range(limits));
        scenario.apply(&backup(name, "nightly"));
        let what = format!("backup/{name}");
        let (column, _) = scenario.wait_for_reason(&what, "PodRejected");
        assert!(column.contains(words), "{column}");
        scenario.wait_for_failure(&what, "PodRejected", &[words, "it was given up after 25s"]);
    }
    // Defaults are for what a Job does not say: memory it says always.
    let defaults = "default: {memory: 16Mi, cpu: 500m}, defaultRequest: {memory: 8Mi, cpu: 10m}";
    scenario.apply(&range(defaults));
    scenario.apply(&backup("filled-in", "nightly"));
    let _ = scenario.wait_for_condition("backup/filled-in", "Complete");
    let pods = pods_of(&scenario, "filled-in");
    let limits = &pods[0]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits["cpu"], "500m");
    assert_ne!(limits["memory"], "16Mi", "{limits}");
}

#[test]
fn memory_that_is_short_is_told_with_the_limit_and_with_what_to_write() {
    let scenario = Scenario::begin("memory");
    let _server = with_server(&scenario, 600_000);
    let job = "{resources: {limits: {memory: 12Mi}}}";
    scenario.apply(&schedule("nightly", "shop-db", "{}", job));
    scenario.apply(&backup("starved", "nightly"));
    let words = ["the limit is 12Mi", "240Mi", "gave up after 4 attempts"];
    scenario.wait_for_failure("backup/starved", "OutOfMemory", &words);
}

#[test]
fn a_server_that_stalls_is_given_up_and_tried_again() {
    let scenario = Scenario::begin("stalled");
    let server = with_server(&scenario, 1000);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{stallTimeout: 8s}"));
    // The sessions of the run stop in the middle, before they wait for too long.
    let lock = server.begin_held("stuck", "nightly");
    let sessions = server.sql(
        "postgres",
        "select string_agg(pid::text, ' ') from pg_stat_activity
         where backend_type = 'client backend' and application_name <> 'psql'",
    );
    let signal = |name: &str| {
        let kill = format!("kill -{name} {sessions}");
        scenario.try_kubectl(&["exec", "deploy/shop-db", "--", "sh", "-c", &kill])
    };
    signal("STOP").unwrap();
    drop(lock);
    let (column, message) = scenario.wait_for_reason("backup/stuck", "Stalled");
    assert!(column.contains("Stalled: "), "{column}");
    for words in ["no byte moved for 8 s", "the server does not answer", "Look for locks"] {
        assert!(message.contains(words), "{message}");
    }
    assert_second_attempt_succeeded(&scenario, "backup/stuck");
    // The server may have ended them meanwhile.
    let _ = signal("CONT");
}

fn assert_second_attempt_succeeded(scenario: &Scenario, what: &str) {
    let done = scenario.wait_for_condition(what, "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded");
    assert_eq!(done["status"]["attempts"], 2);
}

#[test]
fn a_restore_that_loses_its_lock_is_taken_up_and_puts_one_whole_database_in_place() {
    let scenario = Scenario::begin("lock");
    let server = with_backup(&scenario);
    scenario.apply(&restore("robbed", "done", "shop", "shop_again"));
    server.wait_for_slow_restore();
    let ended = server.sql(
        "postgres",
        "select count(pg_terminate_backend(pid))
           from (select distinct pid from pg_locks where locktype = 'advisory') holders",
    );
    assert_eq!(ended, "1", "one session holds the restore's locks");
    assert_second_attempt_succeeded(&scenario, "restorerequest/robbed");
    assert_eq!(server.digest_of_items("shop_again"), server.digest_of_items("shop"));
    assert_eq!(server.scratch_databases(), "");
}

#[test]
fn deleting_a_running_restore_drops_what_it_had_begun() {
    let scenario = Scenario::begin("unwanted");
    let server = with_backup(&scenario);
    scenario.apply(&restore("unwanted", "done", "shop", "shop_again"));
    server.wait_for_slow_restore();
    scenario.kubectl(&["delete", "restorerequest/unwanted", "--timeout=60s"]);
    scenario
        .wait_until("its pod is gone", || pods_of(&scenario, "unwanted").is_empty().then_some(()));
    assert_eq!(server.scratch_databases(), "");
    assert!(!server.has_database("shop_again"));
    assert!(server.has_database("shop"));
}

#[test]
fn a_namespace_that_is_deleted_while_a_backup_runs_goes_quietly() {
    let scenario = Scenario::begin("going");
    let server = with_server(&scenario, 100);
    scenario.apply(&schedule("nightly", "shop-db", "{include: [shop]}", "{}"));
    let _lock = server.begin_held("running", "nightly");
    let since = kubectl(&[
        "get",
        "backup/running",
        "--namespace",
        scenario.namespace(),
        "--output",
        "jsonpath={.metadata.creationTimestamp}",
    ])
    .unwrap();
    kubectl(&["delete", "namespace", scenario.namespace(), "--timeout=120s"]).unwrap();
    let complaints: Vec<_> = Operator::log_since(&since)
        .into_iter()
        .filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""))
        .filter(|line| line.contains("e2e-going") || line.contains("NamespaceTerminating"))
        .collect();
    assert!(complaints.len() <= 2, "{complaints:#?}");
}

#[test]
fn a_claim_that_is_missing_is_named_and_one_that_comes_is_used() {
    let scenario = Scenario::begin("claim");
    create_objects(&scenario);
    let (column, message) = scenario.wait_for_reason("backuprepository/main", "ClaimNotFound");
    assert!(column.contains("the PersistentVolumeClaim backups"), "{column}");
    assert!(
        message.contains("does not exist") && message.contains("It is given up at"),
        "{message}"
    );
    scenario.apply(CLAIM);
    let _ = scenario.wait_for_condition("backuprepository/main", "Ready");
}
