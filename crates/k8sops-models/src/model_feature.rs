//! Features in which models differ.

use k8sops_settings::{ValueFormat, words};
use serde::Serialize;
use utoipa::ToSchema;

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
    /// The model calls tools that are loaded in the conversation, behind the search that found them.
    DeferredTools,
}

pub(crate) const MODEL_FEATURE: ValueFormat<ModelFeature> = words! {
    "tools" => ModelFeature::Tools,
    "thinking" => ModelFeature::Thinking,
    "thinking_budget" => ModelFeature::ThinkingBudget,
    "temperature" => ModelFeature::Temperature,
    "deferred_tools" => ModelFeature::DeferredTools,
};
