//! A request to a language model.

use std::sync::Arc;

use k8sops_core::{ChatMessage, ReasoningEffort, RequestForm};
use serde_json::{Map, Value};

/// One call of a model, in a form that is the same for all providers.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The provider's id in the catalog. It tells which past replies came from the same provider.
    pub provider: String,
    /// The model's id at its provider.
    pub model: String,
    /// The system prompt. It stays the same within a session, so that the provider's prompt cache can be used.
    pub system: Arc<str>,
    /// The conversation, oldest message first. Every tool call has a result.
    pub messages: Vec<Arc<ChatMessage>>,
    /// The tools that the model may call.
    pub tools: Arc<[ToolSpec]>,
    /// Whether the model may call tools in this reply.
    pub tool_choice: ToolChoice,
    /// The sampling temperature. It is sent only if it is set, because some models reject the parameter.
    pub temperature: Option<f64>,
    /// The maximum number of tokens of the reply.
    pub max_tokens: Option<u32>,
    /// The reasoning effort; `None` leaves it to the model.
    pub reasoning: Option<ReasoningEffort>,
    /// The form of the conversation: a plainer one if the model rejected a fuller one.
    pub form: RequestForm,
}

impl ChatRequest {
    /// Returns the names of the tools that the reply may call.
    pub(crate) fn callable_tool_names(&self) -> Vec<String> {
        match self.tool_choice {
            ToolChoice::Auto => self.tools.iter().map(|tool| tool.name.clone()).collect(),
            ToolChoice::None => Vec::new(),
        }
    }
}

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

/// Whether a model may call tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// The model must not call tools in this reply, although the conversation may contain tool calls.
    None,
}
