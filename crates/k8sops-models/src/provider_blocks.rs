//! Blocks of provider data: recorded while a reply arrives, and returned to the provider when the conversation
//! continues.
//!
//! Text, reasoning and tool calls are stored in the message. The blocks only hold the length of each piece and the data
//! that belongs to it, such as a signature or encrypted reasoning. So nothing is stored twice, and blocks that no
//! longer match their message are detected and not sent.

use k8sops_core::{AssistantMessage, ProviderData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The wire protocol that blocks were recorded from. [`ProviderData::api`] stores its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockFormat {
    AnthropicMessages,
    ChatCompletions,
    OpenaiResponses,
    OllamaChat,
}

impl BlockFormat {
    fn as_str(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic_messages",
            Self::ChatCompletions => "chat_completions",
            Self::OpenaiResponses => "openai_responses",
            Self::OllamaChat => "ollama_chat",
        }
    }
}

/// A block of a reply, as [`ProviderData`] stores it. Lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
enum ProviderBlock {
    Text {
        length: usize,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        data: Map<String, Value>,
    },
    Reasoning {
        length: usize,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        data: Map<String, Value>,
    },
    Call {
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        data: Map<String, Value>,
    },
    Opaque {
        data: Value,
    },
}

/// Records the blocks of a reply in their order.
#[derive(Debug, Default)]
pub(crate) struct ProviderBlockRecorder {
    blocks: Vec<ProviderBlock>,
}

impl ProviderBlockRecorder {
    /// Records text. It extends the last block if that is text.
    pub(crate) fn record_text(&mut self, piece: &str) {
        match self.blocks.last_mut() {
            Some(ProviderBlock::Text { length, .. }) => *length += piece.len(),
            _ => self.blocks.push(ProviderBlock::Text { length: piece.len(), data: Map::new() }),
        }
    }

    /// Starts a block of text.
    pub(crate) fn start_text(&mut self) {
        self.blocks.push(ProviderBlock::Text { length: 0, data: Map::new() });
    }

    /// Adds data to the latest block of text.
    pub(crate) fn annotate_text(&mut self, name: &str, value: Value) {
        let newest = self.blocks.iter_mut().rev().find_map(|block| match block {
            ProviderBlock::Text { data, .. } => Some(data),
            _ => None,
        });
        if let Some(data) = newest {
            data.insert(name.to_owned(), value);
        }
    }

    /// Starts a block of reasoning.
    pub(crate) fn start_reasoning(&mut self) {
        self.blocks.push(ProviderBlock::Reasoning { length: 0, data: Map::new() });
    }

    /// Records reasoning. It extends the last block if that is reasoning.
    pub(crate) fn record_reasoning(&mut self, piece: &str) {
        if !matches!(self.blocks.last(), Some(ProviderBlock::Reasoning { .. })) {
            self.start_reasoning();
        }
        if let Some(ProviderBlock::Reasoning { length, .. }) = self.blocks.last_mut() {
            *length += piece.len();
        }
    }

    /// Adds data to the latest block of reasoning.
    pub(crate) fn annotate_reasoning(&mut self, name: &str, value: Value) {
        let newest = self.blocks.iter_mut().rev().find_map(|block| match block {
            ProviderBlock::Reasoning { data, .. } => Some(data),
            _ => None,
        });
        if let Some(data) = newest {
            data.insert(name.to_owned(), value);
        }
    }

    /// Records a tool call with the data that belongs to it in addition to its name and arguments.
    pub(crate) fn record_call(&mut self, data: Map<String, Value>) {
        self.blocks.push(ProviderBlock::Call { data });
    }

    /// Removes the block of the call at this position among the calls.
    pub(crate) fn remove_call(&mut self, position: usize) {
        let mut calls = self.blocks.iter().enumerate().filter(|(_, block)| matches!(block, ProviderBlock::Call { .. }));
        if let Some((at, _)) = calls.nth(position) {
            self.blocks.remove(at);
        }
    }

    #[cfg(test)]
    pub(crate) fn call_count(&self) -> usize {
        self.blocks.iter().filter(|block| matches!(block, ProviderBlock::Call { .. })).count()
    }

    /// Records a block that only the provider understands.
    pub(crate) fn record_opaque(&mut self, data: Value) {
        self.blocks.push(ProviderBlock::Opaque { data });
    }

    /// Returns the blocks for the session log, or `None` if they add nothing to the message.
    pub(crate) fn finish(mut self, format: BlockFormat) -> Option<ProviderData> {
        self.blocks.retain(|block| !matches!(block, ProviderBlock::Text { length: 0, .. }));
        let has_data = self.blocks.iter().any(|block| match block {
            ProviderBlock::Text { data, .. } | ProviderBlock::Reasoning { data, .. } | ProviderBlock::Call { data } => {
                !data.is_empty()
            }
            ProviderBlock::Opaque { .. } => true,
        });
        let blocks = self.blocks.into_iter().filter_map(|block| serde_json::to_value(block).ok()).collect();
        has_data.then(|| ProviderData { api: format.as_str().to_owned(), blocks })
    }
}

