//! Tricks of shells, SQL, paths, templates and terminals in every place where a person
//! or a server may write a text: nothing is executed, and everything goes on.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use std::collections::{BTreeMap, BTreeSet};

use dbbackup_kind_tests::runner::on_the_volume;
use dbbackup_kind_tests::{
    Operator, Scenario, Server, backup, create_repository, kubectl, schedule,
};
use serde_json::{Value, json};

/// What must nowhere be more than a text. What would be executed leaves `pwned` behind.
const TRICKS: [&str; 20] = [
    "$(touch /repository/pwned)",
    "`touch /repository/pwned`",
    "a; touch /repository/pwned #",
    "'; create table pwned(); --",
    "\"; create table pwned(); --",
    "a'b\"c\\d",
    "../../etc/passwd",
    "/etc/passwd",
    "{{ .Values.password }}",
    "$(TMPDIR)",
    "%s%n%x",
    "-oProxyCommand=touch /repository/pwned",
    "--help",
    "host=evil dbname=x",
    "postgresql://evil/x",
    "shop_*",
    "line\nbreak\rand\ttab",
    "\u{1b}[31mred\u{7f}",
    "\u{202e}gpj.exe\u{200b}",
    "ünïcödé 漢字 🦀 ﷽",
];

/// Objects that are taken as they are, and where they have a choice of one.
fn bases() -> Vec<(&'static str, Value)> {
    let object = |kind: &str, spec: Value| json!({"apiVersion": "dbbackup.dev/v1alpha1", "kind": kind, "metadata": {}, "spec": spec});
    let source = json!({"postgresql": {"host": "nowhere", "credentialsSecretRef": {"name": "db"}}});
    vec![
        (
            "backuprepositories",
            object(
                "BackupRepository",
                json!({"storage": {"volume": {"claimName": "backups"}},
                    "encryption": {"keys": [{"name": "k", "passphraseSecretRef": {"name": "key"}}]}}),
            ),
        ),
        (
            "backupschedules",
            object(
                "BackupSchedule",
                json!({"repositoryRef": {"name": "none"}, "source": source, "schedule": "0 0 1 1 *"}),
            ),
        ),
        (
            "backups",
            object(
                "Backup",
                json!({"template": {"repositoryRef": {"name": "none"}, "source": source}}),
            ),
        ),
        (
            "restorerequests",
            object("RestoreRequest", json!({"from": {"backupRef": {"name": "none"}}})),
        ),
        (
            "pitrrestores",
            object(
                "PitrRestore",
                json!({"from": {"repositoryRef": {"name": "none"}, "series": "a/b/c"},
                    "recoveryTarget": {"latest": {}}, "image": "postgres:17",
                    "to": {"volumeClaim": {"name": "none"}}}),
            ),
        ),
    ]
}

/// Of these a spec has one: where they stand, and their names.
const CHOICES: [(&str, &[&str]); 6] = [
    ("spec", &["scheduleRef", "template", "imported"]),
    ("spec.storage", &["volume", "s3", "azureBlob", "gcs"]),
    ("spec.encryption.keys.0", &["passphraseSecretRef", "keySecretRef"]),
    ("spec.from", &["backupRef", "latest", "snapshot"]),
    ("spec.recoveryTarget", &["time", "lsn", "xid", "name", "immediate", "latest"]),
    ("spec.to.volumeClaim", &["name", "template"]),
];

/// The choice that a path goes through: what it stands in, all there are, and the chosen one.
fn choice(path: &str) -> Option<(&'static str, &'static [&'static str], &'static str)> {
    CHOICES.iter().find_map(|(parent, names)| {
        let rest = path.strip_prefix(parent)?.strip_prefix('.')?;
        let chosen = names.iter().find(|name| rest.split('.').next() == Some(**name))?;
        Some((*parent, *names, *chosen))
    })
}

/// The paths of all texts in a schema, with dots; `0` is an item of a list, `x` a key of a map.
fn texts(schema: &Value, path: &str, found: &mut Vec<String>) {
    let below = |name: &str| format!("{path}.{name}");
    if schema["type"] == "string" {
        found.push(path.to_owned());
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        texts(schema, &below(name), found);
    }
    if schema["items"].is_object() {
        texts(&schema["items"], &below("0"), found);
    }
    if schema["additionalProperties"].is_object() {
        texts(&schema["additionalProperties"], &below("x"), found);
    }
}

/// Something that a schema takes, with what it asks for.
fn least(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten();
            let fields = required.filter_map(Value::as_str);
            fields.map(|name| (name.to_owned(), least(&schema["properties"][name]))).collect()
        }
        Some("array") => json!([]),
        Some("integer") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        _ => json!("a"),
    }
}

