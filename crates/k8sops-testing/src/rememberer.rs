//! A model that answers anything, and finds in a conversation what stands behind `REMEMBER`, each in a line of its own; by
//! that an extraction has an outcome that a test can know.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use k8sops_core::{ChatMessage, StopReason, TokenUsage};
use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream};
use serde_json::{Value, json};

/// The model.
#[derive(Default)]
pub struct Rememberer {
    /// Requests for replies, in their order.
    requests: Mutex<Vec<ChatRequest>>,
    /// What it was asked when it was to find memories.
    looks: Mutex<Vec<String>>,
    /// So many looks fail before one does not.
    pub failing: AtomicUsize,
    /// What it answers when it is to find memories, instead.
    pub answer: Mutex<Option<String>>,
}

impl Rememberer {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The newest message of the user as the model read it last.
    pub fn read_last(&self) -> String {
        let requests = self.requests.lock().unwrap();
        let messages = &requests.last().expect("it was asked").messages;
        let user = messages.iter().rev().find_map(|message| match message.as_ref() {
            ChatMessage::User(message) => Some(message.content.clone()),
            _ => None,
        });
        user.expect("the user said something")
    }

    pub fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().unwrap().clone()
    }

    pub fn looks(&self) -> Vec<String> {
        self.looks.lock().unwrap().clone()
    }
}

fn found(question: &str) -> Value {
    let facts = question.lines().filter_map(|line| line.split_once("REMEMBER ")).map(|(_, fact)| fact);
    facts.map(|fact| json!({"kind": "semantic", "content": fact, "tags": [], "confidence": 0.9})).collect()
}

#[async_trait]
impl ChatModel for Rememberer {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let mut reply = ModelReply { stop_reason: StopReason::EndTurn, ..ModelReply::default() };
        reply.usage = TokenUsage { input_tokens: 100, output_tokens: 10, ..TokenUsage::default() };
        if request.system.starts_with("You keep the long-term memory") {
            let ChatMessage::User(asked) = request.messages[0].as_ref() else { panic!("{request:?}") };
            self.looks.lock().unwrap().push(asked.content.clone());
            let failing = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if failing.is_ok() {
                return Err(ModelError::Auth("the key is not known".into()));
            }
            let own = self.answer.lock().unwrap().clone();
            reply.content = own.unwrap_or_else(|| found(&asked.content).to_string());
        } else {
            reply.content = "Noted.".into();
            self.requests.lock().unwrap().push(request);
        }
        Ok(stream::iter([Ok(ReplyDelta::Done(reply))]).boxed())
    }

    async fn check(&self, _: &str) -> Result<(), ModelError> {
        Ok(())
    }
}
