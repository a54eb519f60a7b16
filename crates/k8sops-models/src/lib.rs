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
mod chat_model;
mod chat_request;
mod circuit_breaker;
mod embeddings;
mod error;
mod error_mapping;
mod event_stream;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http_client;
mod lenient_json;
mod model_reply;
mod ollama;
mod openai;
mod options;
mod prompt;
mod provider_blocks;
mod quirks;
mod reply_assembly;
mod requested_calls;
mod retry;
#[cfg(test)]
mod test_support;
mod text_tool_calls;
mod think_tags;
pub mod tokens;

pub use anthropic::AnthropicModel;
pub use catalog::{InvalidSettings, ModelCatalog, ModelInfo, ProviderInfo};
pub use chat_model::{ChatModel, ReplyStream};
pub use chat_request::{ChatRequest, ToolChoice, ToolSpec};
pub use circuit_breaker::{CircuitAdmission, CircuitBreaker};
pub use embeddings::{EmbeddingModel, ProviderEmbedder};
pub use error::ModelError;
pub use model_reply::{ModelReply, ProviderNotice, ReplyDelta, RequestedCall};
pub use ollama::OllamaModel;
pub use openai::OpenAiModel;
pub use options::{
    LongPromptPrices, ModelChoice, ModelConfig, ModelFeature, ModelPrices, ProviderConfig, ProviderProtocol,
};
pub use retry::RetryPolicy;
