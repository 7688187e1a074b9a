//! What the chart renders for its options, whether the API server takes it, and
//! whether what is written about it is true. Nothing is installed here.

#![allow(clippy::unwrap_used)] // All of it is test code, its functions too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use dbbackup_kind_tests::{helm, kubectl, kubectl_with_input};
use serde_json::{Value, json};

/// Options of every kind at once: those of a large and strict cluster.
const MANY_OPTIONS: &str = r#"
nameOverride: backups
images:
  operator: {repository: registry.example/operator, tag: "1", pullPolicy: Always}
  runner: {repository: registry.example/runner, tag: "2", pullPolicy: Never}
  pullSecrets: [{name: registry}]
replicas: 3
watchNamespaces: [default, dbbackup]
maxConcurrentJobs: 0
maxConcurrentJobsPerNamespace: 5
logLevel: debug
logFormat: text
resources:
  requests: {cpu: 100m, memory: 128Mi}
  limits: {cpu: 1, memory: 512Mi}
rbac: {aggregate: false}
serviceAccount: {annotations: {example.com/role: backups}}
podAnnotations: {example.com/scrape: "true"}
podLabels: {team: platform}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Equal, value: infra, effect: NoSchedule}]
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [amd64, arm64]}]}]
topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}]
priorityClassName: system-cluster-critical
podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null, supplementalGroups: [4000]}
securityContext: {runAsUser: 1234}
"#;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn chart() -> String {
    project().join("charts/dbbackup").to_str().unwrap().to_owned()
}

/// Writes values to a file that lives as long as what is returned.
fn values(yaml: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    file
}

/// The chart as YAML with these values, for the namespace that the operator has here.
fn rendered(yaml: &str) -> Result<String, String> {
    let file = values(yaml);
    let path = file.path().to_str().unwrap();
    helm(&["template", "dbbackup", &chart(), "--namespace", "dbbackup", "--values", path])
        .map_err(|error| error.message)
}

fn objects(yaml: &str) -> Vec<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

/// The one object of this kind, among those that the chart renders.
fn object(objects: &[Value], kind: &str) -> Value {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0].clone()
}

fn names(objects: &[Value], kind: &str) -> BTreeSet<String> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    helm(&["lint", "--strict", "--quiet", &chart()]).unwrap();
    let file = values(MANY_OPTIONS);
    let path = file.path().to_str().unwrap();
    helm(&["lint", "--strict", "--quiet", &chart(), "--values", path]).unwrap();
}

#[test]
fn the_api_server_takes_what_is_rendered_without_options_and_with_many() {
    for options in ["{}", MANY_OPTIONS] {
        let yaml = rendered(options).unwrap();
        let apply = ["apply", "--dry-run=server", "--validate=strict", "--filename", "-"];
        kubectl_with_input(&apply, &yaml).unwrap_or_else(|error| panic!("{options}: {error}"));
    }
}

#[test]
fn every_option_of_the_pod_reaches_the_pod() {
    let objects = objects(&rendered(MANY_OPTIONS).unwrap());
    let deployment = object(&objects, "Deployment");
    assert_eq!(deployment["metadata"]["name"], "backups");
    assert_eq!(deployment["spec"]["replicas"], 3);
    let template = &deployment["spec"]["template"];
    assert_eq!(template["metadata"]["labels"]["team"], "platform");
    assert_eq!(template["metadata"]["annotations"]["example.com/scrape"], "true");
    let pod = &template["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert_eq!(pod["tolerations"][0]["key"], "dedicated");
    assert!(pod["affinity"]["nodeAffinity"].is_object(), "{pod}");
    assert_eq!(pod["topologySpreadConstraints"][0]["maxSkew"], 1);
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example/operator:1");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"]["limits"], json!({"cpu": 1, "memory": "512Mi"}));
    let account = object(&objects, "ServiceAccount");
    assert_eq!(account["metadata"]["annotations"]["example.com/role"], "backups");
}

/// The value of a variable of the operator's container.
fn variable(objects: &[Value], name: &str) -> Value {
    let deployment = object(objects, "Deployment");
    let variables = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let found = variables.as_array().unwrap().iter().find(|variable| variable["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}"))["value"].clone()
}