/// A part of a past reply, as its provider sent it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ReplyPart<'a> {
    /// Text, which is never blank.
    Text(&'a str, Map<String, Value>),
    Reasoning(&'a str, Map<String, Value>),
    /// The next tool call of the reply.
    Call(Map<String, Value>),
    Opaque(Value),
}

/// Splits a past reply into its parts. Returns `None` if it has no blocks of this format, or if they do not match the
/// message.
pub(crate) fn split_reply_parts(message: &AssistantMessage, format: BlockFormat) -> Option<Vec<ReplyPart<'_>>> {
    let data = message.provider_data.as_ref().filter(|data| data.api == format.as_str())?;
    let mut text = message.content.as_str();
    let mut reasoning = message.reasoning.as_deref().unwrap_or_default();
    let mut calls = 0;
    let mut parts = Vec::with_capacity(data.blocks.len());
    for block in &data.blocks {
        parts.push(match ProviderBlock::deserialize(block).ok()? {
            ProviderBlock::Text { length, data } => {
                let (piece, rest) = text.split_at_checked(length)?;
                text = rest;
                if piece.trim().is_empty() {
                    continue;
                }
                ReplyPart::Text(piece, data)
            }
            ProviderBlock::Reasoning { length, data } => {
                let (piece, rest) = reasoning.split_at_checked(length)?;
                reasoning = rest;
                ReplyPart::Reasoning(piece, data)
            }
            ProviderBlock::Call { data } => {
                calls += 1;
                ReplyPart::Call(data)
            }
            ProviderBlock::Opaque { data } => ReplyPart::Opaque(data),
        });
    }
    (text.is_empty() && reasoning.is_empty() && calls == message.tool_calls.len()).then_some(parts)
}

/// Removes reasoning at the end of a reply that was cut short. Providers reject reasoning that nothing follows.
pub(crate) fn without_trailing_reasoning(mut parts: Vec<ReplyPart<'_>>) -> Vec<ReplyPart<'_>> {
    let is_reasoning = |part: &ReplyPart<'_>| match part {
        ReplyPart::Reasoning(..) => true,
        ReplyPart::Opaque(data) => data.get("type").is_some_and(|block_type| {
            ["thinking", "redacted_thinking", "reasoning"].iter().any(|name| block_type == name)
        }),
        ReplyPart::Text(..) | ReplyPart::Call(_) => false,
    };
    let end = parts.iter().rposition(|part| !is_reasoning(part)).map_or(0, |at| at + 1);
    parts.truncate(end);
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::{assistant_message, tool_call};
    use k8sops_core::ChatMessage;

    fn message(text: &str, calls: usize, data: Option<ProviderData>) -> AssistantMessage {
        let calls = (0..calls).map(|n| tool_call(&format!("c{n}"), "t", json!({}))).collect();
        match &*assistant_message(text, calls) {
            ChatMessage::Assistant(message) => {
                AssistantMessage { reasoning: Some("hmm, so".into()), provider_data: data, ..message.clone() }
            }
            _ => unreachable!(),
        }
    }

    #[test]
    fn blocks_round_trip_without_duplicating_text() {
        let mut recorder = ProviderBlockRecorder::default();
        recorder.start_reasoning();
        recorder.record_reasoning("hmm, ");
        recorder.annotate_reasoning("signature", json!("s1"));
        recorder.record_text("I ");
        recorder.record_text("look.");
        recorder.start_reasoning();
        recorder.record_reasoning("so");
        recorder.record_opaque(json!({"type": "redacted_thinking", "data": "x"}));
        recorder.record_call(Map::new());
        let data = recorder.finish(BlockFormat::AnthropicMessages).unwrap();
        assert!(!serde_json::to_string(&data).unwrap().contains("look"));
        let message = message("I look.", 1, Some(data));
        let signature = Map::from_iter([("signature".to_owned(), json!("s1"))]);
        let expected = [
            ReplyPart::Reasoning("hmm, ", signature),
            ReplyPart::Text("I look.", Map::new()),
            ReplyPart::Reasoning("so", Map::new()),
            ReplyPart::Opaque(json!({"type": "redacted_thinking", "data": "x"})),
            ReplyPart::Call(Map::new()),
        ];
        assert_eq!(split_reply_parts(&message, BlockFormat::AnthropicMessages).unwrap(), expected);
        assert_eq!(split_reply_parts(&message, BlockFormat::OllamaChat), None);
    }

    #[test]
    fn mismatched_blocks_are_ignored() {
        let data = |blocks: Value| {
            let Value::Array(blocks) = blocks else { unreachable!() };
            Some(ProviderData { api: "anthropic_messages".into(), blocks })
        };
        for blocks in [
            json!([{"part": "text", "length": 3}, {"part": "reasoning", "length": 7}]),
            json!([{"part": "text", "length": 2}, {"part": "reasoning", "length": 6}]),
            json!([{"part": "text", "length": 2}, {"part": "reasoning", "length": 7}, {"part": "call"}]),
            json!([{"part": "text", "length": 1}, {"part": "reasoning", "length": 7}]),
            json!([{"part": "what"}]),
            json!([7]),
        ] {
            assert_eq!(
                split_reply_parts(&message("é", 0, data(blocks.clone())), BlockFormat::AnthropicMessages),
                None,
                "{blocks}"
            );
        }
        let fits = json!([{"part": "text", "length": 2}, {"part": "reasoning", "length": 7}]);
        assert!(split_reply_parts(&message("é", 0, data(fits)), BlockFormat::AnthropicMessages).is_some());
    }

    #[test]
    fn plain_reply_stores_no_blocks() {
        let mut recorder = ProviderBlockRecorder::default();
        recorder.record_text("hello");
        recorder.record_reasoning("hm");
        recorder.record_call(Map::new());
        assert_eq!(recorder.finish(BlockFormat::AnthropicMessages), None);
    }
}
