//! What `k8sops demo` puts in the place of the outside: a simulated Kubernetes cluster behind a real MCP server, and a
//! rule-based stand-in for a model. No key, no cluster, no network, and no language model.
//!
//! ```text
//! agent ──▶ RuleModel (words of the message ─▶ tool calls ─▶ report)
//!   └─────▶ MCP hub ──in-process pipe──▶ server ──▶ Cluster (simulated)
//! ```
//!
//! Everything between the two is the service's own: this room knows the ports `ChatModel` and MCP and nothing else.

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