/// Writes a text at a path, with what the schema asks for around it.
fn write(object: &mut Value, schema: &Value, path: &str, text: &str) {
    if let Some((parent, names, chosen)) = choice(path) {
        let parent = object.pointer_mut(&format!("/{}", parent.replace('.', "/")));
        if let Some(fields) = parent.and_then(Value::as_object_mut) {
            fields.retain(|name, _| name == chosen || !names.contains(&name.as_str()));
        }
    }
    let (mut place, mut schema) = (object, schema);
    for step in path.split('.') {
        if step == "0" {
            schema = &schema["items"];
            if place.as_array().is_none_or(Vec::is_empty) {
                *place = json!([least(schema)]);
            }
            place = &mut place[0];
        } else {
            let of_a_map = &schema["additionalProperties"];
            schema = if of_a_map.is_object() { of_a_map } else { &schema["properties"][step] };
            if place.get(step).is_none() {
                place[step] = least(schema);
            }
            place = &mut place[step];
        }
    }
    *place = json!(text);
}

/// The schema of a kind.
fn schema_of(kind: &str) -> Value {
    let definition = format!("crd/{kind}.dbbackup.dev");
    let json = kubectl(&["get", &definition, "--output", "json"]).unwrap();
    let mut definition: Value = serde_json::from_str(&json).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

/// Which of these objects the API server takes. Each refusal must be one of the object.
fn accepted(scenario: &Scenario, objects: &[Value]) -> BTreeSet<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let mut taken: BTreeSet<_> = objects.iter().map(name).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let create = ["create", "--dry-run=server", "--output=name", "--filename=-"];
    let Err(refused) = scenario.kubectl_with_input(&create, &list) else { return taken };
    for line in refused.message.split("Error from server ").skip(1) {
        let is_of_the_object = line.starts_with("(Invalid)") || line.starts_with("(BadRequest)");
        assert!(is_of_the_object, "{line}");
        let found = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        for word in found {
            taken.remove(word);
        }
    }
    taken
}

#[test]
fn no_text_of_any_kind_is_more_than_a_text() {
    let scenario = Scenario::begin("hostile-fields");
    let since =
        scenario.object("namespace/e2e-hostile-fields")["metadata"]["creationTimestamp"].take();
    let restarts = restarts();
    scenario.apply(dbbackup_kind_tests::CLAIM);
    let mut tried = 0;
    let mut created = Vec::new();
    for (kind, base) in bases() {
        let schema = schema_of(kind);
        let mut paths = Vec::new();
        texts(&schema["properties"]["spec"], "spec", &mut paths);
        assert!(paths.len() > 25, "{kind} has more texts than {paths:?}");
        let mut single = Vec::new();
        let mut places = BTreeMap::new();
        for (index, path) in paths.iter().enumerate() {
            for (number, trick) in TRICKS.iter().enumerate() {
                let mut object = base.clone();
                let name = format!("h-{index}-{number}");
                object["metadata"]["name"] = json!(name);
                write(&mut object, &schema, path, trick);
                single.push(object);
                places.insert(name, (path, number));
            }
        }
        tried += single.len();
        let taken = accepted(&scenario, &single);
        // All that one trick can be written into at once; what a pod has apart, since the
        // API server refuses most of that when the Job is created.
        let mut together: BTreeMap<(usize, bool, &str), Vec<&String>> = BTreeMap::new();
        for name in &taken {
            let (path, number) = places[name];
            let chosen = choice(path).map_or("", |(_, _, chosen)| chosen);
            together.entry((number, path.contains("job."), chosen)).or_default().push(path);
        }
        for (index, ((number, _, _), paths)) in together.iter().enumerate() {
            let mut object = base.clone();
            object["metadata"]["name"] = json!(format!("h-{kind}-{index}"));
            for path in paths {
                write(&mut object, &schema, path, TRICKS[*number]);
            }
            created.push(object);
        }
    }
    assert!(tried > 2000, "{tried} objects were tried");
    let taken = accepted(&scenario, &created);
    created.retain(|object| taken.contains(object["metadata"]["name"].as_str().unwrap()));
    assert!(created.len() > 60, "{} objects are taken", created.len());
    eprintln!("{tried} objects tried, {} created", created.len());
    let list = json!({"apiVersion": "v1", "kind": "List", "items": created}).to_string();
    scenario.kubectl_with_input(&["create", "--filename=-"], &list).unwrap();

    let kinds = "backuprepositories,backupschedules,backups,restorerequests,pitrrestores";
    let objects = scenario.wait_patiently("the operator has looked at each", || {
        let objects = scenario.objects(kinds, "");
        let is_seen = |object: &Value| object["status"]["conditions"].is_array();
        objects.iter().all(is_seen).then_some(objects)
    });
    assert_eq!(objects.len(), created.len());
    for object in &objects {
        assert_printable(object);
    }
    let events = scenario.objects("events", "");
    for event in &events {
        assert!(!event["message"].as_str().unwrap_or_default().contains(is_hidden), "{event}");
    }
    assert_operator_is_well(restarts, since.as_str().unwrap());
    let files = on_the_volume(&scenario, "find /repository -name 'pwned*'");
    assert_eq!(files, "");
}

