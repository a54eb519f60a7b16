//! A model that says what a test tells it to, when the test tells it to; and what it was asked.
//!
//! Used by unit and integration tests alike, for what no real provider does on demand.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use k8sops_core::{StopReason, TokenUsage};
use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream, RequestedCall};
use serde_json::Value;
use tokio::sync::Semaphore;

/// What the model does next within a reply.
#[derive(Debug, Clone)]
pub enum Step {
    /// Streams text.
    Text(String),
    /// Streams reasoning.
    Reasoning(String),
    /// Asks for a tool.
    Call(String, Value),
    /// Says that the reply ends for this reason, whatever is in it.
    #[allow(dead_code, reason = "only unit tests need it")]
    End(StopReason),
    /// Waits until the gate is opened.
    Wait(Gate),
    /// Breaks off.
    Fail(ModelError),
    /// Says nothing more, ever.
    Hang,
}

/// Holds a model, or a tool, until the test lets it go on.
#[derive(Debug, Clone)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until somebody stands at the gate.
    pub async fn arrived(&self) {
        self.arrived.acquire().await.expect("never closed").forget();
    }

    /// Lets one through.
    pub fn open(&self) {
        self.open.add_permits(1);
    }

    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.expect("never closed").forget();
    }
}

pub fn text(text: &str) -> Step {
    Step::Text(text.to_owned())
}

pub fn call(name: &str, arguments: Value) -> Step {
    Step::Call(name.to_owned(), arguments)
}

/// The model. Says `ok` when it has nothing left to say.
#[derive(Debug, Default)]
pub struct ScriptedModel {
    replies: Mutex<VecDeque<Vec<Step>>>,
    requests: Mutex<Vec<ChatRequest>>,
}

impl ScriptedModel {
    pub fn new(replies: impl IntoIterator<Item = Vec<Step>>) -> Arc<Self> {
        Arc::new(Self { replies: Mutex::new(replies.into_iter().collect()), requests: Mutex::default() })
    }

    /// Has it say more, after what it was to say before.
    #[allow(dead_code, reason = "only integration tests need it")]
    pub fn say(&self, replies: impl IntoIterator<Item = Vec<Step>>) {
        self.replies.lock().unwrap().extend(replies);
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().unwrap().clone()
    }
}

#[async_trait]
impl ChatModel for ScriptedModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        self.requests.lock().unwrap().push(request);
        let mut steps = self.replies.lock().unwrap().pop_front().unwrap_or_else(|| vec![text("ok")]);
        if let Some(Step::Fail(error)) = steps.first() {
            return Err(error.clone());
        }
        let mut reply = ModelReply {
            usage: TokenUsage { input_tokens: 10, output_tokens: 5, ..TokenUsage::default() },
            ..ModelReply::default()
        };
        for step in &steps {
            match step {
                Step::Text(text) => reply.content.push_str(text),
                Step::Reasoning(text) => reply.reasoning.get_or_insert_default().push_str(text),
                Step::Call(name, arguments) => {
                    reply.stop_reason = StopReason::ToolUse;
                    reply.tool_calls.push(RequestedCall { name: name.clone(), arguments: arguments.clone() });
                }
                Step::End(reason) => reply.stop_reason = *reason,
                _ => {}
            }
        }
        let whole = steps.iter().all(|step| !matches!(step, Step::Fail(_)));
        steps.reverse();
        let deltas = stream::unfold(steps, |mut steps| async move {
            loop {
                let delta = match steps.pop()? {
                    Step::Text(text) => Ok(ReplyDelta::Text(text)),
                    Step::Reasoning(text) => Ok(ReplyDelta::Reasoning(text)),
                    Step::Fail(error) => Err(error),
                    Step::Call(..) | Step::End(_) => continue,
                    Step::Wait(gate) => {
                        gate.pass().await;
                        continue;
                    }
                    Step::Hang => std::future::pending().await,
                };
                return Some((delta, steps));
            }
        });
        let end = stream::iter(whole.then_some(Ok(ReplyDelta::Done(reply))));
        Ok(deltas.chain(end).boxed())
    }

    async fn check(&self, _model: &str) -> Result<(), ModelError> {
        Ok(())
    }
}
