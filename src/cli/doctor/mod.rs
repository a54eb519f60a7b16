//! `k8sops doctor`: checks what the service needs to start, and says for each part that it works or what to do.
//!
//! A [`HealthCheck`] gets the part that it checks; [`build_checks`] builds the parts. [`run_checks`] runs all checks
//! concurrently, so that one that hangs delays no other, and prints the results in a fixed order.

mod checks;
mod configuration;
mod identity;
mod mcp;
mod mcp_probe;
mod provider;
mod report;
mod store;
#[cfg(test)]
mod testing;

pub use self::{
    checks::{DoctorOptions, build_checks},
    report::{HealthCheck, run_checks},
};
