//! Logs and metrics of the service.

pub mod logs;
