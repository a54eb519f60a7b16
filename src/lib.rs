//! k8sops.
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod config;
pub mod mcp;
pub mod models;
pub mod session;
pub mod telemetry;
pub mod tools;
