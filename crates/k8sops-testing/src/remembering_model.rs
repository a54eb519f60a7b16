//! A model whose memory extraction is predictable: it extracts the text behind `REMEMBER` of every line of a conversation.

use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use k8sops_core::{ChatMessage, StopReason, TokenUsage};
use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelErrorKind, ModelReply, ReplyDelta, ReplyStream};
use serde_json::{Value, json};

/// A model that replies `Noted.`, and extracts the facts that are marked with `REMEMBER`.
#[derive(Default)]
pub struct RememberingModel {
    /// Requests for replies, in order.
    requests: Mutex<Vec<ChatRequest>>,
    /// Prompts of memory extractions, in order.
    extractions: Mutex<Vec<String>>,
    /// The next extractions that fail.
    pub failing_extractions: AtomicUsize,
    /// The reply to extractions, in place of the facts.
    pub extraction_reply: Mutex<Option<String>>,
}

impl RememberingModel {
    /// Creates a model that fails no extraction.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns the newest user message of the last request.
    ///
    /// # Panics
    /// If there was no request.
    pub fn last_user_message(&self) -> String {
        let requests = self.requests.lock();
        let messages = &requests.last().expect("the model was called").messages;
        let user = messages.iter().rev().find_map(|message| match message.as_ref() {
            ChatMessage::User(message) => Some(message.content.clone()),
            _ => None,
        });
        user.expect("the user said something")
    }

    /// Returns the requests for replies so far.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().clone()
    }

    /// Returns the prompts of the memory extractions so far.
    pub fn extractions(&self) -> Vec<String> {
        self.extractions.lock().clone()
    }
}

fn marked_facts(question: &str) -> Value {
    let facts = question.lines().filter_map(|line| line.split_once("REMEMBER ")).map(|(_, fact)| fact);
    facts.map(|fact| json!({"kind": "semantic", "content": fact, "tags": [], "confidence": 0.9})).collect()
}

#[async_trait]
impl ChatModel for RememberingModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let mut reply = ModelReply { stop_reason: StopReason::EndTurn, ..ModelReply::default() };
        reply.usage = TokenUsage { input_tokens: 100, output_tokens: 10, ..TokenUsage::default() };
        if request.system.starts_with("You keep the long-term memory") {
            let ChatMessage::User(asked) = request.messages[0].as_ref() else { panic!("{request:?}") };
            self.extractions.lock().push(asked.content.clone());
            let failing =
                self.failing_extractions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if failing.is_ok() {
                return Err(ModelError::new(ModelErrorKind::Auth, "the key is not known"));
            }
            let own = self.extraction_reply.lock().clone();
            reply.content = own.unwrap_or_else(|| marked_facts(&asked.content).to_string());
        } else {
            reply.content = "Noted.".into();
            self.requests.lock().push(request);
        }
        Ok(stream::iter([Ok(ReplyDelta::Done(Box::new(reply)))]).boxed())
    }

    async fn check(&self, _: &str) -> Result<(), ModelError> {
        Ok(())
    }
}
