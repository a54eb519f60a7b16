//! What options of this crate are made of: protocols, features and prices. [`crate::provider_options`] has the providers.

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
    /// The Anthropic Messages API.
    Anthropic,
    /// `OpenAI`'s Responses API at `OpenAI` itself, chat completions everywhere else.
    Openai,
    /// Chat completions, wherever it is.
    OpenaiChat,
    /// The Responses API, wherever it is.
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

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[schema(as = Feature)]
#[serde(rename_all = "snake_case")]
pub enum ModelFeature {
    /// It calls tools.
    Tools,
    /// It thinks before it answers, and decides itself how long (`reasoning` in the settings guides it).
    Thinking,
    /// It thinks within a budget of tokens that the request must name: Anthropic's models before Opus 4.6.
    ThinkingBudget,
    /// It takes a sampling temperature.
    Temperature,
}

pub(crate) const MODEL_FEATURE: ValueFormat<ModelFeature> = words! {
    "tools" => ModelFeature::Tools,
    "thinking" => ModelFeature::Thinking,
    "thinking_budget" => ModelFeature::ThinkingBudget,
    "temperature" => ModelFeature::Temperature,
};

/// What a million tokens of a model cost, in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Prices)]
pub struct ModelPrices {
    /// Of a prompt.
    #[schema(value_type = f64)]
    pub input: UsdAmount,
    /// Of a reply, reasoning included.
    #[schema(value_type = f64)]
    pub output: UsdAmount,
    /// Of a prompt that is read from the provider's cache; as much as `input` where it is not named.
    #[schema(value_type = f64)]
    pub cached_input: UsdAmount,
    /// Of a prompt that is written to the provider's cache; as much as `input` where it is not named.
    #[schema(value_type = f64)]
    pub cache_write: UsdAmount,
    /// What they cost in a call with a long prompt, where that is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long: Option<LongPromptPrices>,
}

/// What a million tokens cost in a call with a long prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LongPrices)]
pub struct LongPromptPrices {
    /// A prompt of more tokens than this is a long one.
    pub above: u64,
    /// Of a prompt.
    #[schema(value_type = f64)]
    pub input: UsdAmount,
    /// Of a reply, reasoning included.
    #[schema(value_type = f64)]
    pub output: UsdAmount,
    /// Of a prompt that is read from the provider's cache.
    #[schema(value_type = f64)]
    pub cached_input: UsdAmount,
    /// Of a prompt that is written to the provider's cache.
    #[schema(value_type = f64)]
    pub cache_write: UsdAmount,
}

impl ModelPrices {
    /// What a call costs. Cached tokens and those written to the cache are part of the input.
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
