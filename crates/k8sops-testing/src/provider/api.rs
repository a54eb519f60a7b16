//! The APIs of providers.

/// Text of the default reply.
pub const GOOD_REPLY: &str = "All three pods are well.";

/// The API that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderApi {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI chat completions.
    Chat,
    /// OpenAI responses.
    Responses,
    /// Ollama chat.
    Ollama,
}

impl ProviderApi {
    /// Every API.
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::Chat, Self::Responses, Self::Ollama];

    /// Returns the name of the provider with this API in the tests.
    pub fn provider_name(self) -> String {
        format!("test-{}", self.protocol())
    }

    /// Returns the value of the setting `protocol`.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Chat => "openai-chat",
            Self::Responses => "openai-responses",
            Self::Ollama => "ollama",
        }
    }

    /// Returns the API to which a path of a request belongs.
    pub(super) fn from_path(path: &str) -> Option<Self> {
        match path {
            "/v1/messages" => Some(Self::Anthropic),
            "/chat/completions" | "/v1/chat/completions" => Some(Self::Chat),
            "/responses" | "/v1/responses" => Some(Self::Responses),
            "/api/chat" => Some(Self::Ollama),
            _ => None,
        }
    }
}
