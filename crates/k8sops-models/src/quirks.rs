//! What a model or its server does not support or misses, learned from its rejections: it is dropped or added, and the request
//! is sent again at once. Servers differ too much in optional parameters and in rules for conversations, and change too often,
//! for a fixed list. What is known in advance is in the dialects.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{ModelError, ModelErrorKind, ProviderNotice};

/// A deviation of a model or its server from the protocol. A request to the model is built without the feature, or with what is
/// missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ModelQuirk {
    /// The sampling temperature is not supported.
    NoTemperature,
    /// Reasoning cannot be turned off.
    AlwaysThinks,
    /// The reasoning effort cannot be set.
    NoThinking,
    /// Summaries of the reasoning are not available.
    NoReasoningSummary,
    /// Encrypted reasoning is not available.
    NoEncryptedReasoning,
    /// Reasoning that the server returned is rejected in later requests.
    NoReturnedReasoning,
    /// `stream_options` is not supported, so that the usage is not reported.
    NoStreamOptions,
    /// The limit of the reply is `max_tokens`.
    LimitIsMaxTokens,
    /// The limit of the reply is `max_completion_tokens`.
    LimitIsMaxCompletionTokens,
    /// `tool_choice` is not supported.
    NoToolChoice,
    /// Tools are not supported.
    NoTools,
    /// Tools cannot be loaded in the conversation.
    NoDeferredTools,
    /// Tool calls only arrive in replies that are not streamed.
    NoStreamedCalls,
    /// Tool calls of the current turn must have a signature, or the placeholder for one.
    NeedsSignature,
    /// Replies that called tools need their reasoning back, also those of earlier turns.
    NeedsReasoning,
    /// All replies need their reasoning back.
    NeedsAllReasoning,
    /// Tools must be listed if the conversation has tool calls.
    NeedsToolList,
    /// Ids of tool calls are nine letters and digits.
    ShortCallIds,
    /// Roles must alternate.
    AlternatingRoles,
    /// A message calls at most one tool.
    SingleCalls,
    /// There is no role for the system prompt.
    SystemInUserMessage,
    /// A message that only calls tools needs a text.
    TextWithCalls,
    /// The server ends its replies without a reason.
    NoStopReason,
}

/// Words of a rejection that misses something, in contrast to one that does not accept it.
const MISSED: [&str; 8] = [
    "missing",
    "passed back",
    "is required",
    "are required",
    "must be provided",
    "must be included",
    "must be present",
    "must include",
];

impl ModelQuirk {
    /// Returns whether a rejection, in lower case, means this quirk.
    fn explains(self, text: &str) -> bool {
        let contains = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        let is_named = contains(self.rejection_keywords());
        match self {
            Self::NeedsReasoning | Self::NeedsAllReasoning | Self::NeedsSignature => is_named && contains(&MISSED),
            Self::NoReturnedReasoning | Self::AlwaysThinks | Self::NoThinking => {
                is_named && !(text.contains("reasoning_content") && contains(&MISSED))
            }
            Self::ShortCallIds => is_named && contains(&["length", "a-z", "alphanumeric", "characters"]),
            Self::TextWithCalls => {
                let is_refused = [
                    "valid string",
                    "not an allowed value",
                    "must be a string",
                    "got null",
                    "be null",
                    "is null",
                    "null value",
                    "expected string",
                    "blank",
                    "is required",
                    "required field",
                    "missing required",
                    "non-empty",
                    "must not be empty",
                    "at least one content",
                ];
                is_named && contains(&is_refused)
            }
            _ => is_named,
        }
    }

