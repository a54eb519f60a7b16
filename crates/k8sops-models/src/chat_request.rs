//! A request to a model.

use std::sync::Arc;

use k8sops_core::{ChatMessage, ReasoningEffort};
use serde_json::{Map, Value};

/// One call of a model.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The provider's id in the catalog: what it said itself is known by it.
    pub provider: String,
    /// The model's id at its provider.
    pub model: String,
    /// The system prompt; the same from call to call within a session, so that provider caches hit.
    pub system: Arc<str>,
    /// The conversation, oldest first. Every tool call in it has its result.
    pub messages: Vec<Arc<ChatMessage>>,
    /// The tools on offer.
    pub tools: Arc<[ToolSpec]>,
    /// Whether the model may call them.
    pub tool_choice: ToolChoice,
    /// Sent only when set: some models refuse the parameter.
    pub temperature: Option<f64>,
    /// The most tokens of the reply.
    pub max_tokens: Option<u32>,
    /// How much the model is to think; `None`: as it does by itself.
    pub reasoning: Option<ReasoningEffort>,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// `[A-Za-z0-9_-]{1,64}`, which every provider accepts.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments as every provider accepts it: of an object, with `properties`. Sent as it is.
    pub input_schema: Map<String, Value>,
}

/// Whether a model may call tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it sees fit.
    Auto,
    /// Not in this call, though the conversation has tool calls in it.
    None,
}
