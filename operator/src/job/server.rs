//! The server beside the runner: what a Job's pod has more where a server is recovered.
//!
//! An init container of the runner's image puts a small program into a folder that the pod's
//! containers share. The server's container, of the image that the object names, runs that
//! program beside the runner, which tells it what to do. It sees nothing else of the pod: no
//! task, no secret, no token.

use dbbackup_contract::{RECOVERED_DIR, SERVER_DIR, SHIM_FILE, TERMINATION_FILE};
use dbbackup_crds::{DrillStorageSpec, JobSpec, QuantityError, Resources};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EphemeralVolumeSource, PersistentVolumeClaimSpec,
    PersistentVolumeClaimTemplate, PodSpec, ResourceRequirements, Volume,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::build::{RunnerPod, claimed, mount, variable};
use super::resources::container_resources;
use super::security::container_security;

/// Name of the server's container.
pub(crate) const SERVER: &str = "server";
/// Name of the init container that brings the program which starts it.
const SHIM: &str = "shim";
/// Name of the volume with the claim of the recovered server.
pub(crate) const RECOVERED: &str = "recovered";

/// Most bytes of the folder that the containers share: the program, sockets, temporary files.
const SHARED_SIZE: &str = "64Mi";
/// Memory of a server that replays its log, where the spec says nothing: reserved, and at most.
const MEMORY: (u64, u64) = (256 << 20, 1 << 30);
/// The same of what copies a small file.
const SHIM_MEMORY: (u64, u64) = (16 << 20, 64 << 20);

/// The server that runs beside a runner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerBeside<'a> {
    /// Its image.
    pub(crate) image: &'a str,
    /// Where its data is.
    pub(crate) volume: ServerVolume<'a>,
    /// CPU and memory, as the spec says them.
    pub(crate) resources: Option<&'a Resources>,
}

/// Where the data of a server is that runs beside a runner.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerVolume<'a> {
    /// On this claim.
    Claim(&'a str),
    /// On one that is made with the pod and goes with it, whatever becomes of the pod.
    Scratch(&'a DrillStorageSpec),
}

/// Adds the server to the pods of a runner's Job. The runner stays the first of its containers:
/// by its exit code the Job is judged.
///
/// # Errors
/// A quantity of the resources is none.
pub(crate) fn add_server(
    job: &mut Job,
    server: &ServerBeside<'_>,
    runner: &RunnerPod,
    spec: &JobSpec,
) -> Result<(), QuantityError> {
    let shim = shim_container(runner, spec)?;
    let server_container = server_container(server, spec)?;
    let pod = job.spec.get_or_insert_default().template.spec.get_or_insert_default();
    share_volumes(pod, server.volume);
    pod.init_containers.get_or_insert_default().extend([shim, server_container]);
    Ok(())
}

fn share_volumes(pod: &mut PodSpec, data: ServerVolume<'_>) {
    let shared = Volume {
        name: SERVER.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: None,
            size_limit: Some(Quantity(SHARED_SIZE.to_owned())),
        }),
        ..Volume::default()
    };
    let data = match data {
        ServerVolume::Claim(claim) => claimed(RECOVERED, claim),
        ServerVolume::Scratch(storage) => scratch(storage),
    };
    pod.volumes.get_or_insert_default().extend([shared, data]);
    for runner in &mut pod.containers {
        runner.volume_mounts.get_or_insert_default().extend(mounts());
    }
}

/// A claim of the pod's own: Kubernetes makes it and deletes it.
fn scratch(storage: &DrillStorageSpec) -> Volume {
    let size = ("storage".to_owned(), Quantity(storage.size.0.clone()));
    let claim = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        storage_class_name: storage.storage_class_name.clone(),
        resources: Some(VolumeResourceRequirements { requests: Some([size].into()), limits: None }),
        ..PersistentVolumeClaimSpec::default()
    };
    Volume {
        name: RECOVERED.to_owned(),
        ephemeral: Some(EphemeralVolumeSource {
            volume_claim_template: Some(PersistentVolumeClaimTemplate {
                metadata: None,
                spec: claim,
            }),
        }),
        ..Volume::default()
    }
}

fn mounts() -> [k8s_openapi::api::core::v1::VolumeMount; 2] {
    [mount(SERVER, SERVER_DIR, false), mount(RECOVERED, RECOVERED_DIR, false)]
}

fn shim_container(runner: &RunnerPod, spec: &JobSpec) -> Result<Container, QuantityError> {
    Ok(Container {
        name: SHIM.to_owned(),
        image: Some(runner.image.clone()),
        image_pull_policy: Some(runner.pull_policy.clone()),
        args: Some(vec!["place-shim".to_owned()]),
        volume_mounts: Some(vec![mount(SERVER, SERVER_DIR, false)]),
        ..confined(spec, container_resources(None, SHIM_MEMORY.0, SHIM_MEMORY.1)?)
    })
}

fn server_container(server: &ServerBeside<'_>, spec: &JobSpec) -> Result<Container, QuantityError> {
    Ok(Container {
        name: SERVER.to_owned(),
        image: Some(server.image.to_owned()),
        // A retry takes the image that the attempt before had.
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![SHIM_FILE.to_owned()]),
        // It runs beside the containers that follow, and is ended when the runner has.
        restart_policy: Some("Always".to_owned()),
        env: Some(vec![variable("TMPDIR", SERVER_DIR), variable("HOME", SERVER_DIR)]),
        volume_mounts: Some(mounts().into()),
        ..confined(spec, container_resources(server.resources, MEMORY.0, MEMORY.1)?)
    })
}

/// What both have as the runner has it.
fn confined(spec: &JobSpec, resources: ResourceRequirements) -> Container {
    Container {
        resources: Some(resources),
        security_context: Some(container_security(spec)),
        termination_message_path: Some(TERMINATION_FILE.to_owned()),
        // A server's last words may hold rows: they stay in its log.
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}
