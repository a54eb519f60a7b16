//! Logs, metrics and traces of the service.

pub mod logs;
mod metrics;
mod options;
pub mod requests;
pub mod traces;

pub use metrics::{Metrics, OpenStream, Recall, Share, Stream};
pub use options::*;
