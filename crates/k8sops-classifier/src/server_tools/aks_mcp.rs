//! The kubectl tools of `aks-mcp` and `mcp-kubernetes` (Azure), which make a command line of an operation, a resource and
//! further arguments.

use serde_json::{Map, Value};

use super::{
    effect_rule::{EffectRule, ServerTool},
    typed_arguments::text_argument,
};
use crate::{classification::Classification, program::KnownProgram, shell_command::classify_line};

const PARTS: &[&str] = &["operation* resource* args*"];
const LINE: EffectRule = EffectRule::DependsOnArguments(classify_parts);

pub(super) const TOOLS: &[ServerTool] = &[
    ("kubectl_resources", LINE, PARTS),
    ("kubectl_workloads", LINE, PARTS),
    ("kubectl_metadata", LINE, PARTS),
    ("kubectl_diagnostics", LINE, PARTS),
    ("kubectl_cluster", LINE, PARTS),
    ("kubectl_nodes", LINE, PARTS),
    ("kubectl_config", LINE, PARTS),
];

fn classify_parts(arguments: &Map<String, Value>) -> Classification {
    let parts = ["operation", "resource", "args"].map(|key| text_argument(arguments, key).trim());
    let given: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match given.is_empty() {
        true => Classification::mutating("the effect depends on the command line"),
        false => classify_line(&given.join(" "), Some(KnownProgram::Kubectl)),
    }
}
