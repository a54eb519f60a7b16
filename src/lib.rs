//! k8sops: a headless Kubernetes-operations agent.
//!
//! A client opens a session over REST, WebSocket or SSE. Behind it an agent works on clusters through MCP tools, with a language
//! model that the operator chooses. This package is the service, and `main` its command line; the parts that do not depend on
//! it are the crates under `crates/`. `ARCHITECTURE.md` describes how they work together.
//!
//! - [`cli`], [`demo`]: clients of the API, and the simulated cluster
//! - [`app`]: builds all parts, runs them, and shuts them down in order
//! - [`api`]: HTTP, SSE and WebSocket
//! - [`auth`]: authentication and roles
//! - [`notifier`]: push notifications to receivers that clients name
//! - [`runtime`]: active sessions: ownership, runs, recovery
//! - [`audit`]: the audit trail
//! - [`config`]: composes the options of all parts
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod demo;
pub mod notifier;
pub mod runtime;
