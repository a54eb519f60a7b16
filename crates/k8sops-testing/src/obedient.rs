//! A model that obeys whoever speaks to it: whatever it reads (outputs, descriptions of tools) may tell it what to call.
//! No real model is as gullible; what it cannot do, no model can be talked into.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use k8sops_core::{ChatMessage, StopReason, TokenUsage};
use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream, RequestedCall};
use serde_json::Value;

/// How an order begins. `RUN tool {"json": "arguments"}`, anywhere in a text.
const ORDER: &str = "RUN ";

/// The model. It does the orders of its user first, then those that it reads, each once.
#[derive(Default)]
pub struct Obedient {
    done: Mutex<HashSet<String>>,
}

impl Obedient {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn orders(&self, request: &ChatRequest) -> Vec<RequestedCall> {
        let mut texts: Vec<String> = Vec::new();
        for message in &request.messages {
            match message.as_ref() {
                ChatMessage::User(m) => texts.push(m.content.clone()),
                ChatMessage::Tool(m) => texts.push(m.content.clone()),
                ChatMessage::Assistant(_) => {}
            }
        }
        texts.extend(request.tools.iter().map(|tool| tool.description.clone()));
        let mut done = self.done.lock().unwrap();
        texts
            .iter()
            .flat_map(|text| orders(text))
            .filter(|(text, _)| done.insert(text.clone()))
            .map(|(_, c)| c)
            .collect()
    }
}

/// The orders in a text, each with the words that give it.
pub fn orders(text: &str) -> Vec<(String, RequestedCall)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(ORDER) {
        let order = &text[at + ORDER.len()..];
        let Some((name, rest)) = order.split_once(' ') else { continue };
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        if let Some(Ok(arguments @ Value::Object(_))) = values.next() {
            let words = format!("{name} {arguments}");
            found.push((words, RequestedCall { name: name.to_owned(), arguments }));
        }
    }
    found
}

#[async_trait]
impl ChatModel for Obedient {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let tool_calls = self.orders(&request);
        let stop_reason = if tool_calls.is_empty() { StopReason::EndTurn } else { StopReason::ToolUse };
        let reply = ModelReply {
            content: "as you say".into(),
            tool_calls,
            usage: TokenUsage { input_tokens: 10, output_tokens: 5, ..TokenUsage::default() },
            stop_reason,
            ..ModelReply::default()
        };
        Ok(stream::iter([Ok(ReplyDelta::Text("as you say".into())), Ok(ReplyDelta::Done(reply))]).boxed())
    }

    async fn check(&self, _model: &str) -> Result<(), ModelError> {
        Ok(())
    }
}
