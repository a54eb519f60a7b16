//! Language models: the port [`ChatModel`], its providers and the catalog.
//!
//! A provider turns a neutral [`ChatRequest`] into its wire form and its stream of bytes into [`ReplyDelta`]s. What a provider
//! gets wrong is mended here, so that the agent sees one behaviour: a reply is complete only if [`ReplyDelta::Done`] came, and
//! everything else ends in one [`ModelError`].
//!
//! ```text
//!              ┌ openai    ─┐ request   ┌ http ┐            ┌ sse ┐           ┌ openai::reply    ─┐
//! ChatRequest ─┤            ├──────────▶│      │──▶ bytes ─▶│     │─▶ events ─▶                   ├─▶ Delta…Done(Reply)
//!              └ anthropic ─┘ (render)  └──────┘            └─────┘           └ anthropic::reply ─┘
//!                                           └───────── fault: any failure ─▶ ModelError ──────┘
//! ```
//! It knows no agent, no tools' servers, no store: a call is a value in and a stream out.

mod anthropic;
mod catalog;
mod circuit;
mod embeddings;
mod error;
mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http;
mod lenient;
mod native;
mod ollama;
mod openai;
mod options;
mod quirks;
mod render;
mod retry;
mod spoken;
mod sse;
mod tags;
#[cfg(test)]
mod testing;
pub mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde_json::{Map, Value};

pub use anthropic::AnthropicModel;
pub use catalog::{InvalidSettings, ModelCatalog, ModelInfo, ProviderInfo};
pub use circuit::{CircuitAdmission, CircuitBreaker};
pub use embeddings::{EmbeddingModel, ProviderEmbedder};
pub use error::ModelError;
pub use ollama::OllamaModel;
pub use openai::OpenAiModel;
pub use options::*;
pub use retry::RetryPolicy;

use k8sops_core::{ChatMessage, ProviderData, ReasoningEffort, StopReason, TokenUsage};

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

/// The pieces of one reply. Dropping it ends the call.
pub type ReplyStream = BoxStream<'static, Result<ReplyDelta, ModelError>>;

/// A provider of language models.
#[async_trait]
pub trait ChatModel: Send + Sync + 'static {
    /// Calls the model. Returns when the provider has accepted the request; the reply comes as a stream.
    ///
    /// # Errors
    /// Every fault before the first piece; faults after it are items of the stream.
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError>;

    /// Tokens of prompt and reply together that the provider gives this model, where that is less than, or known better than,
    /// what the catalog says. May ask the provider.
    async fn context_window(&self, model: &str) -> Option<u32> {
        let _ = model;
        None
    }

    /// Whether the provider answers and knows the model; costs no tokens. For `k8sops doctor`.
    ///
    /// # Errors
    /// What is wrong.
    async fn check(&self, model: &str) -> Result<(), ModelError>;
}
