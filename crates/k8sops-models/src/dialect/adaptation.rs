//! A dialect as it is for one request: with what its model rejects, and in the form that the caller asks for.

use std::collections::{BTreeMap, BTreeSet};

use k8sops_core::RequestForm;

use super::rules::{
    CallIdForm, ContentWithCalls, DeferredTools, Dialect, ReasoningReturn, ReplyLimitField, SystemRole,
};
use crate::quirks::ModelQuirk;

/// Stands for reasoning that a server wants back and that is not known. Such servers accept any text.
const UNKNOWN_REASONING: &str = "(The reasoning of this step is not available.)";
/// Gemini's documented placeholder for calls that another model made.
const SKIPPED_SIGNATURE: &str = "skip_thought_signature_validator";

impl Dialect {
    /// Returns the dialect with what is known of a model, in a form.
    pub(crate) fn adapted(&self, quirks: &BTreeSet<ModelQuirk>, form: RequestForm) -> Self {
        // The signs are of no use here, and two dialects with the same rules are the same.
        let mut dialect = Self {
            hosts: Vec::new(),
            headers: BTreeMap::new(),
            owned_by: Vec::new(),
            error_texts: Vec::new(),
            ..self.clone()
        };
        for quirk in quirks {
            dialect.apply_quirk(*quirk);
        }
        if form >= RequestForm::Strict {
            dialect.call_ids = CallIdForm::NineCharacters;
            dialect.alternating_roles = true;
            dialect.parallel_calls = false;
            dialect.deferred_tools = DeferredTools::Never;
            if dialect.reasoning == ReasoningReturn::CurrentTurn {
                dialect.reasoning = ReasoningReturn::Never;
            }
        }
        dialect
    }

    /// Returns the quirks that would change how this dialect renders a conversation with tool calls.
    pub(crate) fn possible_adaptations(&self) -> Vec<ModelQuirk> {
        let all = [
            ModelQuirk::NeedsSignature,
            ModelQuirk::NeedsReasoning,
            ModelQuirk::NeedsAllReasoning,
            ModelQuirk::NeedsToolList,
            ModelQuirk::ShortCallIds,
            ModelQuirk::AlternatingRoles,
            ModelQuirk::SingleCalls,
            ModelQuirk::SystemInUserMessage,
            ModelQuirk::TextWithCalls,
        ];
        let changes = |quirk: &ModelQuirk| {
            let mut changed = self.clone();
            changed.apply_quirk(*quirk);
            changed != *self
        };
        all.into_iter().filter(changes).collect()
    }

    fn apply_quirk(&mut self, quirk: ModelQuirk) {
        let or_default = |text: &mut String, default: &str| {
            if text.is_empty() {
                default.clone_into(text);
            }
        };
        match quirk {
            ModelQuirk::NeedsReasoning => {
                if self.reasoning != ReasoningReturn::Always {
                    self.reasoning = ReasoningReturn::WithCalls;
                }
                or_default(&mut self.reasoning_placeholder, UNKNOWN_REASONING);
            }
            ModelQuirk::NeedsAllReasoning => {
                self.reasoning = ReasoningReturn::Always;
                or_default(&mut self.reasoning_placeholder, UNKNOWN_REASONING);
            }
            ModelQuirk::NeedsSignature => or_default(&mut self.signature_placeholder, SKIPPED_SIGNATURE),
            ModelQuirk::NeedsToolList => self.tools_with_calls = true,
            ModelQuirk::ShortCallIds => self.call_ids = CallIdForm::NineCharacters,
            ModelQuirk::AlternatingRoles => self.alternating_roles = true,
            ModelQuirk::SingleCalls => self.parallel_calls = false,
            ModelQuirk::SystemInUserMessage => self.system_role = SystemRole::FirstUserMessage,
            ModelQuirk::TextWithCalls => self.content_with_calls = ContentWithCalls::Text,
            ModelQuirk::NoStreamOptions => self.stream_options = false,
            ModelQuirk::LimitIsMaxTokens => self.reply_limit_field = ReplyLimitField::MaxTokens,
            ModelQuirk::LimitIsMaxCompletionTokens => self.reply_limit_field = ReplyLimitField::MaxCompletionTokens,
            ModelQuirk::NoDeferredTools => self.deferred_tools = DeferredTools::Never,
            ModelQuirk::NoTemperature
            | ModelQuirk::AlwaysThinks
            | ModelQuirk::NoThinking
            | ModelQuirk::NoReasoningSummary
            | ModelQuirk::NoEncryptedReasoning
            | ModelQuirk::NoReturnedReasoning
            | ModelQuirk::NoToolChoice
            | ModelQuirk::NoTools
            | ModelQuirk::NoStreamedCalls
            | ModelQuirk::NoStopReason => {}
        }
    }
}
