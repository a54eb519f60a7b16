//! A tool, as it is described to a model.

use serde_json::{Map, Value};

/// A tool, as it is described to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// The name: `[A-Za-z0-9_-]{1,64}`, which every provider accepts.
    pub name: String,
    /// What the tool does.
    pub description: String,
    /// The JSON Schema of the arguments: an object schema with `properties`, which every provider accepts. It is sent
    /// unchanged. A tool that a provider rejects nevertheless is left out of later requests.
    pub input_schema: Map<String, Value>,
}
