//! What a provider wants back of its own reply: how it is written down while the reply comes, and read again when the
//! conversation goes on.
//!
//! Text, reasoning and calls stand in the message already; the blocks only say how long a piece of them each is, and hold
//! what else belongs to it (a signature, an encrypted thought). So nothing is kept twice, and a message that was changed
//! since is noticed: its blocks do not fit it any more, and are not sent.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use k8sops_core::{AssistantMessage, ProviderData};

/// A block of a reply, as [`ProviderData`] keeps it. Lengths are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
enum Block {
    Text {
        length: usize,
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

/// Writes the blocks of a reply down, in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    blocks: Vec<Block>,
}

impl Recorder {
    /// More text: of the block before, if that is text.
    pub(super) fn text(&mut self, piece: &str) {
        match self.blocks.last_mut() {
            Some(Block::Text { length }) => *length += piece.len(),
            _ => self.blocks.push(Block::Text { length: piece.len() }),
        }
    }

    /// A block of reasoning begins.
    pub(super) fn reasoning_begins(&mut self) {
        self.blocks.push(Block::Reasoning { length: 0, data: Map::new() });
    }

    /// More reasoning: of the block before, if that is reasoning.
    pub(super) fn reasoning(&mut self, piece: &str) {
        if !matches!(self.blocks.last(), Some(Block::Reasoning { .. })) {
            self.reasoning_begins();
        }
        if let Some(Block::Reasoning { length, .. }) = self.blocks.last_mut() {
            *length += piece.len();
        }
    }

    /// What else belongs to the newest block of reasoning.
    pub(super) fn reasoning_data(&mut self, name: &str, value: Value) {
        let newest = self.blocks.iter_mut().rev().find_map(|block| match block {
            Block::Reasoning { data, .. } => Some(data),
            _ => None,
        });
        if let Some(data) = newest {
            data.insert(name.to_owned(), value);
        }
    }

    /// A call, with what belongs to it besides its name and arguments.
    pub(super) fn call(&mut self, data: Map<String, Value>) {
        self.blocks.push(Block::Call { data });
    }

    /// A block that means nothing to us.
    pub(super) fn opaque(&mut self, data: Value) {
        self.blocks.push(Block::Opaque { data });
    }

    /// The blocks, for the log; `None` when they say nothing that the message does not.
    pub(super) fn finish(self, api: &str) -> Option<ProviderData> {
        let says_more = self.blocks.iter().any(|block| match block {
            Block::Text { .. } => false,
            Block::Reasoning { data, .. } | Block::Call { data } => !data.is_empty(),
            Block::Opaque { .. } => true,
        });
        let blocks = self.blocks.into_iter().filter_map(|block| serde_json::to_value(block).ok()).collect();
        says_more.then(|| ProviderData { api: api.to_owned(), blocks })
    }
}

/// A part of a past reply as its provider gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part<'a> {
    /// Never empty.
    Text(&'a str),
    Reasoning(&'a str, Map<String, Value>),
    /// The next of the reply's calls.
    Call(Map<String, Value>),
    Opaque(Value),
}

/// The parts of a past reply; `None` when it has no blocks, or they do not fit it.
pub(super) fn parts<'a>(message: &'a AssistantMessage, api: &str) -> Option<Vec<Part<'a>>> {
    let data = message.provider_data.as_ref().filter(|data| data.api == api)?;
    let (mut text, mut reasoning) = (message.content.as_str(), message.reasoning.as_deref().unwrap_or_default());
    let mut calls = 0;
    let mut parts = Vec::with_capacity(data.blocks.len());
    for block in &data.blocks {
        parts.push(match Block::deserialize(block).ok()? {
            Block::Text { length } => {
                let (piece, rest) = text.split_at_checked(length)?;
                text = rest;
                if piece.trim().is_empty() {
                    continue;
                }
                Part::Text(piece)
            }
            Block::Reasoning { length, data } => {
                let (piece, rest) = reasoning.split_at_checked(length)?;
                reasoning = rest;
                Part::Reasoning(piece, data)
            }
            Block::Call { data } => {
                calls += 1;
                Part::Call(data)
            }
            Block::Opaque { data } => Part::Opaque(data),
        });
    }
    (text.is_empty() && reasoning.is_empty() && calls == message.tool_calls.len()).then_some(parts)
}

