//! Logs and metrics of the service.

pub mod logs;
mod metrics;

pub use metrics::Metrics;
