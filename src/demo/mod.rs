//! The parts that `k8sops demo` uses instead of external services: a simulated Kubernetes cluster behind a real MCP server,
//! and a rule-based stand-in for a model. The demo needs no API key, no cluster, no network and no language model.
//!
//! ```text
//! agent ──▶ RuleModel (words of the message ─▶ tool calls ─▶ report)
//!   └─────▶ MCP hub ──in-process pipe──▶ DemoServer ──▶ SimulatedCluster
//! ```
//!
//! Everything between the two is the real service: this module depends only on the port `ChatModel` and on MCP.

pub mod cluster;
pub mod mcp_server;
mod provider;
pub mod rule_model;
mod tool_arguments;
mod tool_catalog;

pub use cluster::SimulatedCluster;
pub use mcp_server::connect_demo_server;
pub use provider::{provider_info, session_settings};
pub use rule_model::RuleModel;
