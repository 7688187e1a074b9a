//! Wires the operator: flags, log, report channel, election, controllers.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use dbbackup_contract::ReportEndpoint;
use dbbackup_operator::backoff::delay;
use dbbackup_operator::config::{Config, LogFormat};
use dbbackup_operator::controllers::{self, Settings};
use dbbackup_operator::health::{self, Readiness};
use dbbackup_operator::job::RunnerPod;
use dbbackup_operator::leader::Election;
use dbbackup_operator::metrics::Metrics;
use dbbackup_operator::queue::Queue;
use dbbackup_operator::report::{self, Certificates, Channel, Material};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::{Client, ResourceExt};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// How often the certificate is looked at: another replica may have renewed it. A
/// runner that meets a replica with an older one tries again for longer than this.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    begin_log(&config);
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}

fn begin_log(config: &Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.init(),
    }
}

async fn run(config: Config) -> Result<(), AnyError> {
    let stop = CancellationToken::new();
    end_on_signal(stop.clone())?;
    let metrics = Arc::new(Metrics::new()?);
    let readiness = Arc::new(Readiness::default());
    let health_listener = TcpListener::bind(config.health_address).await?;
    tokio::spawn(health::serve(
        health_listener,
        Arc::clone(&metrics),
        Arc::clone(&readiness),
        stop.clone(),
    ));

    let client = metrics.client().await?;
    let secrets = Api::namespaced(client.clone(), &config.namespace);
    let certificates =
        Certificates::new(secrets, config.report_secret.clone(), config.report_hosts());
    let ensured = patiently("the certificate", || certificates.ensure(Timestamp::now()));
    let material = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        material = ensured => material,
    };
    let (tls_sender, tls) = watch::channel(Arc::new(material.server_config()?));
    let (endpoint_sender, endpoint) = watch::channel(endpoint_of(&config, &material));
    tokio::spawn(renew(certificates, config.clone(), material, tls_sender, endpoint_sender));

    let listener = TcpListener::bind(config.report_address).await?;
    let channel = Arc::new(Channel::new(client.clone(), Arc::clone(&metrics)));
    let channel_task = tokio::spawn(report::serve(listener, channel, tls, stop.clone()));
    readiness.set();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        report = %config.report_address,
        health = %config.health_address,
        "the operator is up"
    );

    lead(&config, client, metrics, endpoint, &stop).await?;
    channel_task.await?;
    Ok(())
}

/// Waits until this replica leads, runs the controllers, and gives the Lease back.
async fn lead(
    config: &Config,
    client: Client,
    metrics: Arc<Metrics>,
    endpoint: watch::Receiver<ReportEndpoint>,
    stop: &CancellationToken,
) -> Result<(), AnyError> {
    let leases = Api::namespaced(client.clone(), &config.namespace);
    let mut election = Election::new(leases, config.lease.clone(), config.pod_name.clone());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let won = async {
        // Before the election: who leads must act, or let others.
        let system = patiently("the cluster's id", || namespaces.get("kube-system")).await;
        election.win().await;
        system.uid().unwrap_or_default()
    };
    let cluster = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        cluster = won => cluster,
    };
    tracing::info!(name = config.pod_name, "this replica leads");
    metrics.leader.set(1);
    let settings = Settings {
        client,
        metrics: Arc::clone(&metrics),
        runner: RunnerPod {
            image: config.runner_image.clone(),
            pull_policy: config.runner_pull_policy.clone(),
            pod_security_context: config.pod_security_context.clone(),
        },
        cluster,
        lost_after: config.lost_node_timeout,
        endpoint,
        instance: config.pod_name.clone(),
        queue: Arc::new(Queue::new(config.queue_limits())),
    };
    let scopes = config.scopes().into_iter();
    let controllers = scopes.map(|scope| controllers::run(settings.clone(), scope, stop.clone()));
    let work = futures::future::join_all(controllers);
    tokio::select! {
        _ = work => {}
        // Whoever cannot renew must not act any more: the process ends at once.
        error = election.keep() => return Err(error.into()),
    }
    metrics.leader.set(0);
    election.release().await;
    tracing::info!("the Lease is given back");
    Ok(())
}

fn endpoint_of(config: &Config, material: &Material) -> ReportEndpoint {
    ReportEndpoint { url: config.report_url(), ca_pem: material.ca_pem.clone() }
}

/// Tries until it succeeds: an API server that is away when the operator starts
/// must not make the kubelet wait longer and longer before the next start.
async fn patiently<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut failures = 0;
    loop {
        let error = match tokio::time::timeout(Duration::from_secs(10), attempt()).await {
            Ok(Ok(done)) => return done,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API server does not answer".to_owned(),
        };
        tracing::warn!(error, "{what} cannot be read or written yet");
        failures += 1;
        let pause = delay(failures, Duration::from_secs(1), Duration::from_secs(15));
        tokio::time::sleep(pause).await;
    }
}

/// Keeps the certificate fresh, and takes over what another replica has made.
async fn renew(
    certificates: Certificates,
    config: Config,
    mut current: Material,
    tls: watch::Sender<Arc<tokio_rustls::rustls::ServerConfig>>,
    endpoint: watch::Sender<ReportEndpoint>,
) {
    loop {
        tokio::time::sleep(CERTIFICATE_PERIOD).await;
        let material = match certificates.ensure(Timestamp::now()).await {
            Ok(material) if material == current => continue,
            Ok(material) => material,
            Err(error) => {
                tracing::warn!(%error, "the certificate could not be looked at");
                continue;
            }
        };
        match material.server_config() {
            Ok(server) => {
                tracing::info!("the report channel has a new certificate");
                tls.send_replace(Arc::new(server));
                endpoint.send_replace(endpoint_of(&config, &material));
                current = material;
            }
            Err(error) => tracing::warn!(%error, "the new certificate cannot be used"),
        }
    }
}

fn end_on_signal(stop: CancellationToken) -> Result<(), AnyError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        stop.cancel();
    });
    Ok(())
}
