//! Tool calls, by what their server says about the tool.

use serde_json::{Map, Value};

use crate::{
    classification::{Classification, ServerReach},
    command_tools,
    server_state::is_state_changing_tool,
    server_tools,
    tool_description::{ToolDescription, split_name},
};

/// Classifies a call of a tool.
///
/// Tools with typed arguments are known by their exact name. A tool that takes a command line is recognized by its shape: it
/// has an argument for a command line, and its name, title or description names kubectl, helm, argocd or a shell.
///
/// Returns `None` if nothing is known about the tool; then the caller decides, for example by the annotations of its server.
///
/// ```
/// use k8sops_classifier::{EffectClass, ToolDescription, classify_tool_call};
/// use serde_json::json;
///
/// let tool = ToolDescription::named("k8s_kubectl_execute");
/// let list = json!({"command": "get pods"});
/// let call = classify_tool_call(&tool, list.as_object().unwrap()).unwrap();
/// assert_eq!(call.effect, EffectClass::Read);
///
/// let delete = json!({"command": "kubectl delete pod web-0"});
/// let call = classify_tool_call(&tool, delete.as_object().unwrap()).unwrap();
/// assert_eq!(call.effect, EffectClass::Mutating);
/// ```
#[must_use]
pub fn classify_tool_call(tool: &ToolDescription<'_>, arguments: &Map<String, Value>) -> Option<Classification> {
    classify_reach_apart(tool, arguments).map(Classification::with_reach_in_effect)
}

/// Classifies a call whose effect does not yet show what it reaches.
pub(crate) fn classify_reach_apart(
    tool: &ToolDescription<'_>,
    arguments: &Map<String, Value>,
) -> Option<Classification> {
    server_tools::classify_server_tool(tool.name, arguments)
        .or_else(|| command_tools::classify_command_tool(tool, arguments))
        .or_else(|| classify_state_tool(tool))
}

fn classify_state_tool(tool: &ToolDescription<'_>) -> Option<Classification> {
    is_state_changing_tool(&split_name(tool.name)).then(|| {
        Classification::mutating(format!(
            "`{}` changes the state of its server",
            crate::flag_parser::printable(tool.name)
        ))
        .with_reach(ServerReach::ServerState, String::new)
    })
}
