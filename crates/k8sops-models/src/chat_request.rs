//! A request to a language model.

use std::sync::Arc;

use k8sops_core::{ChatMessage, ReasoningEffort, RequestForm};

use crate::{FoundTools, ToolSpec};

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
    /// The tools that the model may call: first those that every request has, then those that it found in earlier runs.
    pub tools: Arc<[ToolSpec]>,
    /// What each search of the conversation found, for servers that load tools in the conversation.
    pub found_tools: FoundTools,
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
            ToolChoice::Auto => {
                self.tools.iter().chain(self.found_tools.specs()).map(|tool| tool.name.clone()).collect()
            }
            ToolChoice::None => Vec::new(),
        }
    }
}

/// Whether a model may call tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// The model must not call tools in this reply, although the conversation may contain tool calls.
    None,
}
