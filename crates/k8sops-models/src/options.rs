//! Values of the options: protocols, features and prices. The options themselves are in [`crate::provider_options`].

use k8sops_core::{TokenUsage, UsdAmount};
use k8sops_settings::{ValueFormat, words};
use serde::Serialize;
use utoipa::ToSchema;

/// A model of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// The provider's id.
    pub provider: String,
    /// The model's id.
    pub model: String,
}

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

/// A feature of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[schema(as = Feature)]
#[serde(rename_all = "snake_case")]
pub enum ModelFeature {
    /// The model calls tools.
    Tools,
    /// The model reasons before it answers and decides itself for how long, guided by the setting `reasoning`.
    Thinking,
    /// The model reasons within a token budget that the request must name: Anthropic's models before Opus 4.6.
    ThinkingBudget,
    /// The model accepts a sampling temperature.
    Temperature,
}

pub(crate) const MODEL_FEATURE: ValueFormat<ModelFeature> = words! {
    "tools" => ModelFeature::Tools,
    "thinking" => ModelFeature::Thinking,
    "thinking_budget" => ModelFeature::ThinkingBudget,
    "temperature" => ModelFeature::Temperature,
};

/// The prices of a model in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Prices)]
pub struct ModelPrices {
    /// Price of prompt tokens.
    #[schema(value_type = f64)]
    pub input: UsdAmount,
    /// Price of reply tokens, including reasoning.
    #[schema(value_type = f64)]
    pub output: UsdAmount,
    /// Price of prompt tokens that are read from the provider's cache. The default is `input`.
    #[schema(value_type = f64)]
    pub cached_input: UsdAmount,
    /// Price of prompt tokens that are written to the provider's cache. The default is `input`.
    #[schema(value_type = f64)]
    pub cache_write: UsdAmount,
    /// Prices of calls with a long prompt, if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long: Option<LongPromptPrices>,
}

/// The prices of calls with a long prompt in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LongPrices)]
pub struct LongPromptPrices {
    /// A prompt with more tokens than this is a long prompt.
    pub above: u64,
    /// Price of prompt tokens.
    #[schema(value_type = f64)]
    pub input: UsdAmount,
    /// Price of reply tokens, including reasoning.
    #[schema(value_type = f64)]
    pub output: UsdAmount,
    /// Price of prompt tokens that are read from the provider's cache.
    #[schema(value_type = f64)]
    pub cached_input: UsdAmount,
    /// Price of prompt tokens that are written to the provider's cache.
    #[schema(value_type = f64)]
    pub cache_write: UsdAmount,
}

impl ModelPrices {
    /// Returns the cost of a call. Tokens that are read from or written to the cache are part of the input tokens.
    #[must_use]
    pub fn cost(&self, usage: &TokenUsage) -> UsdAmount {
        let Self { mut input, mut output, mut cached_input, mut cache_write, long } = *self;
        if let Some(long) = long.filter(|long| usage.input_tokens > long.above) {
            (input, output) = (long.input, long.output);
            (cached_input, cache_write) = (long.cached_input, long.cache_write);
        }
        let plain = usage.input_tokens.saturating_sub(usage.cached_tokens).saturating_sub(usage.cache_write_tokens);
        [
            input.per_million(plain),
            cached_input.per_million(usage.cached_tokens),
            cache_write.per_million(usage.cache_write_tokens),
            output.per_million(usage.output_tokens),
        ]
        .into_iter()
        .sum()
    }
}
