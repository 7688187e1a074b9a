//! End-to-end scenarios: what a person does with `kubectl` on a real cluster
//! that has the images and the chart, and what must be true afterwards.
//!
//! Nothing of the product is linked here. A scenario has a namespace of its
//! own, with the `restricted` Pod Security level enforced, and waits for
//! conditions, never for time to pass. What fails shows the state of
//! everything in its namespace.

mod api_server;
mod bucket;
mod kubectl;
mod operator;
pub mod runner;
mod scenario;
mod second_node;
mod shop;
mod small_volume;
mod told;

pub use api_server::StoppedApiServer;
pub use bucket::{BUCKET, start_bucket};
pub use kubectl::{KubectlError, helm, kubectl, kubectl_with_input};
pub use operator::Operator;
pub use scenario::Scenario;
pub use second_node::{SecondNode, StoppedNode};
pub use shop::{
    CLAIM, FOLDER, SUPERUSER_PASSWORD, Server, TableLock, backup, create_objects,
    create_repository, repository, restore, running_backup, schedule, schedule_at,
    second_repository,
};
pub use small_volume::SmallVolume;
