//! A model's reply: its streamed pieces and the whole.

use k8sops_core::{ProviderData, StopReason, TokenUsage};
use serde_json::Value;

/// A piece of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyDelta {
    /// More text.
    Text(String),
    /// More of what the model thinks aloud.
    Reasoning(String),
    /// The end: the whole reply. Nothing comes after it; a stream that ends without it is a `MalformedStream`.
    Done(ModelReply),
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelReply {
    /// All the text.
    pub content: String,
    /// All the reasoning, if there was any.
    pub reasoning: Option<String>,
    /// The tools that the model asks for, in its order. Those of a refused reply are not to be run.
    pub tool_calls: Vec<RequestedCall>,
    /// What the call used; zero where the provider does not say.
    pub usage: TokenUsage,
    /// Why the reply ended.
    pub stop_reason: StopReason,
    /// What the provider wants back of it.
    pub provider_data: Option<ProviderData>,
    /// What was done otherwise than asked, for the user to know.
    pub notices: Vec<ProviderNotice>,
}

impl Default for ModelReply {
    /// A reply with nothing in it, ended by the model.
    fn default() -> Self {
        Self {
            content: String::new(),
            reasoning: None,
            tool_calls: Vec::new(),
            usage: TokenUsage::default(),
            stop_reason: StopReason::EndTurn,
            provider_data: None,
            notices: Vec::new(),
        }
    }
}

/// Something that was done otherwise than asked, because the model or its server cannot do it. A session is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderNotice {
    /// A stable word.
    pub code: &'static str,
    /// What it is, and what to do about it.
    pub message: String,
}

/// A tool call as the model wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedCall {
    /// The tool's name, which may be one that does not exist.
    pub name: String,
    /// The arguments: an object; or, where the model wrote no JSON object, a string with what it wrote.
    pub arguments: Value,
}
