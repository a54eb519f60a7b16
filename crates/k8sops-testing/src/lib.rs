//! Test doubles and servers for the tests of k8sops: scripted models, model providers on the wire, MCP servers, and processes
//! (Redis, nginx, k8sops itself). For development only; no shipped code depends on this crate.

mod eventually;

pub mod asking_server;
pub mod child_program;
pub mod counting_server;
pub mod fake_mcp_server;
pub mod hooked_store;
pub mod nginx;
pub mod obedient_model;
pub mod provider;
pub mod quiet_notifications;
pub mod redis;
pub mod remembering_model;
pub mod scripted_model;
pub mod strict_servers;
pub mod testbed;

pub use eventually::{PollOutcome, TEST_TIMEOUT, eventually, eventually_within};
