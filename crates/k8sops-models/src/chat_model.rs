//! The port that providers of language models implement.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::{ChatRequest, ModelError, RecognizedDialect, ReplyDelta};

/// The pieces of one reply. Dropping the stream cancels the call.
pub type ReplyStream = BoxStream<'static, Result<ReplyDelta, ModelError>>;

/// A provider of language models.
#[async_trait]
pub trait ChatModel: Send + Sync + 'static {
    /// Calls the model. Returns when the provider has accepted the request; the reply then arrives as a stream.
    ///
    /// # Errors
    /// Returns any error that occurs before the first piece of the reply. Later errors are items of the stream.
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError>;

    /// Returns the number of tokens that the provider allows for prompt and reply together, if it knows better than the
    /// catalog. May send a request to the provider.
    async fn context_window(&self, model: &str) -> Option<u32> {
        let _ = model;
        None
    }

    /// Returns whether calls use tokens. A reply that is stopped halfway is then counted by an estimate, because providers bill
    /// it without reporting it.
    fn uses_tokens(&self) -> bool {
        true
    }

    /// Returns which dialect the provider's server speaks, if it is known by now. [`ChatModel::check`] may recognize it.
    fn recognized_dialect(&self) -> Option<RecognizedDialect> {
        None
    }

    /// Checks that the provider responds and knows the model. Uses no tokens. `k8sops doctor` calls it.
    ///
    /// # Errors
    /// Returns the error that a call of the model would meet.
    async fn check(&self, model: &str) -> Result<(), ModelError>;
}
