//! End-to-end scenarios: what a person does with `kubectl` on a real cluster
//! that has the images and the chart, and what must be true afterwards.
//!
//! Nothing of the product is linked here. A scenario has a namespace of its
//! own, with the `restricted` Pod Security level enforced, and waits for
//! conditions, never for time to pass. What fails shows the state of
//! everything in its namespace.

mod kubectl;
mod scenario;
mod shop;

pub use kubectl::{KubectlError, kubectl, kubectl_with_input};
pub use scenario::Scenario;
pub use shop::{SUPERUSER_PASSWORD, Server, backup, create_repository, restore, schedule};
