//! The arguments of a tool call, checked while they are read.

use rmcp::model::JsonObject;
use serde_json::Value;

use super::cluster::SimulatedClusterError;

/// Why a tool call failed.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// The tool failed; with the message for the model.
    Tool(String),
    /// The server has no such tool.
    UnknownTool,
}

impl From<SimulatedClusterError> for CallFailure {
    fn from(error: SimulatedClusterError) -> Self {
        Self::Tool(error.to_string())
    }
}

pub(super) fn missing_argument(name: &str) -> CallFailure {
    CallFailure::Tool(format!("error: the argument \"{name}\" is required"))
}

/// The arguments of a tool call. Getters fail with a message that names the argument.
pub(super) struct ToolArguments(pub(super) JsonObject);

impl ToolArguments {
    fn type_error(name: &str, expected: &str, found: &Value) -> CallFailure {
        CallFailure::Tool(format!("error: the argument \"{name}\" must be {expected}, not {found}"))
    }

    /// Returns a string argument. Empty and null count as absent, because models write either.
    pub(super) fn optional_string(&self, name: &str) -> Result<Option<&str>, CallFailure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|t| !t.is_empty())),
            Some(other) => Err(Self::type_error(name, "a string", other)),
        }
    }

    pub(super) fn required_string(&self, name: &str) -> Result<&str, CallFailure> {
        self.optional_string(name)?.ok_or_else(|| missing_argument(name))
    }

    pub(super) fn optional_integer(&self, name: &str) -> Result<Option<u64>, CallFailure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| Self::type_error(name, "a whole number of 0 or more", value))
            }
        }
    }

    pub(super) fn boolean_flag(&self, name: &str) -> Result<bool, CallFailure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Self::type_error(name, "true or false", other)),
        }
    }
}