#[test]
fn every_option_of_the_operator_reaches_the_operator() {
    let objects = objects(&rendered(MANY_OPTIONS).unwrap());
    for (name, value) in [
        ("DBBACKUP_RUNNER_IMAGE", "registry.example/runner:2"),
        ("DBBACKUP_RUNNER_PULL_POLICY", "Never"),
        ("DBBACKUP_WATCH_NAMESPACES", "default,dbbackup"),
        ("DBBACKUP_LOG", "debug"),
        ("DBBACKUP_LOG_FORMAT", "text"),
        ("DBBACKUP_REPORT_SERVICE", "backups"),
        ("DBBACKUP_REPORT_SECRET", "backups-report-tls"),
    ] {
        assert_eq!(variable(&objects, name), value, "{name}");
    }
    // What the variables name is there.
    object(&objects, "Service");
    assert!(names(&objects, "Service").contains("backups"));
    assert!(names(&objects, "Secret").contains("backups-report-tls"));
}

#[test]
fn security_contexts_are_restricted_and_a_null_takes_one_value_away() {
    let pod_of = |options: &str| {
        let deployment = object(&objects(&rendered(options).unwrap()), "Deployment");
        deployment["spec"]["template"]["spec"].clone()
    };
    let by_default = pod_of("{}");
    assert_eq!(
        by_default["securityContext"],
        json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
               "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let overridden = pod_of(MANY_OPTIONS);
    assert_eq!(
        overridden["securityContext"],
        json!({"runAsNonRoot": true, "supplementalGroups": [4000],
               "seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(
        overridden["containers"][0]["securityContext"],
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
               "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": 1234})
    );
}

#[test]
fn a_list_of_namespaces_takes_the_cluster_wide_rights_away() {
    let everywhere = objects(&rendered("{}").unwrap());
    let listed = objects(&rendered("watchNamespaces: [one, two]").unwrap());
    let rules = |objects: &[Value]| {
        let roles = objects.iter().filter(|object| object["kind"] == "ClusterRole");
        let mut operator = roles.filter(|role| role["metadata"]["name"] == "dbbackup-operator");
        operator.next().unwrap()["rules"].as_array().unwrap().clone()
    };
    assert!(rules(&everywhere).iter().any(|rule| rule["resources"] == json!(["jobs"])));
    let resources: Vec<_> = rules(&listed).iter().map(|rule| rule["resources"].clone()).collect();
    assert_eq!(resources, [json!(["tokenreviews"]), json!(["namespaces"])]);
    let namespaces: BTreeSet<_> = listed
        .iter()
        .filter(|object| object["metadata"]["name"] == "dbbackup-namespace")
        .map(|object| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&object["kind"]), text(&object["metadata"]["namespace"]))
        })
        .collect();
    let expected =
        [("Role", "one"), ("Role", "two"), ("RoleBinding", "one"), ("RoleBinding", "two")];
    assert_eq!(namespaces, expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())).into());
}

#[test]
fn a_budget_for_disruptions_comes_with_the_second_replica() {
    let kinds = |options: &str| names(&objects(&rendered(options).unwrap()), "PodDisruptionBudget");
    assert!(kinds("replicas: 0").is_empty() && kinds("replicas: 1").is_empty());
    assert_eq!(kinds("replicas: 2"), ["dbbackup".to_owned()].into());
    let objects = objects(&rendered("replicas: 2").unwrap());
    let selector = |kind| object(&objects, kind)["spec"]["selector"].clone();
    assert_eq!(selector("PodDisruptionBudget"), selector("Deployment"));
}

