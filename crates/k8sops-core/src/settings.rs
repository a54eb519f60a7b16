//! How a session's runs are done.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a session's runs are done. Values are validated where they enter; see `Catalog`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Settings)]
pub struct SessionSettings {
    /// The provider's id in the catalog.
    pub provider: String,
    /// The model's id at that provider.
    pub model: String,
    /// Sampling temperature, 0 to 2; absent: the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The most tokens of one reply; absent: the catalog's figure for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// How much the model thinks before it answers; absent: as the model does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningEffort>,
    /// Whether memories are recalled in this session and kept of it, where the service has a long-term memory. `false` is a
    /// session off the record.
    #[serde(default = "on_the_record", skip_serializing_if = "Clone::clone")]
    #[schema(default = true)]
    pub memory: bool,
}

impl SessionSettings {
    /// Those of a session that only says who answers.
    #[must_use]
    pub fn of(provider: impl Into<String>, model: impl Into<String>) -> Self {
        let (provider, model) = (provider.into(), model.into());
        Self { provider, model, temperature: None, max_tokens: None, reasoning: None, memory: on_the_record() }
    }
}

fn on_the_record() -> bool {
    true
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Effort)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningEffort {
    /// Not at all, where the model can do without.
    Off,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

impl ReasoningEffort {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The effort of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Off, Self::Low, Self::Medium, Self::High].into_iter().find(|effort| effort.as_str() == word)
    }
}
