//! Limits of tokens that servers name in rejections. A reply limit that does not fit is lowered, and the conversation is left
//! as it is. What was learned holds for the model in this process, so that the next run starts with it.

use std::collections::HashMap;

use k8sops_core::ChatMessage;
use parking_lot::Mutex;

use crate::{ChatRequest, Dialect, ModelError, ModelErrorKind};

/// The smallest reply limit that is worth a request. Below it, the conversation has to be shortened.
const MIN_REPLY_TOKENS: u32 = 256;
/// Tokens that are left free, because servers add tokens of their own to a prompt.
const SPARE_TOKENS: u32 = 32;
/// A window or limit below this is a misread number.
const MIN_LIMIT: u32 = 256;
/// Bytes of text per token, at the lower end: an estimate that is too high only shortens a reply.
const BYTES_PER_TOKEN: usize = 3;
/// Estimated tokens of a message besides its text.
const MESSAGE_OVERHEAD_TOKENS: usize = 16;

/// The limits of one model.
#[derive(Debug, Clone, Copy, Default)]
struct ModelLimits {
    /// Prompt and reply together.
    window: Option<u32>,
    reply: Option<u32>,
}

/// The limits of the models of one provider, as its rejections named them.
#[derive(Debug, Default)]
pub(crate) struct LearnedTokenLimits(Mutex<HashMap<String, ModelLimits>>);

impl LearnedTokenLimits {
    /// Returns the context window of a model, if a rejection has named it.
    pub(crate) fn context_window(&self, model: &str) -> Option<u32> {
        self.0.lock().get(model)?.window
    }

    /// Returns a reply limit of at most `limit` tokens that fits, by what is known of the model.
    pub(crate) fn fit_reply_limit(&self, request: &ChatRequest, limit: u32, dialect: &Dialect) -> u32 {
        let Some(known) = self.0.lock().get(&request.model).copied() else { return limit };
        let limit = known.reply.map_or(limit, |reply| reply.min(limit));
        let Some(window) = known.window.filter(|_| dialect.reply_limit_in_window) else { return limit };
        let room = window.saturating_sub(estimate_prompt_tokens(request));
        // If the estimate leaves no room, the server decides.
        if room < MIN_REPLY_TOKENS { limit } else { room.min(limit) }
    }

    /// Records the limits that a rejection names. Returns the lower reply limit with which the request is to be sent again,
    /// or `None` if the reply limit is not the reason. `sent` is the limit that was sent.
    pub(crate) fn learn_from_rejection(&self, model: &str, error: &ModelError, sent: Option<u32>) -> Option<u32> {
        let details = &error.details;
        let window = details.context_window.filter(|window| *window >= MIN_LIMIT);
        match error.kind {
            ModelErrorKind::ContextTooLong => {
                let window = window?;
                self.0.lock().entry(model.to_owned()).or_default().window = Some(window);
                let sent = sent?;
                let lower = match details.prompt_tokens {
                    Some(prompt) => window.saturating_sub(prompt).saturating_sub(SPARE_TOKENS),
                    // The prompt may fit if the reply does not fill the window.
                    None if sent >= window / 2 => window / 4,
                    None => return None,
                };
                (MIN_REPLY_TOKENS..sent).contains(&lower).then_some(lower)
            }
            ModelErrorKind::InvalidRequest => {
                let limit = details.reply_limit.filter(|limit| *limit >= MIN_LIMIT)?;
                let lower = sent.filter(|sent| limit < *sent).map(|_| limit)?;
                self.0.lock().entry(model.to_owned()).or_default().reply = Some(limit);
                Some(lower)
            }
            _ => None,
        }
    }
}

fn estimate_prompt_tokens(request: &ChatRequest) -> u32 {
    let message_bytes = |message: &ChatMessage| match message {
        ChatMessage::User(message) => message.content.len(),
        ChatMessage::Assistant(message) => {
            let calls = message.tool_calls.iter().map(|call| call.name.len() + call.arguments.to_string().len());
            message.content.len() + calls.sum::<usize>()
        }
        ChatMessage::Tool(message) => message.content.len(),
    };
    let messages: usize = request.messages.iter().map(|message| message_bytes(message)).sum();
    let tools = request.tools.iter().map(|tool| {
        let schema = serde_json::to_string(&tool.input_schema).map_or(0, |schema| schema.len());
        tool.name.len() + tool.description.len() + schema
    });
    let bytes = request.system.len() + messages + tools.sum::<usize>();
    let overhead = (request.messages.len() + request.tools.len()) * MESSAGE_OVERHEAD_TOKENS;
    u32::try_from(bytes / BYTES_PER_TOKEN + overhead).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ProviderErrorDetails,
        test_support::{chat_request, user_message},
    };

    fn too_long(window: u32, prompt: Option<u32>) -> ModelError {
        let details = ProviderErrorDetails {
            context_window: Some(window),
            prompt_tokens: prompt,
            ..ProviderErrorDetails::default()
        };
        ModelError::new(ModelErrorKind::ContextTooLong, "too long").with_details(details)
    }

    #[test]
    fn reply_limit_is_lowered_and_the_window_known_afterwards() {
        let limits = LearnedTokenLimits::default();
        let request = chat_request(vec![user_message("hello")]);
        assert_eq!(limits.fit_reply_limit(&request, 8000, &Dialect::default()), 8000);
        let lower = limits.learn_from_rejection("test-model", &too_long(8192, Some(500)), Some(8000));
        assert_eq!(lower, Some(8192 - 500 - SPARE_TOKENS));
        assert_eq!(limits.context_window("test-model"), Some(8192));
        assert_eq!(limits.context_window("other"), None);
        let fitted = limits.fit_reply_limit(&request, 9000, &Dialect::default());
        assert!((8000..8192).contains(&fitted), "{fitted}");
        let learn = |window, prompt, sent| limits.learn_from_rejection("test-model", &too_long(window, prompt), sent);
        assert_eq!(learn(8192, Some(8100), Some(8000)), None, "no room is left");
        assert_eq!(learn(8192, Some(9000), None), None, "no limit was sent");
        assert_eq!(learn(8192, None, Some(8000)), Some(2048));
        assert_eq!(learn(8192, None, Some(2048)), None);
    }

    #[test]
    fn largest_reply_of_a_model_is_learned() {
        let limits = LearnedTokenLimits::default();
        let details = ProviderErrorDetails { reply_limit: Some(4096), ..ProviderErrorDetails::default() };
        let error = ModelError::new(ModelErrorKind::InvalidRequest, "too large").with_details(details);
        assert_eq!(limits.learn_from_rejection("test-model", &error, Some(8000)), Some(4096));
        assert_eq!(limits.fit_reply_limit(&chat_request(Vec::new()), 8000, &Dialect::default()), 4096);
        assert_eq!(limits.learn_from_rejection("test-model", &error, Some(4096)), None);
    }
}