    /// Returns the keywords of which any one in a rejection means this quirk, in lower case.
    fn rejection_keywords(self) -> &'static [&'static str] {
        match self {
            Self::NoTemperature => &["temperature"],
            Self::NoReasoningSummary => &["reasoning.summary", "reasoning summar"],
            Self::NoEncryptedReasoning => &["encrypted"],
            Self::NoReturnedReasoning => &[
                "reasoning_content",
                "reasoning_details",
                "extra_content",
                ".reasoning",
                "'reasoning'",
                "thought signature is not valid",
                "corrupted thought signature",
                "invalid thought signature",
            ],
            Self::NeedsSignature => &["thought_signature", "thought signature", "thoughtsignature"],
            Self::NeedsReasoning | Self::NeedsAllReasoning => &["reasoning_content", "reasoning content"],
            Self::NeedsToolList => &[
                "tools=",
                "must define tools",
                "toolconfig field must be",
                "tools must be defined",
                "tools must be provided",
                "tools` is required",
                "tools is required",
                "tools param",
            ],
            Self::ShortCallIds => &["tool call id", "tool_call_id", "tool_call.id", "tool_calls[].id"],
            Self::AlternatingRoles => &[
                "after role 'tool'",
                "after role 'user'",
                "after role 'assistant'",
                "after role tool",
                "must alternate",
                "should alternate",
                "alternate between",
                "last message must",
                "expected last role",
                "consecutive",
                "must start with a user",
                "first message must",
            ],
            Self::SingleCalls => &[
                "single tool-call",
                "single tool call",
                "one tool call at a time",
                "only one tool call",
                "parallel tool calls are not",
                "multiple tool calls are not",
            ],
            Self::SystemInUserMessage => &[
                "system role not supported",
                "invalid role 'system'",
                "system role is not supported",
                "role 'system' is not",
                "system messages are not supported",
                "does not support system",
                "does not support 'system'",
                "developer instruction is not",
            ],
            Self::TextWithCalls => &["content", "text field", "message at position", "must not be empty"],
            Self::AlwaysThinks | Self::NoThinking => &["think", "reasoning"],
            Self::NoStreamOptions => &["stream_options", "stream options"],
            Self::LimitIsMaxTokens | Self::LimitIsMaxCompletionTokens => &["max_tokens", "max_completion_tokens"],
            // Those that name no field are the words of a server which does not know the item.
            Self::NoDeferredTools => &[
                "defer_loading",
                "deferred tool",
                "tool search",
                "tool_reference",
                "tool reference",
                "additional_tools",
                "namespace for function_call",
                "any expected variant",
            ],
            Self::NoToolChoice => &["tool_choice", "tool choice"],
            // `function call` alone does not qualify: rejections of a past call contain it, too.
            Self::NoTools => &[
                "support tool",
                "support function",
                "tools are not",
                "tool use",
                "tool calling",
                "tool calls are not",
                "function calling",
                "--jinja",
                "tool choice requires",
                "enable-auto-tool-choice",
                "`tools`",
            ],
            // Not learned from a rejection.
            Self::NoStopReason => &[],
            Self::NoStreamedCalls => &["tools with stream", "streaming with tools", "stream with tools"],
        }
    }

    /// Returns the notice for the session, or `None` if dropping the parameter makes no visible difference.
    fn notice(self, model: &str) -> Option<ProviderNotice> {
        let (code, message) = match self {
            Self::NoTemperature => {
                ("temperature_ignored", format!("`{model}` does not accept a temperature; the setting has no effect"))
            }
            Self::AlwaysThinks => {
                ("always_thinks", format!("`{model}` cannot answer without reasoning; it uses the lowest effort"))
            }
            Self::NoThinking => (
                "reasoning_ignored",
                format!("`{model}` does not accept a reasoning effort; the setting has no effect"),
            ),
            Self::NoTools => (
                "tools_unsupported",
                format!("`{model}` cannot call tools and answers from its training data only; choose another model"),
            ),
            Self::NoStreamedCalls => (
                "not_streamed",
                format!("`{model}` calls tools only in replies that are not streamed; its replies arrive in one piece"),
            ),
            Self::NoStopReason => (
                "unmarked_end",
                format!("the server of `{model}` does not say why a reply ends; a reply that was cut looks complete"),
            ),
            _ => return None,
        };
        Some(ProviderNotice { code, message })
    }
}

/// The length of the shortest of [`ModelQuirk::rejection_keywords`].
const MIN_KEYWORD_BYTES: usize = 5;

/// The known quirks of each model of one provider.
#[derive(Debug, Default)]
pub(crate) struct LearnedQuirks(Mutex<HashMap<String, BTreeSet<ModelQuirk>>>);

impl LearnedQuirks {
    /// Returns the known quirks of a model.
    pub(crate) fn for_model(&self, model: &str) -> BTreeSet<ModelQuirk> {
        self.0.lock().get(model).cloned().unwrap_or_default()
    }

    /// Adds a quirk and returns whether it is new, like [`BTreeSet::insert`].
    pub(crate) fn insert(&self, model: &str, quirk: ModelQuirk) -> bool {
        self.0.lock().entry(model.to_owned()).or_default().insert(quirk)
    }

    /// Removes a quirk that a reply has disproved.
    fn remove(&self, model: &str, quirk: ModelQuirk) {
        if let Some(known) = self.0.lock().get_mut(model) {
            known.remove(&quirk);
        }
    }

    /// Finds the quirk that explains why a request with the parameters `sent` was rejected, and records it. `known` are
    /// the quirks that the request was built with. If it returns a quirk, the request should be built and sent again,
    /// even if a concurrent call has learned the same quirk in the meantime.
    pub(crate) fn learn_from_rejection(
        &self,
        model: &str,
        error: &ModelError,
        sent: &[ModelQuirk],
        known: &BTreeSet<ModelQuirk>,
    ) -> Option<ModelQuirk> {
        let text = rejection_text(error, model)?;
        let quirk = *sent.iter().find(|quirk| !known.contains(quirk) && quirk.explains(&text))?;
        self.insert(model, quirk);
        Some(quirk)
    }
}

/// Learns whether the server of a model says why its replies end.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopReasonHabit {
    quirks: Arc<LearnedQuirks>,
    model: String,
}

impl StopReasonHabit {
    pub(crate) fn new(quirks: Arc<LearnedQuirks>, model: String) -> Self {
        Self { quirks, model }
    }

    /// Records a reply with a reason.
    pub(crate) fn record_reason(&self) {
        self.quirks.remove(&self.model, ModelQuirk::NoStopReason);
    }

