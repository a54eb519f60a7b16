//! What a model, or its server, does not take, learnt from its refusals: the parameter is left out, and the call is made
//! again at once. Hardly two servers agree on the optional ones, and a list of who takes what would be wrong within a month.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use super::{ModelError, Notice};

/// A part of a request that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Quirk {
    /// No sampling temperature.
    NoTemperature,
    /// No wish about thinking.
    NoThinking,
    /// No summaries of reasoning.
    NoReasoningSummary,
    /// No reasoning in encrypted form.
    NoEncryptedReasoning,
    /// Nothing back of what the server itself gave of the model's reasoning.
    NoReturnedReasoning,
    /// No `stream_options`: the usage does not come.
    NoStreamOptions,
    /// The limit on the reply goes by its other name.
    OtherLimit,
    /// No word on whether tools may be called.
    NoToolChoice,
    /// No tools.
    NoTools,
    /// Tool calls come only where the reply is not streamed.
    NoStreamedCalls,
}

impl Quirk {
    /// Words, any of which in a refusal means this one. All in lower case.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::NoTemperature => &["temperature"],
            Self::NoReasoningSummary => &["reasoning.summary", "reasoning summar"],
            Self::NoEncryptedReasoning => &["encrypted"],
            Self::NoReturnedReasoning => {
                &["reasoning_content", "reasoning_details", "extra_content", ".reasoning", "'reasoning'"]
            }
            Self::NoThinking => &["think", "reasoning"],
            Self::NoStreamOptions => &["stream_options", "stream options"],
            Self::OtherLimit => &["max_tokens", "max_completion_tokens"],
            Self::NoToolChoice => &["tool_choice", "tool choice"],
            // Not `function call` alone: that is in complaints about a call of the conversation, too.
            Self::NoTools => &[
                "support tool",
                "support function",
                "tools are not",
                "tool use",
                "tool calling",
                "tool calls are not",
                "function calling",
                "--jinja",
                "`tools`",
            ],
            Self::NoStreamedCalls => &["tools with stream", "streaming with tools", "stream with tools"],
        }
    }

    /// What a session is told; nothing where nobody would miss what is left out.
    fn notice(self, model: &str) -> Option<Notice> {
        let (code, message) = match self {
            Self::NoTemperature => {
                ("temperature_ignored", format!("`{model}` takes no temperature; the setting has no effect"))
            }
            Self::NoThinking => {
                ("reasoning_ignored", format!("`{model}` takes no setting of its reasoning; it has no effect"))
            }
            Self::NoTools => (
                "tools_unsupported",
                format!("`{model}` cannot call tools, so it answers from what it knows alone; choose another model"),
            ),
            Self::NoStreamedCalls => (
                "not_streamed",
                format!("`{model}` calls tools only when its replies are not streamed; they come in one piece"),
            ),
            _ => return None,
        };
        Some(Notice { code, message })
    }
}

/// The quirks of each model of one provider, as far as they are known. A plain lock: held for a look.
#[derive(Debug, Default)]
pub(super) struct Quirks(Mutex<HashMap<String, BTreeSet<Quirk>>>);

impl Quirks {
    /// Those of `model`.
    pub(super) fn of(&self, model: &str) -> BTreeSet<Quirk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned().unwrap_or_default()
    }

    /// Notes one; whether it is new.
    pub(super) fn learn(&self, model: &str, quirk: Quirk) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(model.to_owned()).or_default().insert(quirk)
    }

    /// Whether a refusal is about one of what was `sent`; then it is noted, and the call is worth making again without.
    pub(super) fn learn_from(&self, model: &str, error: &ModelError, sent: &[Quirk]) -> bool {
        let ModelError::InvalidRequest(message) = error else { return false };
        let message = message.to_lowercase();
        let found = sent.iter().find(|quirk| quirk.words().iter().any(|word| message.contains(word)));
        found.is_some_and(|quirk| self.learn(model, *quirk))
    }
}

/// Words of refusals of what a model gets back of its own replies.
const OWN_BLOCKS: [&str; 8] = [
    "cannot be modified",
    "must remain as they were",
    "signature",
    "redacted_thinking",
    "thinking block",
    "encrypted_content",
    "encrypted content",
    "reasoning item",
];

/// Whether a refusal is about what the model got back of its own replies: signatures run out, and are bound to accounts and
/// to conversations that were not cut down since. The conversation goes on without them rather than never again.
pub(super) fn refuses_own_blocks(error: &ModelError) -> bool {
    let ModelError::InvalidRequest(message) = error else { return false };
    let message = message.to_lowercase();
    OWN_BLOCKS.iter().any(|word| message.contains(word))
}

/// What a session is told of quirks.
pub(super) fn notices<'a>(quirks: impl IntoIterator<Item = &'a Quirk>, model: &str) -> Vec<Notice> {
    quirks.into_iter().filter_map(|quirk| quirk.notice(model)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_left_out_once_and_nothing_else_is_guessed() {
        let quirks = Quirks::default();
        let refused = |words: &str| ModelError::InvalidRequest(words.to_owned());
        let sent = [Quirk::NoTemperature, Quirk::NoThinking];
        assert!(!quirks.learn_from("m", &refused("no such field: tools"), &sent));
        assert!(!quirks.learn_from("m", &ModelError::Auth("temperature".into()), &sent));
        assert!(quirks.learn_from("m", &refused("Unsupported parameter: 'temperature'"), &sent));
        assert!(!quirks.learn_from("m", &refused("Unsupported parameter: 'temperature'"), &sent), "only once");
        assert!(quirks.learn_from("m", &refused("\"m\" does not support thinking"), &sent));
        assert_eq!(quirks.of("m"), BTreeSet::from(sent));
        assert!(quirks.of("n").is_empty());
        assert_eq!(notices(&quirks.of("m"), "m").len(), 2);
    }

    #[test]
    fn a_complaint_about_a_call_of_the_conversation_does_not_take_the_tools_away() {
        let learns = |words: &str| {
            Quirks::default().learn_from("m", &ModelError::InvalidRequest(words.to_owned()), &[Quirk::NoTools])
        };
        for words in
            ["Function calling is not enabled for m", "m does not support tools", "tool calling is not supported"]
        {
            assert!(learns(words), "{words}");
        }
        for words in
            ["Function call is missing a thought_signature", "Not the same number of function calls and responses"]
        {
            assert!(!learns(words), "{words}");
        }
    }
}