/// The parts up to the last one that is no thought. A reply may end in the middle of one, and providers that want thoughts
/// back refuse those that nothing follows.
pub(super) fn without_last_thoughts(mut parts: Vec<Part<'_>>) -> Vec<Part<'_>> {
    let thought = |part: &Part<'_>| match part {
        Part::Reasoning(..) => true,
        Part::Opaque(data) => data
            .get("type")
            .is_some_and(|kind| ["thinking", "redacted_thinking", "reasoning"].iter().any(|t| kind == t)),
        Part::Text(_) | Part::Call(_) => false,
    };
    let end = parts.iter().rposition(|part| !thought(part)).map_or(0, |at| at + 1);
    parts.truncate(end);
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{assistant, call};
    use k8sops_core::ChatMessage;

    fn message(text: &str, calls: usize, data: Option<ProviderData>) -> AssistantMessage {
        let calls = (0..calls).map(|n| call(&format!("c{n}"), "t", json!({}))).collect();
        match &*assistant(text, calls) {
            ChatMessage::Assistant(message) => {
                AssistantMessage { reasoning: Some("hmm, so".into()), provider_data: data, ..message.clone() }
            }
            _ => unreachable!(),
        }
    }

    #[test]
    fn blocks_are_read_as_they_were_written_and_say_nothing_twice() {
        let mut recorder = Recorder::default();
        recorder.reasoning_begins();
        recorder.reasoning("hmm, ");
        recorder.reasoning_data("signature", json!("s1"));
        recorder.text("I ");
        recorder.text("look.");
        recorder.reasoning_begins();
        recorder.reasoning("so");
        recorder.opaque(json!({"type": "redacted_thinking", "data": "x"}));
        recorder.call(Map::new());
        let data = recorder.finish("a").unwrap();
        assert!(!serde_json::to_string(&data).unwrap().contains("look"));
        let message = message("I look.", 1, Some(data));
        let signature = Map::from_iter([("signature".to_owned(), json!("s1"))]);
        let expected = [
            Part::Reasoning("hmm, ", signature),
            Part::Text("I look."),
            Part::Reasoning("so", Map::new()),
            Part::Opaque(json!({"type": "redacted_thinking", "data": "x"})),
            Part::Call(Map::new()),
        ];
        assert_eq!(parts(&message, "a").unwrap(), expected);
        assert_eq!(parts(&message, "b"), None);
    }

    #[test]
    fn blocks_that_do_not_fit_their_message_are_not_used() {
        let data = |blocks: Value| {
            let Value::Array(blocks) = blocks else { unreachable!() };
            Some(ProviderData { api: "a".into(), blocks })
        };
        for blocks in [
            json!([{"part": "text", "length": 3}, {"part": "reasoning", "length": 7}]),
            json!([{"part": "text", "length": 2}, {"part": "reasoning", "length": 6}]),
            json!([{"part": "text", "length": 2}, {"part": "reasoning", "length": 7}, {"part": "call"}]),
            json!([{"part": "text", "length": 1}, {"part": "reasoning", "length": 7}]),
            json!([{"part": "what"}]),
            json!([7]),
        ] {
            assert_eq!(parts(&message("é", 0, data(blocks.clone())), "a"), None, "{blocks}");
        }
        let fits = json!([{"part": "text", "length": 2}, {"part": "reasoning", "length": 7}]);
        assert!(parts(&message("é", 0, data(fits)), "a").is_some());
    }

    #[test]
    fn a_plain_reply_has_nothing_to_write_down() {
        let mut recorder = Recorder::default();
        recorder.text("hello");
        recorder.reasoning("hm");
        recorder.call(Map::new());
        assert_eq!(recorder.finish("a"), None);
    }
}
