//! The options of this crate: providers, their models, and the prices of these.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8sops_core::{TokenUsage, UsdAmount};
use secrecy::SecretString;
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

impl ProviderProtocol {
    /// The accepted names, for error messages.
    pub const WORDS: &'static str = "anthropic, openai, openai-chat, openai-responses or ollama";

    /// Parses a name. Returns `None` if it is not one of [`Self::WORDS`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "anthropic" => Some(Self::Anthropic),
            "openai" => Some(Self::Openai),
            "openai-chat" => Some(Self::OpenaiChat),
            "openai-responses" => Some(Self::OpenaiResponses),
            "ollama" => Some(Self::Ollama),
            _ => None,
        }
    }
}

/// A provider of models.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The display name.
    pub name: String,
    /// The wire protocol.
    pub protocol: ProviderProtocol,
    /// The base URL without a trailing slash (`https://api.openai.com/v1`, `https://api.anthropic.com`).
    pub base_url: String,
    /// The API key. Local servers often need none.
    pub api_key: Option<SecretString>,
    /// Whether the provider can be called without an API key.
    pub key_optional: bool,
    /// The environment variable of the API key, for error messages.
    pub key_variable: String,
    /// The time limit for a connection (10 s).
    pub connect_timeout: Duration,
    /// The longest gap between two pieces of a stream, and before the first one (120 s).
    pub read_timeout: Duration,
    /// Additional headers of every request.
    pub headers: BTreeMap<String, SecretString>,
    /// The upper bound of the context length that is requested from a server which must be told it (Ollama), unless the
    /// catalog names the model's (32768 tokens).
    pub max_context: u32,
    /// How long Ollama keeps a model loaded after a call, in its own notation (`30m`).
    pub keep_alive: Option<String>,
    /// The models of the provider.
    pub models: Vec<ModelConfig>,
}

/// A model in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The id at the provider.
    pub id: String,
    /// The display name.
    pub name: String,
    /// A one-line description.
    pub description: String,
    /// The maximum number of tokens of prompt and reply together, if known.
    pub context_window: Option<u32>,
    /// The maximum number of tokens of a reply, if known.
    pub max_output_tokens: Option<u32>,
    /// The features of the model. If the set is empty, they are not known.
    pub features: BTreeSet<ModelFeature>,
    /// The prices, if known.
    pub prices: Option<ModelPrices>,
}

impl ModelConfig {
    /// Creates a model of which only the id and a description are known.
    #[must_use]
    pub fn named(id: &str, description: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            description: description.to_owned(),
            context_window: None,
            max_output_tokens: None,
            features: BTreeSet::new(),
            prices: None,
        }
    }

    /// Returns whether the model is known to lack a feature.
    #[must_use]
    pub fn lacks(&self, feature: ModelFeature) -> bool {
        !self.features.is_empty() && !self.features.contains(&feature)
    }
}

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

impl ModelFeature {
    /// The accepted names, for error messages.
    pub const WORDS: &'static str = "tools, thinking, thinking_budget or temperature";

    /// Parses a name. Returns `None` if it is not one of [`Self::WORDS`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "tools" => Some(Self::Tools),
            "thinking" => Some(Self::Thinking),
            "thinking_budget" => Some(Self::ThinkingBudget),
            "temperature" => Some(Self::Temperature),
            _ => None,
        }
    }
}

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
