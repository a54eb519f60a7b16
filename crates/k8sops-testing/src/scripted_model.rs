//! A model that streams scripted replies, for unit and integration tests of what no real provider does on demand.

use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use k8sops_core::{StopReason, TokenUsage};
use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream, RequestedCall};
use serde_json::Value;
use tokio::sync::Semaphore;

/// A step of a scripted reply.
#[derive(Debug, Clone)]
pub enum ReplyStep {
    /// Streams text.
    Text(String),
    /// Streams reasoning.
    Reasoning(String),
    /// Calls a tool.
    Call(String, Value),
    /// Sets the stop reason of the reply.
    End(StopReason),
    /// Waits until the gate is opened.
    Wait(TestGate),
    /// Fails the reply.
    Fail(ModelError),
    /// Streams nothing more, and does not end.
    Hang,
}

/// Holds a model or a tool until the test opens the gate. A clone is the same gate.
#[derive(Debug, Clone)]
pub struct TestGate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl TestGate {
    /// Creates a closed gate.
    pub fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until a model or tool has reached the gate.
    pub async fn arrived(&self) {
        self.arrived.acquire().await.expect("never closed").forget();
    }

    /// Lets one model or tool pass.
    pub fn open(&self) {
        self.open.add_permits(1);
    }

    /// Waits until the gate is opened. Called by the model or tool that is held.
    pub async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.expect("never closed").forget();
    }
}

impl Default for TestGate {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a step that streams text.
pub fn text(text: &str) -> ReplyStep {
    ReplyStep::Text(text.to_owned())
}

/// Returns a step that calls a tool.
pub fn call(name: &str, arguments: Value) -> ReplyStep {
    ReplyStep::Call(name.to_owned(), arguments)
}

/// A model with scripted replies. After the last one it replies `ok`.
#[derive(Debug, Default)]
pub struct ScriptedModel {
    replies: Mutex<VecDeque<Vec<ReplyStep>>>,
    requests: Mutex<Vec<ChatRequest>>,
}

impl ScriptedModel {
    /// Creates a model with these replies, each a list of steps.
    pub fn new(replies: impl IntoIterator<Item = Vec<ReplyStep>>) -> Arc<Self> {
        Arc::new(Self { replies: Mutex::new(replies.into_iter().collect()), requests: Mutex::default() })
    }

    /// Appends replies to the script.
    pub fn add_replies(&self, replies: impl IntoIterator<Item = Vec<ReplyStep>>) {
        self.replies.lock().extend(replies);
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().clone()
    }
}

#[async_trait]
impl ChatModel for ScriptedModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        self.requests.lock().push(request);
        let mut steps = self.replies.lock().pop_front().unwrap_or_else(|| vec![text("ok")]);
        if let Some(ReplyStep::Fail(error)) = steps.first() {
            return Err(error.clone());
        }
        let mut reply = ModelReply {
            usage: TokenUsage { input_tokens: 10, output_tokens: 5, ..TokenUsage::default() },
            ..ModelReply::default()
        };
        for step in &steps {
            match step {
                ReplyStep::Text(text) => reply.content.push_str(text),
                ReplyStep::Reasoning(text) => reply.reasoning.get_or_insert_default().push_str(text),
                ReplyStep::Call(name, arguments) => {
                    reply.stop_reason = StopReason::ToolUse;
                    reply.tool_calls.push(RequestedCall { name: name.clone(), arguments: arguments.clone() });
                }
                ReplyStep::End(reason) => reply.stop_reason = *reason,
                _ => {}
            }
        }
        let whole = steps.iter().all(|step| !matches!(step, ReplyStep::Fail(_)));
        steps.reverse();
        let deltas = stream::unfold(steps, |mut steps| async move {
            loop {
                let delta = match steps.pop()? {
                    ReplyStep::Text(text) => Ok(ReplyDelta::Text(text)),
                    ReplyStep::Reasoning(text) => Ok(ReplyDelta::Reasoning(text)),
                    ReplyStep::Fail(error) => Err(error),
                    ReplyStep::Call(..) | ReplyStep::End(_) => continue,
                    ReplyStep::Wait(gate) => {
                        gate.pass().await;
                        continue;
                    }
                    ReplyStep::Hang => std::future::pending().await,
                };
                return Some((delta, steps));
            }
        });
        let end = stream::iter(whole.then_some(Ok(ReplyDelta::Done(Box::new(reply)))));
        Ok(deltas.chain(end).boxed())
    }

    async fn check(&self, _model: &str) -> Result<(), ModelError> {
        Ok(())
    }
}
