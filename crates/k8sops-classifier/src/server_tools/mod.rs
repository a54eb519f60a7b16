//! Tools with typed arguments, of MCP servers that are in wide use.
//!
//! A tool is known by its exact name and its arguments. An argument that the table does not list makes a call mutating,
//! because its effect is unknown.

mod aks_mcp;
mod argocd_mcp;
mod effect_rule;
mod helm_mcp;
mod kubernetes_mcp_server;
mod mcp_server_kubernetes;
mod typed_arguments;

use serde_json::{Map, Value};

use crate::{
    classification::{Classification, ServerReach},
    flag_parser::printable,
};
use effect_rule::{EffectRule, ServerTool};
pub(crate) use mcp_server_kubernetes::{KUBECTL_GENERIC, find_kubectl_words};
use typed_arguments::{is_known_argument, is_reading_argument};

const TABLES: &[&[ServerTool]] =
    &[mcp_server_kubernetes::TOOLS, kubernetes_mcp_server::TOOLS, argocd_mcp::TOOLS, helm_mcp::TOOLS, aks_mcp::TOOLS];

fn find_server_tool(tool: &str) -> Option<&'static ServerTool> {
    TABLES.iter().flat_map(|table| table.iter()).find(|(name, ..)| *name == tool)
}

/// Returns whether a table has a tool of exactly that name.
pub(crate) fn is_server_tool(tool: &str) -> bool {
    find_server_tool(tool).is_some()
}

/// Classifies a call by the tables; `None` if no server has such a tool.
pub(crate) fn classify_server_tool(tool: &str, arguments: &Map<String, Value>) -> Option<Classification> {
    let (name, rule, keys) = find_server_tool(tool)?;
    let classification = match rule {
        EffectRule::Writes(what) => return Some(Classification::mutating(format!("`{name}` {what}"))),
        EffectRule::ChangesServerState(what) => {
            let classification = Classification::mutating(format!("`{name}` {what}"));
            return Some(classification.with_reach(ServerReach::ServerState, String::new));
        }
        EffectRule::Reads(sensitive) => {
            Classification::read(format!("`{name}` only reads")).with_sensitive_output(*sensitive)
        }
        EffectRule::DependsOnArguments(classify) => classify(arguments),
    };
    let unknown =
        arguments.iter().find(|(key, value)| !is_known_argument(key, value, keys) && !is_reading_argument(key, value));
    Some(match unknown {
        Some((key, _)) => {
            let reason = format!("`{name}`: the argument `{}` is not known to be harmless", printable(key));
            Classification::mutating(reason)
                .with_sensitive_output(classification.sensitive_output)
                .with_reach(classification.reach, String::new)
        }
        None => classification,
    })
}
