//! Checks a request by the rules of a server.

use serde_json::Value;

use super::{
    chat_rules, native_rules,
    server::{StrictRejection, StrictServer},
};

impl StrictServer {
    /// Checks the body of a request.
    ///
    /// # Errors
    /// The response of the server to a request that breaks a rule.
    pub fn check(self, body: &Value) -> Result<(), StrictRejection> {
        match self {
            Self::OpenaiResponses => native_rules::check_responses(body),
            Self::Anthropic => native_rules::check_messages(body),
            Self::Ollama => native_rules::check_ollama(body),
            _ => chat_rules::check_chat(self, body),
        }
        .map_err(|violation| self.reject(&violation))
    }
}
