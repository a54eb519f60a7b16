//! k8sops.
#![forbid(unsafe_code)]

pub mod config;
pub mod demo;
pub mod mcp;
pub mod models;
pub mod session;
pub mod tools;
