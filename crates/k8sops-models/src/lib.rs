//! Language model providers behind one port, [`ChatModel`]: requests, streamed replies, errors, retries and prices.
//!
//! A provider converts a neutral [`ChatRequest`] to its wire format, and the bytes of its response to [`ReplyDelta`]s.
//! Deviations of servers from their protocol are corrected here, so that all providers behave the same: a reply is complete
//! only if [`ReplyDelta::Done`] arrived, and every failure is one [`ModelError`].
//!
//! ```text
//!                 prompt                                           reply_assembly
//!                 request_body        http_client   event_framing  reply_assembler
//! ChatRequest ───────────────▶ JSON ─────────────▶ bytes ───▶ events ───▶ ReplyDelta, …, Done(ModelReply)
//!                                         └──────────────┴───────────┴──▶ error_mapping ──▶ ModelError
//! ```
//!
//! [`ModelCatalog`] creates the clients of all configured providers, which speak one of the [`ProviderProtocol`]s. Waiting is
//! left to the caller: [`RetryPolicy`] computes the delay before the next attempt, and [`CircuitBreaker`] decides whether a
//! failing model is called at all. [`EmbeddingModel`] converts texts to vectors.
//!
//! This crate knows nothing of sessions, tools or storage.
//!
//! # Example
//!
//! A model that repeats its system prompt, and a caller that would work with any other provider:
//!
//! ```
//! use async_trait::async_trait;
//! use futures_util::{StreamExt as _, stream};
//! use k8sops_core::RequestForm;
//! use k8sops_models::{
//!     ChatModel, ChatRequest, FoundTools, ModelError, ModelErrorKind, ModelReply, ReplyDelta, ReplyStream, ToolChoice,
//! };
//!
//! struct EchoModel;
//!
//! #[async_trait]
//! impl ChatModel for EchoModel {
//!     async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
//!         let content = request.system.to_string();
//!         let text = ReplyDelta::Text(content.clone());
//!         let done = ReplyDelta::Done(Box::new(ModelReply { content, ..ModelReply::default() }));
//!         Ok(stream::iter([Ok(text), Ok(done)]).boxed())
//!     }
//!
//!     async fn check(&self, _model: &str) -> Result<(), ModelError> {
//!         Ok(())
//!     }
//! }
//!
//! async fn print_reply(model: &dyn ChatModel, request: ChatRequest) -> Result<ModelReply, ModelError> {
//!     let mut stream = model.stream(request).await?;
//!     while let Some(delta) = stream.next().await {
//!         match delta? {
//!             ReplyDelta::Text(text) => print!("{text}"),
//!             ReplyDelta::Reasoning(_) => {}
//!             ReplyDelta::Done(reply) => return Ok(*reply),
//!         }
//!     }
//!     Err(ModelError::new(ModelErrorKind::MalformedStream, "the stream ended without a reply"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ModelError> {
//! let request = ChatRequest {
//!     provider: "echo".into(),
//!     model: "echo-1".into(),
//!     system: "You operate a Kubernetes cluster.".into(),
//!     messages: Vec::new(),
//!     tools: [].into(),
//!     found_tools: FoundTools::default(),
//!     tool_choice: ToolChoice::Auto,
//!     temperature: None,
//!     max_tokens: None,
//!     reasoning: None,
//!     form: RequestForm::Native,
//! };
//! let reply = print_reply(&EchoModel, request).await?;
//! assert_eq!(reply.content, "You operate a Kubernetes cluster.");
//! # Ok(())
//! # }
//! ```

mod anthropic;
mod catalog;
mod chat_model;
mod chat_request;
mod circuit_breaker;
mod dialect;
mod embeddings;
mod error;
mod error_mapping;
mod event_framing;
mod event_stream;
mod found_tools;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod http_client;
mod learned_form;
mod lenient_json;
mod model_choice;
mod model_feature;
mod model_reply;
mod ollama;
mod openai;
mod options;
mod prices;
mod prompt;
mod provider_blocks;
mod provider_protocol;
mod quirks;
mod reply_assembly;
mod requested_calls;
mod retry_policy;
mod runtime_clients;
mod stop_reasons;
#[cfg(test)]
mod stream_faults;
#[cfg(test)]
mod test_support;
mod text_call_formats;
mod text_tool_calls;
mod think_tags;
mod token_limits;
pub mod tokens;
mod tool_placement;
mod tool_rejections;
mod tool_spec;

pub use catalog::{InvalidSettings, ModelCatalog, ModelInfo, ProviderInfo};
pub use chat_model::{ChatModel, ReplyStream};
pub use chat_request::{ChatRequest, ToolChoice};
pub use circuit_breaker::{CircuitAdmission, CircuitBreaker};
pub use dialect::{
    CallIdForm, ContentWithCalls, DeferredTools, Dialect, DialectCatalog, DialectChoice, DialectProtocol, DialectSign,
    ReasoningReturn, RecognizedDialect, ReplyLimitField, SystemRole, ToolBounds,
};
pub use embeddings::{EmbeddingModel, ProviderEmbedder};
pub use error::{ModelError, ModelErrorKind, ProviderErrorDetails};
pub use found_tools::FoundTools;
pub use learned_form::LearnedForm;
pub use model_choice::ModelChoice;
pub use model_feature::ModelFeature;
pub use model_reply::{ModelReply, ProviderNotice, ReplyDelta, RequestedCall};
pub use options::{ModelOptions, PROVIDER_VARIABLES, ProviderCatalogOptions, ProviderOptions};
pub use prices::{LongPromptPrices, ModelPrices};
pub use prompt::escape_tag;
pub use provider_protocol::ProviderProtocol;
pub use retry_policy::RetryPolicy;
pub use tool_spec::ToolSpec;
