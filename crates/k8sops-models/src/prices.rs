//! Prices of models, and the cost of calls.

use k8sops_core::{TokenUsage, UsdAmount};
use serde::Serialize;
use utoipa::ToSchema;

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
            LongPromptPrices { input, output, cached_input, cache_write, .. } = long;
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
