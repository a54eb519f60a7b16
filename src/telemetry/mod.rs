//! Logs, metrics and traces of the service.

pub mod logs;
mod metrics;
pub mod requests;
pub mod traces;

pub use metrics::{Metrics, OpenStream, Recall, Share, Stream};
