//! What `k8sops demo` puts in the place of the outside: a simulated Kubernetes cluster behind a real MCP server, and a
//! rule-based stand-in for a model. No key, no cluster, no network, and no language model.
//!
//! ```text
//! agent ──▶ RuleModel (words of the message ─▶ tool calls ─▶ report)
//!   └─────▶ MCP hub ──in-process pipe──▶ server ──▶ Cluster (simulated)
//! ```
//!
//! Everything between the two is the service's own: this room knows the ports `ChatModel` and MCP and nothing else.

mod catalog;
pub mod cluster;
mod provider;
pub mod rules;
pub mod server;

pub use cluster::Cluster;
pub use provider::{provider_info, settings};
pub use rules::RuleModel;
pub use server::connect;