    /// Records a reply with an end mark and without a reason. Returns whether the reply before had none, either: then the
    /// server never sends one. A gateway may mark the end of a reply that its upstream broke off.
    pub(crate) fn is_usual_without_reason(&self) -> bool {
        !self.quirks.insert(&self.model, ModelQuirk::NoStopReason)
    }
}

/// Returns the provider's text of a rejection in lower case, without the model's name, which may contain any keyword
/// (`kimi-k2-thinking`).
pub(crate) fn rejection_text(error: &ModelError, model: &str) -> Option<String> {
    if error.kind != ModelErrorKind::InvalidRequest {
        return None;
    }
    let text = error.details.message.as_ref().unwrap_or(&error.message).to_lowercase();
    // A short id contains no keyword, but may be part of one.
    Some(if model.len() < MIN_KEYWORD_BYTES { text } else { text.replace(&model.to_lowercase(), "") })
}

/// Keywords of rejections of reasoning or signatures that the model returned earlier.
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

/// Returns whether a request was rejected because of data that the model returned earlier. Signatures expire, and are
/// bound to an account and to an unabridged conversation. The conversation continues without them.
pub(crate) fn rejects_returned_blocks(error: &ModelError, model: &str) -> bool {
    rejection_text(error, model)
        .is_some_and(|text| RETURNED_BLOCK_KEYWORDS.iter().any(|keyword| text.contains(keyword)))
}

/// Returns the notices for the session.
pub(crate) fn quirk_notices<'a>(quirks: impl IntoIterator<Item = &'a ModelQuirk>, model: &str) -> Vec<ProviderNotice> {
    quirks.into_iter().filter_map(|quirk| quirk.notice(model)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProviderErrorDetails;

    #[test]
    fn only_rejected_parameters_are_learned() {
        let quirks = LearnedQuirks::default();
        let rejection = |text: &str| ModelError::new(ModelErrorKind::InvalidRequest, text);
        let sent = [ModelQuirk::NoTemperature, ModelQuirk::NoThinking];
        let none = BTreeSet::new();
        assert_eq!(quirks.learn_from_rejection("m", &rejection("no such field: tools"), &sent, &none), None);
        assert_eq!(
            quirks.learn_from_rejection("m", &ModelError::new(ModelErrorKind::Auth, "temperature"), &sent, &none),
            None
        );
        let temperature = rejection("Unsupported parameter: 'temperature'");
        let learned = Some(ModelQuirk::NoTemperature);
        assert_eq!(quirks.learn_from_rejection("m", &temperature, &sent, &none), learned);
        assert_eq!(quirks.learn_from_rejection("m", &temperature, &sent, &none), learned, "by a concurrent call");
        let known = quirks.for_model("m");
        assert_eq!(quirks.learn_from_rejection("m", &temperature, &sent, &known), None, "it is not sent any more");
        let thinking = rejection("\"m\" does not support thinking");
        assert_eq!(quirks.learn_from_rejection("m", &thinking, &sent, &known), Some(ModelQuirk::NoThinking));
        assert_eq!(quirks.for_model("m"), BTreeSet::from(sent));
        assert!(quirks.for_model("n").is_empty());
        assert_eq!(quirk_notices(&quirks.for_model("m"), "m").len(), 2);
    }

    #[test]
    fn model_and_provider_names_are_not_keywords() {
        let model = "Kimi-K2-Thinking";
        let sent = [ModelQuirk::NoThinking, ModelQuirk::NoTemperature];
        let learns = |text: &str| {
            let message =
                format!("Thinking Machines (reasoning.example.com) rejected the request for `{model}` (400): {text}.");
            let quirks = LearnedQuirks::default();
            let details = ProviderErrorDetails { message: Some(text.to_owned()), ..ProviderErrorDetails::default() };
            let error = ModelError::new(ModelErrorKind::InvalidRequest, message).with_details(details);
            quirks.learn_from_rejection(model, &error, &sent, &BTreeSet::new());
            quirks.for_model(model).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(learns("Invalid schema for function 'look'"), []);
        assert_eq!(learns("kimi-k2-thinking is busy with something else"), []);
        assert_eq!(learns("kimi-k2-thinking takes no temperature"), [ModelQuirk::NoTemperature]);
        assert_eq!(learns("`reasoning_effort` is not known"), [ModelQuirk::NoThinking]);
    }

    #[test]
    fn error_about_past_call_does_not_disable_tools() {
        let learns = |text: &str| {
            let error = ModelError::new(ModelErrorKind::InvalidRequest, text);
            LearnedQuirks::default().learn_from_rejection("m", &error, &[ModelQuirk::NoTools], &BTreeSet::new())
        };
        for text in
            ["Function calling is not enabled for m", "m does not support tools", "tool calling is not supported"]
        {
            assert!(learns(text).is_some(), "{text}");
        }
        for text in
            ["Function call is missing a thought_signature", "Not the same number of function calls and responses"]
        {
            assert_eq!(learns(text), None);
        }
    }
}
