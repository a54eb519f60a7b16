//! Tool calls by the tool's name.

use serde_json::{Map, Value};

use crate::{classification::Classification, command_tools, server_tools};

/// Classifies a call by the name and the arguments of its tool.
///
/// Returns `None` if no tool of exactly that name is known; then the caller decides, for example by the annotations of the
/// tool's server. Names are compared as they are: a prefix or another case makes another tool.
///
/// ```
/// use k8sops_classifier::{EffectClass, classify_tool_call};
/// use serde_json::json;
///
/// let arguments = json!({"args": ["delete", "pod", "web-0"]});
/// let call = classify_tool_call("kubectl", arguments.as_object().unwrap()).unwrap();
/// assert_eq!(call.effect, EffectClass::Mutating);
/// ```
#[must_use]
pub fn classify_tool_call(tool: &str, arguments: &Map<String, Value>) -> Option<Classification> {
    server_tools::classify_server_tool(tool, arguments)
        .or_else(|| command_tools::classify_command_tool(tool, arguments))
}
