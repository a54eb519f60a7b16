//! k8sops: a headless Kubernetes-operations agent.
//!
//! A client opens a session over REST, a WebSocket or SSE; behind it an agent works on clusters through MCP tools, with a
//! language model of the operator's choice. The crate is the service; `main` is its command line. `ARCHITECTURE.md` tells
//! how it hangs together. The rooms, from the edge to the heart:
//!
//! - [`cli`], [`demo`]: clients of our own API, and the simulated outside
//! - [`app`]: builds all parts, runs them, stops them in order
//! - [`api`]: HTTP, SSE, WebSocket
//! - [`auth`]: who a caller is, and what roles may do
//! - [`runtime`]: sessions alive: owners, recovery
//! - [`audit`]: the trail of who did what
//! - [`agent`]: one run over model and tools
//! - [`models`], [`tools`], [`mcp`]: the ways to the outside
//! - [`store`]: where logs are kept
//! - [`session`]: events, projection, cursor: what everything else is about
//! - [`config`], [`telemetry`]: the ground
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod demo;
mod error_chain;
pub mod runtime;
