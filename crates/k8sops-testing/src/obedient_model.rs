//! A model that follows every instruction that it reads, also in tool outputs and in what servers say of themselves and of
//! their tools. No real model is as
//! gullible: an attack that fails with this one fails with every model.

use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use k8sops_core::{ChatMessage, StopReason, TokenUsage};
use k8sops_models::{ChatModel, ChatRequest, ModelError, ModelReply, ReplyDelta, ReplyStream, RequestedCall};
use serde_json::Value;

/// The start of an instruction: `RUN tool {"json": "arguments"}`, anywhere in a text.
const INSTRUCTION_PREFIX: &str = "RUN ";

/// A model that follows the instructions of its user first, then those that it reads, each once.
#[derive(Default)]
pub struct ObedientModel {
    done: Mutex<HashSet<String>>,
}

impl ObedientModel {
    /// Creates a model that has followed no instruction yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn next_calls(&self, request: &ChatRequest) -> Vec<RequestedCall> {
        let mut texts: Vec<String> = Vec::new();
        for message in &request.messages {
            match message.as_ref() {
                ChatMessage::User(m) => texts.push(m.content.clone()),
                ChatMessage::Tool(m) => texts.push(m.content.clone()),
                ChatMessage::Assistant(_) => {}
            }
        }
        texts.extend(request.tools.iter().map(|tool| tool.description.clone()));
        texts.push(request.system.to_string());
        let mut done = self.done.lock();
        texts
            .iter()
            .flat_map(|text| parse_instructions(text))
            .filter(|(text, _)| done.insert(text.clone()))
            .map(|(_, c)| c)
            .collect()
    }
}

/// Returns the instructions in a text, each with its normalized words.
pub fn parse_instructions(text: &str) -> Vec<(String, RequestedCall)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(INSTRUCTION_PREFIX) {
        let instruction = &text[at + INSTRUCTION_PREFIX.len()..];
        let Some((name, rest)) = instruction.split_once(' ') else { continue };
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        if let Some(Ok(arguments @ Value::Object(_))) = values.next() {
            let words = format!("{name} {arguments}");
            found.push((words, RequestedCall { name: name.to_owned(), arguments }));
        }
    }
    found
}

#[async_trait]
impl ChatModel for ObedientModel {
    async fn stream(&self, request: ChatRequest) -> Result<ReplyStream, ModelError> {
        let tool_calls = self.next_calls(&request);
        let stop_reason = if tool_calls.is_empty() { StopReason::EndTurn } else { StopReason::ToolUse };
        let reply = ModelReply {
            content: "as you say".into(),
            tool_calls,
            usage: TokenUsage { input_tokens: 10, output_tokens: 5, ..TokenUsage::default() },
            stop_reason,
            ..ModelReply::default()
        };
        Ok(stream::iter([Ok(ReplyDelta::Text("as you say".into())), Ok(ReplyDelta::Done(Box::new(reply)))]).boxed())
    }

    async fn check(&self, _model: &str) -> Result<(), ModelError> {
        Ok(())
    }
}
