//! The port that providers of language models implement.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::{ChatRequest, ModelError, ReplyDelta};

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
