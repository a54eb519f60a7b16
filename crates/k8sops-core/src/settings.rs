//! Settings of a session, and changes to them.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::ToSchema;

/// The settings of a session's runs. They are validated against the model catalog where they enter the service.
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
    /// Upper limit of the tokens of one reply; absent: the catalog's limit of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Reasoning effort; absent: the model's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningEffort>,
    /// Whether memories are recalled in this session and extracted from it, if the service has a long-term memory. `false`
    /// keeps the session off the record.
    #[serde(default = "memory_default", skip_serializing_if = "Clone::clone")]
    #[schema(default = true)]
    pub memory: bool,
    /// The user's time zone by its IANA name, like `Europe/Berlin`. The model is told the time of each message in UTC, and also
    /// in this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl SessionSettings {
    /// Default settings with this provider and model.
    #[must_use]
    pub fn for_model(provider: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            provider: provider.into(),
            model: model.into(),
            temperature: None,
            max_tokens: None,
            reasoning: None,
            memory: memory_default(),
            time_zone: None,
        }
    }
}

fn memory_default() -> bool {
    true
}

/// How much a model reasons before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Effort)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningEffort {
    /// No reasoning, if the model can do without.
    Off,
    /// Low effort.
    Low,
    /// Medium effort.
    Medium,
    /// High effort.
    High,
}

impl ReasoningEffort {
    /// The value in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Parses the value in JSON.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Off, Self::Low, Self::Medium, Self::High].into_iter().find(|effort| effort.as_str() == word)
    }
}

/// A change of settings. An absent field stays as it is; `null` resets a field to its default, which provider and model do
/// not have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// The provider's id in the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "reject_null")]
    #[schema(nullable = false)]
    pub provider: Option<String>,
    /// The model's id at that provider.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "reject_null")]
    #[schema(nullable = false)]
    pub model: Option<String>,
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_field")]
    #[schema(value_type = Option<f64>)]
    pub temperature: Option<Option<f64>>,
    /// Upper limit of the tokens of one reply.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_field")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub max_tokens: Option<Option<u32>>,
    /// How much the model reasons before it answers.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_field")]
    #[schema(value_type = Option<ReasoningEffort>)]
    pub reasoning: Option<Option<ReasoningEffort>>,
    /// Whether memories are recalled and extracted; on by default.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_field")]
    #[schema(value_type = Option<bool>)]
    pub memory: Option<Option<bool>>,
    /// The user's time zone by its IANA name, like `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "nullable_field")]
    #[schema(value_type = Option<String>)]
    pub time_zone: Option<Option<String>>,
}

impl SettingsPatch {
    /// The settings after this change.
    #[must_use]
    pub fn apply_to(&self, settings: &SessionSettings) -> SessionSettings {
        let mut patched = settings.clone();
        if let Some(provider) = &self.provider {
            patched.provider.clone_from(provider);
        }
        if let Some(model) = &self.model {
            patched.model.clone_from(model);
        }
        if let Some(temperature) = self.temperature {
            patched.temperature = temperature;
        }
        if let Some(max_tokens) = self.max_tokens {
            patched.max_tokens = max_tokens;
        }
        if let Some(reasoning) = self.reasoning {
            patched.reasoning = reasoning;
        }
        if let Some(memory) = self.memory {
            patched.memory = memory.unwrap_or_else(memory_default);
        }
        if let Some(time_zone) = &self.time_zone {
            patched.time_zone.clone_from(time_zone);
        }
        patched
    }
}

/// Rejects `null` for a field without a default, so that a client does not believe that the field was reset.
fn reject_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Option::<T>::deserialize(d)?.map(Some).ok_or_else(|| {
        D::Error::custom("provider and model cannot be null, they have no default; leave out what is to stay as it is")
    })
}

/// Distinguishes an absent field (`None`) from `null` (`Some(None)`).
mod nullable_field {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Option<Option<T>>, s: S) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(s)
    }

    pub(super) fn deserialize<'de, T, D>(d: D) -> Result<Option<Option<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Option::<T>::deserialize(d).map(Some)
    }
}
