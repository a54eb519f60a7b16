//! The wire protocols of providers.

use k8sops_settings::{ValueFormat, words};

/// The wire protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderProtocol {
    /// Anthropic's Messages API.
    Anthropic,
    /// The Responses API at `api.openai.com`, chat completions at any other host.
    Openai,
    /// Chat completions at any host.
    OpenaiChat,
    /// The Responses API at any host.
    OpenaiResponses,
    /// Ollama's own API.
    Ollama,
}

pub(crate) const PROVIDER_PROTOCOL: ValueFormat<ProviderProtocol> = words! {
    "anthropic" => ProviderProtocol::Anthropic,
    "openai" => ProviderProtocol::Openai,
    "openai-chat" => ProviderProtocol::OpenaiChat,
    "openai-responses" => ProviderProtocol::OpenaiResponses,
    "ollama" => ProviderProtocol::Ollama,
};