#[test]
fn definitions_and_roles_can_be_left_out_and_definitions_are_kept() {
    let all = objects(&rendered("{}").unwrap());
    let without = objects(&rendered("{crds: {install: false}, rbac: {aggregate: false}}").unwrap());
    assert_eq!(names(&all, "CustomResourceDefinition").len(), 5);
    assert!(names(&without, "CustomResourceDefinition").is_empty());
    assert!(names(&all, "ClusterRole").contains("dbbackup-edit"));
    assert_eq!(names(&without, "ClusterRole"), ["dbbackup-operator".to_owned()].into());
    for crd in all.iter().filter(|object| object["kind"] == "CustomResourceDefinition") {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
}

const MONITORED: &str = r#"
serviceMonitor: {enabled: true, interval: 30s, labels: {release: prometheus}}
prometheusRule: {enabled: true, labels: {release: prometheus}, recentBackupHours: 170}
dashboard: {enabled: true, namespace: grafana}
networkPolicy: {enabled: true, metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
"#;

#[test]
fn monitoring_and_network_policy_come_where_they_are_wanted_and_reach_the_operator() {
    let without = objects(&rendered("{}").unwrap());
    for kind in ["ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"] {
        assert!(names(&without, kind).is_empty(), "{kind}");
    }
    let objects = objects(&rendered(MONITORED).unwrap());
    let (monitor, service) = (object(&objects, "ServiceMonitor"), object(&objects, "Service"));
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let selected = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    for (label, value) in selected {
        assert_eq!(&service["metadata"]["labels"][label], value, "{label}");
    }
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!((&endpoint["interval"], &endpoint["honorLabels"]), (&json!("30s"), &json!(true)));
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["name"] == endpoint["port"]));

    let rules = object(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
    assert_eq!(rules.as_array().unwrap().len(), 9);
    let recent = rules[0]["expr"].as_str().unwrap();
    assert!(recent.contains("> 170 * 3600") && !recent.contains("26 *"), "{recent}");
    // What Prometheus fills in, Helm leaves alone.
    let summary = rules[0]["annotations"]["summary"].as_str().unwrap();
    assert!(summary.contains("{{ $labels.schedule }}"), "{summary}");

    let dashboard = object(&objects, "ConfigMap");
    assert_eq!(dashboard["metadata"]["namespace"], "grafana");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let json: Value =
        serde_json::from_str(dashboard["data"]["dbbackup.json"].as_str().unwrap()).unwrap();
    assert!(json["panels"].as_array().unwrap().len() > 10);

    let policy = object(&objects, "NetworkPolicy");
    let pod = object(&objects, "Deployment")["spec"]["template"].clone();
    let chosen = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
    for (label, value) in chosen {
        assert_eq!(&pod["metadata"]["labels"][label], value, "{label}");
    }
    let named = |port: &Value| port["name"].as_str().unwrap().to_owned();
    let open: BTreeSet<_> =
        pod["spec"]["containers"][0]["ports"].as_array().unwrap().iter().map(named).collect();
    let let_in = policy["spec"]["ingress"].as_array().unwrap().iter();
    let let_in = let_in.map(|rule| rule["ports"][0]["port"].as_str().unwrap().to_owned());
    assert_eq!(let_in.collect::<BTreeSet<_>>(), open);
    let alone = serde_saphyr::to_string(&policy).unwrap();
    kubectl_with_input(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &alone)
        .unwrap();
}

#[test]
fn names_follow_the_release_unless_they_are_said() {
    let name = |release: &str, options: &str| {
        let file = values(options);
        let path = file.path().to_str().unwrap();
        let yaml = helm(&["template", release, &chart(), "--values", path]).unwrap();
        object(&objects(&yaml), "Deployment")["metadata"]["name"].clone()
    };
    assert_eq!(name("dbbackup", "{}"), "dbbackup");
    assert_eq!(name("my-dbbackup", "{}"), "my-dbbackup");
    assert_eq!(name("prod", "{}"), "prod-dbbackup");
    assert_eq!(name("prod", "nameOverride: safe"), "safe");
}

#[test]
fn misspelt_and_impossible_values_are_refused_by_name() {
    for (wrong, word) in [
        ("replica: 2", "replica"),
        ("replicas: two", "replicas"),
        ("replicas: 9", "replicas"),
        ("logFormat: xml", "logFormat"),
        ("watchNamespaces: [Not_A_Namespace]", "watchNamespaces"),
        ("images: {operator: {repo: x}}", "repo"),
        ("images: {pullSecrets: [registry]}", "pullSecrets"),
        ("resources: {limit: {memory: 1Gi}}", "limit"),
        ("tolerations: [{key: a, operator: Is}]", "tolerations"),
        ("affinity: {nodeAffinities: {}}", "nodeAffinities"),
        ("topologySpreadConstraints: [{maxSkew: 1}]", "topologySpreadConstraints"),
        ("podLabels: {team: 7}", "podLabels"),
        ("podSecurityContext: {runAsUser: root}", "runAsUser"),
        ("crds: {keep: true}", "keep"),
    ] {
        let Err(refusal) = rendered(wrong) else { panic!("accepted: {wrong}") };
        assert!(refusal.contains(word), "{wrong}: {refusal}");
    }
}

#[test]
fn the_rendered_manifest_is_what_the_chart_gives() {
    let output = Command::new(project().join("hack/render-manifest")).output().unwrap();
    let rendered = String::from_utf8(output.stdout).unwrap();
    let committed = std::fs::read_to_string(project().join("dist/install.yaml")).unwrap();
    assert!(
        rendered == committed,
        "dist/install.yaml is out of date: run `make generate`, and commit what it changes\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let objects = objects(&committed);
    assert_eq!(objects[0]["kind"], "Namespace");
    let first: BTreeSet<_> =
        objects[1..5].iter().map(|object| object["kind"].clone().to_string()).collect();
    assert_eq!(first, ["\"CustomResourceDefinition\"".to_owned()].into());
}

#[test]
fn the_notes_name_what_is_installed() {
    let file = values("watchNamespaces: [shop, crm]");
    let path = file.path().to_str().unwrap();
    let install = ["install", "notes", &chart(), "--dry-run=server", "--set", "crds.install=false"];
    let shown = helm(&[&install[..], &["--values", path]].concat()).unwrap();
    let (_, notes) = shown.split_once("NOTES:\n").unwrap();
    assert!(notes.starts_with("dbbackup "), "{notes}");
    assert!(notes.contains("looks after the namespaces shop, crm.\n\nA first backup"), "{notes}");
    // What a person would paste is what the API server takes.
    let (_, pasted) = notes.split_once("<<'EOF'\n").unwrap();
    let (pasted, _) = pasted.split_once("  EOF\n").unwrap();
    let yaml = pasted.lines().map(|line| line.strip_prefix("  ").unwrap_or(line));
    let create = ["create", "--namespace", "default", "--dry-run=server", "--filename", "-"];
    kubectl_with_input(&create, &yaml.collect::<Vec<_>>().join("\n")).unwrap();
    assert!(kubectl(&["get", "secret", "backup-key", "--namespace", "default"]).is_err());
}

/// Paths and values of the leaves: scalars, lists, and maps that are empty or hold what
/// Kubernetes defines.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    let whole = ["resources", "podSecurityContext", "securityContext"].contains(&path);
    match value.as_object() {
        Some(map) if !map.is_empty() && !whole => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, found);
            }
        }
        _ => found.push((path.to_owned(), value.clone())),
    }
}

