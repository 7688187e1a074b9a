//! Flags and environment variables, and what they mean.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use clap::Parser;
use dbbackup_crds::DurationText;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::PodSecurityContext;

use crate::queue::Limits;

/// User and groups of a runner, where the chart says no others.
pub(crate) const POD_SECURITY_CONTEXT: &str =
    r#"{"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}"#;

/// Reads what stands in a chart's `podSecurityContext`.
pub(crate) fn pod_security_context(json: &str) -> Result<PodSecurityContext, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// A Kubernetes operator that backs up databases and proves that they can be restored.
#[derive(Clone, Debug, Parser)]
#[command(name = "dbbackup-operator", version)]
pub struct Config {
    /// Namespace of the operator's own objects: Lease, Service and Secret of the report channel.
    #[arg(long, env = "DBBACKUP_NAMESPACE", default_value = "dbbackup")]
    pub namespace: String,
    /// Name of this replica: its pod's name.
    #[arg(long, env = "DBBACKUP_POD_NAME", default_value = "dbbackup-operator")]
    pub pod_name: String,
    /// Namespaces whose objects are looked after, with commas between them; all where none is said.
    #[arg(long, env = "DBBACKUP_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Image of the runner.
    #[arg(long, env = "DBBACKUP_RUNNER_IMAGE")]
    pub runner_image: String,
    /// When the runner's image is pulled: Always, IfNotPresent or Never.
    #[arg(long, env = "DBBACKUP_RUNNER_PULL_POLICY", default_value = "IfNotPresent")]
    pub runner_pull_policy: String,
    /// As whom the Jobs' pods run where their objects say nothing else, as in a pod, in JSON.
    #[arg(long, env = "DBBACKUP_POD_SECURITY_CONTEXT", default_value = POD_SECURITY_CONTEXT,
        value_parser = pod_security_context)]
    pub pod_security_context: PodSecurityContext,
    /// Service of the report channel, in the operator's namespace.
    #[arg(long, env = "DBBACKUP_REPORT_SERVICE", default_value = "dbbackup")]
    pub report_service: String,
    /// Secret that holds the report channel's certificate; it must exist.
    #[arg(long, env = "DBBACKUP_REPORT_SECRET", default_value = "dbbackup-report-tls")]
    pub report_secret: String,
    /// Address of the report channel.
    #[arg(long, env = "DBBACKUP_REPORT_ADDRESS", default_value = "0.0.0.0:8443")]
    pub report_address: std::net::SocketAddr,
    /// Another host for runners to report to than the Service: for an operator outside the cluster.
    #[arg(long, env = "DBBACKUP_REPORT_HOST")]
    pub report_host: Option<String>,
    /// Address of health, readiness and metrics.
    #[arg(long, env = "DBBACKUP_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    pub health_address: std::net::SocketAddr,
    /// Name of the Lease that the replicas compete for.
    #[arg(long, env = "DBBACKUP_LEASE", default_value = "dbbackup-operator")]
    pub lease: String,
    /// Backups that run at once in all namespaces; 0: as many as are due.
    #[arg(long, env = "DBBACKUP_MAX_CONCURRENT_JOBS", default_value_t = 100)]
    pub max_concurrent_jobs: usize,
    /// Of these, backups that run at once in one namespace; 0: as many as in all.
    #[arg(long, env = "DBBACKUP_MAX_CONCURRENT_JOBS_PER_NAMESPACE", default_value_t = 25)]
    pub max_concurrent_jobs_per_namespace: usize,
    /// A pod that was told to end and is not gone after so long sits on a lost node: its run is begun again. Units: s, m, h, d.
    #[arg(long, env = "DBBACKUP_LOST_NODE_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub lost_node_timeout: SignedDuration,
    /// What is logged, as in RUST_LOG: info, debug, dbbackup_operator=debug.
    #[arg(long, env = "DBBACKUP_LOG", default_value = "info")]
    pub log: String,
    /// How it is logged.
    #[arg(long, env = "DBBACKUP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let duration = DurationText::new(text).parse().map_err(|error| error.to_string())?;
    SignedDuration::try_from(duration).map_err(|error| error.to_string())
}

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// The names by which runners reach the report channel.
    #[must_use]
    pub fn report_hosts(&self) -> Vec<String> {
        let (service, namespace) = (&self.report_service, &self.namespace);
        let mut hosts = vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            service.clone(),
        ];
        hosts.extend(self.report_host.clone());
        hosts
    }

    /// How many backups run at once.
    #[must_use]
    pub fn queue_limits(&self) -> Limits {
        Limits {
            all: NonZeroUsize::new(self.max_concurrent_jobs),
            of_namespace: NonZeroUsize::new(self.max_concurrent_jobs_per_namespace),
        }
    }

    /// Where runners report to.
    #[must_use]
    pub fn report_url(&self) -> String {
        let path = dbbackup_contract::REPORT_PATH;
        let port = self.report_address.port();
        match &self.report_host {
            Some(host) => format!("https://{host}:{port}{path}"),
            None => {
                format!("https://{}.{}.svc:{port}{path}", self.report_service, self.namespace)
            }
        }
    }

    /// The namespaces to watch: `None` stands for all.
    #[must_use]
    pub fn scopes(&self) -> Vec<Option<String>> {
        let names = self.watch_namespaces.iter().map(|name| name.trim());
        // One that is named twice is watched once.
        let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
        let named: Vec<_> = names.into_iter().map(|name| Some(name.to_owned())).collect();
        if named.is_empty() { vec![None] } else { named }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        let fixed = ["dbbackup-operator", "--runner-image", "runner:1"];
        Config::parse_from(fixed.iter().chain(arguments))
    }

    #[test]
    fn no_namespace_means_all_and_an_empty_variable_too() {
        assert_eq!(config(&[]).scopes(), [None]);
        assert_eq!(config(&["--watch-namespaces", ""]).scopes(), [None]);
        let two = config(&["--watch-namespaces", "b, a,b"]).scopes();
        assert_eq!(two, [Some("a".to_owned()), Some("b".to_owned())]);
    }

    #[test]
    fn pods_run_as_the_chart_says_or_as_the_platform_does() {
        let user = |arguments: &[&str]| config(arguments).pod_security_context.run_as_user;
        assert_eq!(user(&[]), Some(65532));
        assert_eq!(user(&["--pod-security-context", r#"{"runAsUser": 1000}"#]), Some(1000));
        assert_eq!(user(&["--pod-security-context", r#"{"runAsNonRoot": true}"#]), None);
        assert!(pod_security_context("65532").is_err());
    }

    #[test]
    fn as_many_backups_run_at_once_as_is_said_and_zero_is_no_limit() {
        let limits = |arguments: &[&str]| {
            let limits = config(arguments).queue_limits();
            [limits.all, limits.of_namespace].map(|limit| limit.map_or(0, NonZeroUsize::get))
        };
        assert_eq!(limits(&[]), [100, 25]);
        assert_eq!(limits(&["--max-concurrent-jobs", "0"]), [0, 25]);
        assert_eq!(limits(&["--max-concurrent-jobs-per-namespace", "0"]), [100, 0]);
    }

    #[test]
    fn a_node_is_lost_after_as_long_as_is_said_in_the_words_of_the_spec() {
        let timeout = |arguments: &[&str]| config(arguments).lost_node_timeout;
        assert_eq!(timeout(&[]), SignedDuration::from_mins(10));
        assert_eq!(timeout(&["--lost-node-timeout", "1m30s"]), SignedDuration::from_secs(90));
        let fixed = ["dbbackup-operator", "--runner-image", "runner:1"];
        let wrong = fixed.iter().chain(&["--lost-node-timeout", "soon"]);
        let refused = Config::try_parse_from(wrong).unwrap_err().to_string();
        assert!(refused.contains("is no duration"), "{refused}");
    }

    #[test]
    fn runners_report_to_the_service_by_a_name_that_the_certificate_has() {
        let config = config(&["--namespace", "system", "--report-service", "backups"]);
        assert_eq!(config.report_url(), "https://backups.system.svc:8443/v1/report");
        assert!(config.report_hosts().contains(&"backups.system.svc".to_owned()));
    }
}
