//! What a model, or its server, does not take, learnt from its refusals: the parameter is left out, and the call is made
//! again at once. Hardly two servers agree on the optional ones, and a list of who takes what would be wrong within a month.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;

use crate::{ModelError, ProviderNotice};

/// A part of a request that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ModelQuirk {
    /// No sampling temperature.
    NoTemperature,
    /// Its thinking cannot be turned off.
    AlwaysThinks,
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

impl ModelQuirk {
    /// Words, any of which in a refusal means this one. All in lower case.
    fn rejection_keywords(self) -> &'static [&'static str] {
        match self {
            Self::NoTemperature => &["temperature"],
            Self::NoReasoningSummary => &["reasoning.summary", "reasoning summar"],
            Self::NoEncryptedReasoning => &["encrypted"],
            Self::NoReturnedReasoning => {
                &["reasoning_content", "reasoning_details", "extra_content", ".reasoning", "'reasoning'"]
            }
            Self::AlwaysThinks | Self::NoThinking => &["think", "reasoning"],
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
    fn notice(self, model: &str) -> Option<ProviderNotice> {
        let (code, message) = match self {
            Self::NoTemperature => {
                ("temperature_ignored", format!("`{model}` takes no temperature; the setting has no effect"))
            }
            Self::AlwaysThinks => {
                ("always_thinks", format!("`{model}` cannot answer without thinking; it thinks as little as it can"))
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
        Some(ProviderNotice { code, message })
    }
}

/// Bytes of the shortest of [`Quirk::words`].
const MIN_KEYWORD_BYTES: usize = 5;

/// The quirks of each model of one provider, as far as they are known. A plain lock: held for a look.
#[derive(Debug, Default)]
pub(crate) struct LearnedQuirks(Mutex<HashMap<String, BTreeSet<ModelQuirk>>>);

impl LearnedQuirks {
    /// Those of `model`.
    pub(crate) fn for_model(&self, model: &str) -> BTreeSet<ModelQuirk> {
        self.0.lock().get(model).cloned().unwrap_or_default()
    }

    /// Notes one; whether it is new.
    pub(crate) fn insert(&self, model: &str, quirk: ModelQuirk) -> bool {
        self.0.lock().entry(model.to_owned()).or_default().insert(quirk)
    }

    /// Whether a refusal is about one of what was `sent` by a call that knew of `known`; then it is noted, and the call is
    /// worth making again without, also when another call has learnt the same meanwhile.
    pub(crate) fn learn_from_rejection(
        &self,
        model: &str,
        error: &ModelError,
        sent: &[ModelQuirk],
        known: &BTreeSet<ModelQuirk>,
    ) -> bool {
        let Some(words) = rejection_text(error, model) else { return false };
        let about = |quirk: &&ModelQuirk| quirk.rejection_keywords().iter().any(|word| words.contains(word));
        let found = sent.iter().filter(|quirk| !known.contains(quirk)).find(about);
        if let Some(quirk) = found {
            self.insert(model, *quirk);
        }
        found.is_some()
    }
}

/// What a provider said when it did not take a request, in lower case: without its own name and the model's, which may hold
/// any word (`kimi-k2-thinking`).
fn rejection_text(error: &ModelError, model: &str) -> Option<String> {
    let ModelError::InvalidRequest(message) = error else { return None };
    // What stands before is ours: who was asked for what, and the status in brackets.
    let words = message.split_once("): ").map_or(message.as_str(), |(_, words)| words);
    let words = words.to_lowercase();
    // A short id holds no word that is looked for, and may be a part of one.
    Some(if model.len() < MIN_KEYWORD_BYTES { words } else { words.replace(&model.to_lowercase(), "") })
}

/// Words of refusals of what a model gets back of its own replies.
const RETURNED_BLOCK_KEYWORDS: [&str; 11] = [
    "cannot be modified",
    "must remain as they were",
    "signature",
    "redacted_thinking",
    "thinking block",
    "encrypted_content",
    "encrypted content",
    "reasoning item",
    "of type 'reasoning'",
    "required 'reasoning' item",
    "cannot be `thinking`",
];

/// Whether a refusal is about what the model got back of its own replies: signatures run out, and are bound to accounts and
/// to conversations that were not cut down since. The conversation goes on without them rather than never again.
pub(crate) fn rejects_returned_blocks(error: &ModelError, model: &str) -> bool {
    rejection_text(error, model).is_some_and(|words| RETURNED_BLOCK_KEYWORDS.iter().any(|word| words.contains(word)))
}

/// What a session is told of quirks.
pub(crate) fn quirk_notices<'a>(quirks: impl IntoIterator<Item = &'a ModelQuirk>, model: &str) -> Vec<ProviderNotice> {
    quirks.into_iter().filter_map(|quirk| quirk.notice(model)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rejected_parameters_are_learned() {
        let quirks = LearnedQuirks::default();
        let refused = |words: &str| ModelError::InvalidRequest(words.to_owned());
        let sent = [ModelQuirk::NoTemperature, ModelQuirk::NoThinking];
        let none = BTreeSet::new();
        assert!(!quirks.learn_from_rejection("m", &refused("no such field: tools"), &sent, &none));
        assert!(!quirks.learn_from_rejection("m", &ModelError::Auth("temperature".into()), &sent, &none));
        let temperature = refused("Unsupported parameter: 'temperature'");
        assert!(quirks.learn_from_rejection("m", &temperature, &sent, &none));
        assert!(quirks.learn_from_rejection("m", &temperature, &sent, &none), "by a call that was under way already");
        assert!(!quirks.learn_from_rejection("m", &temperature, &sent, &quirks.for_model("m")), "once is enough");
        assert!(quirks.learn_from_rejection(
            "m",
            &refused("\"m\" does not support thinking"),
            &sent,
            &quirks.for_model("m")
        ));
        assert_eq!(quirks.for_model("m"), BTreeSet::from(sent));
        assert!(quirks.for_model("n").is_empty());
        assert_eq!(quirk_notices(&quirks.for_model("m"), "m").len(), 2);
    }

    #[test]
    fn model_and_provider_names_are_not_keywords() {
        let model = "Kimi-K2-Thinking";
        let sent = [ModelQuirk::NoThinking, ModelQuirk::NoTemperature];
        let learns = |words: &str| {
            let message = format!(
                "Thinking Machines (reasoning.example.com) did not take the request for `{model}` (400): {words}."
            );
            let quirks = LearnedQuirks::default();
            quirks.learn_from_rejection(model, &ModelError::InvalidRequest(message), &sent, &BTreeSet::new());
            quirks.for_model(model).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(learns("Invalid schema for function 'look'"), []);
        assert_eq!(learns("kimi-k2-thinking is busy with something else"), []);
        assert_eq!(learns("kimi-k2-thinking takes no temperature"), [ModelQuirk::NoTemperature]);
        assert_eq!(learns("`reasoning_effort` is not known"), [ModelQuirk::NoThinking]);
    }

    #[test]
    fn error_about_past_call_does_not_disable_tools() {
        let learns = |words: &str| {
            let error = ModelError::InvalidRequest(words.to_owned());
            LearnedQuirks::default().learn_from_rejection("m", &error, &[ModelQuirk::NoTools], &BTreeSet::new())
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