#[test]
fn the_readme_lists_every_value_with_its_default() {
    let text = std::fs::read_to_string(project().join("charts/dbbackup/values.yaml")).unwrap();
    let mut expected = Vec::new();
    leaves("", &serde_saphyr::from_str(&text).unwrap(), &mut expected);
    let readme = std::fs::read_to_string(project().join("charts/dbbackup/README.md")).unwrap();
    let listed: BTreeMap<String, Value> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"))
        .map(|(name, rest)| {
            let default = rest.split_once("` |").unwrap().0;
            (name.to_owned(), serde_saphyr::from_str(default).unwrap())
        })
        .collect();
    assert_eq!(listed, expected.into_iter().collect());
}

#[test]
fn the_schema_knows_every_value_and_no_other() {
    let folder = project().join("charts/dbbackup");
    let text = std::fs::read_to_string(folder.join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let text = std::fs::read_to_string(folder.join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let mut known = keys(&schema["properties"]);
    // Helm itself hands this one down to every chart.
    known.remove("global");
    assert_eq!(known, keys(&values));
    assert_eq!(keys(&schema["properties"]["images"]["properties"]), keys(&values["images"]));
    assert_eq!(
        keys(&schema["definitions"]["image"]["properties"]),
        keys(&values["images"]["operator"])
    );
}
