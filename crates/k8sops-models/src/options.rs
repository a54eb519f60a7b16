//! Options of this crate: providers, their models and what these cost.

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

impl ProviderProtocol {
    /// The accepted names, for error messages.
    pub const WORDS: &'static str = "anthropic, openai, openai-chat, openai-responses or ollama";

    /// Parses a name; `None` when it is not one of [`Self::WORDS`].
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

/// One provider of models.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Its name for people.
    pub name: String,
    /// What it speaks.
    pub protocol: ProviderProtocol,
    /// Where, without a trailing slash (`https://api.openai.com/v1`, `https://api.anthropic.com`).
    pub base_url: String,
    /// The key; servers on one's own machine often need none.
    pub api_key: Option<SecretString>,
    /// Whether it can be used without a key.
    pub key_optional: bool,
    /// The environment variable that holds the key, for messages.
    pub key_variable: String,
    /// How long to wait for a connection (10 s).
    pub connect_timeout: Duration,
    /// The longest gap between two pieces of a stream, the first included (120 s).
    pub read_timeout: Duration,
    /// More headers of every request.
    pub headers: BTreeMap<String, SecretString>,
    /// The most tokens of context that are asked of a server which must be told (Ollama), where its catalog entry does not
    /// say (32768).
    pub max_context: u32,
    /// How long Ollama keeps a model in memory after a call, in its own words (`30m`).
    pub keep_alive: Option<String>,
    /// Its models.
    pub models: Vec<ModelConfig>,
}

/// One model of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The id that the provider knows.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// In one line.
    pub description: String,
    /// Tokens of prompt and reply together, if known.
    pub context_window: Option<u32>,
    /// The most tokens of a reply, if known.
    pub max_output_tokens: Option<u32>,
    /// What it can do; empty: not known.
    pub features: BTreeSet<ModelFeature>,
    /// What it costs, if known.
    pub prices: Option<ModelPrices>,
}

impl ModelConfig {
    /// A model of which nothing but its id is known.
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

    /// Whether it is known to lack a feature.
    #[must_use]
    pub fn lacks(&self, feature: ModelFeature) -> bool {
        !self.features.is_empty() && !self.features.contains(&feature)
    }
}

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

impl ModelFeature {
    /// The accepted names, for error messages.
    pub const WORDS: &'static str = "tools, thinking, thinking_budget or temperature";

    /// Parses a name; `None` when it is not one of [`Self::WORDS`].
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
            input.cost_per_million(plain),
            cached_input.cost_per_million(usage.cached_tokens),
            cache_write.cost_per_million(usage.cache_write_tokens),
            output.cost_per_million(usage.output_tokens),
        ]
        .into_iter()
        .sum()
    }
}