/// What a person reads of an object has no character that moves a cursor.
fn assert_printable(object: &Value) {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut told: Vec<_> = conditions.map(|condition| &condition["message"]).collect();
    told.extend([&status["error"]["message"], &status["error"]["hint"]]);
    let databases = status["databases"].as_array().into_iter().flatten();
    told.extend(databases.map(|database| &database["error"]["message"]));
    for text in told.into_iter().filter_map(Value::as_str) {
        assert!(!text.contains(is_hidden), "{text:?}");
    }
    let column = status["display"].as_str().unwrap_or_default();
    assert!(!column.contains(char::is_control), "{column:?}");
}

/// What a terminal does not show, but obeys.
fn is_hidden(c: char) -> bool {
    c == '\u{202e}' || (c.is_control() && c != '\n')
}

/// How often the operator's containers were started again.
fn restarts() -> String {
    let count = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    kubectl(&["--namespace", "dbbackup", "get", "pods", "--output", count]).unwrap()
}

fn assert_operator_is_well(restarts_before: String, since: &str) {
    assert_eq!(restarts(), restarts_before);
    assert!(Operator::metrics().contains("dbbackup_"));
    for line in Operator::log_since(since) {
        assert!(!line.contains("panicked"), "{line}");
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
    }
}

/// A name in SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A database for `psql`, which would read some names as more than one.
fn conninfo(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[test]
fn names_and_passwords_of_a_server_are_backed_up_and_restored_as_they_are() {
    let scenario = Scenario::begin("hostile-names");
    let since =
        scenario.object("namespace/e2e-hostile-names")["metadata"]["creationTimestamp"].take();
    let restarts = restarts();
    let server = Server::start(&scenario);
    create_repository(&scenario);
    for trick in TRICKS {
        let name = quoted(trick);
        server.sql("postgres", &format!("create database {name}"));
        server.sql(
            &conninfo(trick),
            &format!(
                "create schema {name}; create table {name}.{name} ({name} text); \
                 create table items (id bigint primary key, {name} text); \
                 insert into items values (1, $it${trick}$it$); insert into {name}.{name} values ($it${trick}$it$)"
            ),
        );
    }
    // A user and a password of the same kind; a secret takes any bytes.
    let (user, password) = (
        "'; create table pwned(); -- $(touch /repository/pwned)",
        "p'\"\\ $(touch /repository/pwned) %s host=evil",
    );
    server.sql(
        "postgres",
        &format!("create role {} superuser login password $it${password}$it$", quoted(user)),
    );
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "odd"},
        "stringData": {"username": user, "password": password}});
    scenario.apply(&secret.to_string());
    scenario.apply(&schedule("nightly", "odd", "{}", "{}"));
    scenario.apply(&backup("all", "nightly"));
    let done = scenario.wait_for_condition("backup/all", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{done}");
    assert_printable(&done);
    let named: BTreeSet<_> = done["status"]["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|database| database["name"].as_str().unwrap())
        .collect();
    for trick in TRICKS {
        assert!(named.contains(trick), "{trick:?} is not in {named:?}");
    }

    let restored = |trick: &str| format!("{trick} (2)");
    let databases: Vec<_> =
        TRICKS.iter().map(|trick| json!({"name": trick, "as": restored(trick)})).collect();
    let request = json!({"apiVersion": "dbbackup.dev/v1alpha1", "kind": "RestoreRequest",
        "metadata": {"name": "back"},
        "spec": {"from": {"backupRef": {"name": "all"}}, "databases": databases}});
    scenario.apply(&request.to_string());
    let done = scenario.wait_for_condition("restorerequest/back", "Complete");
    assert_eq!(done["status"]["phase"], "Succeeded", "{done}");
    assert_printable(&done);
    for trick in TRICKS {
        let name = quoted(trick);
        for query in
            [format!("select {name} from items"), format!("select {name} from {name}.{name}")]
        {
            let found = server.sql(&conninfo(&restored(trick)), &query);
            assert_eq!(found, server.sql(&conninfo(trick), &query), "{trick:?}");
        }
    }
    let tables = "select count(*) from pg_class where relname = 'pwned'";
    for database in
        ["postgres", "template1"].map(str::to_owned).into_iter().chain(TRICKS.map(conninfo))
    {
        assert_eq!(server.sql(&database, tables), "0", "{database:?}");
    }
    assert_eq!(on_the_volume(&scenario, "find /repository -name 'pwned*'"), "");
    assert_eq!(server.scratch_databases(), "");
    assert_operator_is_well(restarts, since.as_str().unwrap());
}
