//! The catalog of providers and models: clients choose from it, and session settings are validated against it.

use std::{collections::BTreeMap, sync::Arc};

use k8sops_core::{ReasoningEffort, SessionSettings};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ChatModel, CircuitBreaker, LearnedForm, ModelFeature, ModelOptions, ModelPrices, ProviderOptions, ProviderProtocol,
    anthropic::{AnthropicModel, MAX_TEMPERATURE},
    circuit_breaker::CircuitBreakers,
    learned_form::LearnedForms,
    ollama::OllamaModel,
    openai::OpenAiModel,
};

/// The longest model id that is accepted from a provider whose models are not listed.
const MAX_MODEL_ID_BYTES: usize = 256;

/// A provider, as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ProviderInfo {
    /// The id that session settings use.
    pub id: String,
    /// The display name.
    pub name: String,
    /// Whether the provider can be called: it has its API key, or needs none.
    pub configured: bool,
    /// The models of the provider. If the list is empty, the provider accepts any model id.
    pub models: Vec<ModelInfo>,
}

/// A model, as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelInfo {
    /// The id in session settings and at the provider.
    pub id: String,
    /// The display name.
    pub name: String,
    /// A one-line description.
    pub description: String,
    /// The maximum number of tokens of prompt and reply together, if known.
    pub context_window: Option<u32>,
    /// The maximum number of tokens of a reply, if known.
    pub max_output_tokens: Option<u32>,
    /// The features of the model. If the list is empty, they are not known.
    pub features: Vec<ModelFeature>,
    /// The prices per million tokens in US dollars, if known.
    pub prices: Option<ModelPrices>,
}

impl From<&ModelOptions> for ModelInfo {
    fn from(config: &ModelOptions) -> Self {
        Self {
            id: config.id.clone(),
            name: config.name.clone(),
            description: config.description.clone(),
            context_window: config.context_window,
            max_output_tokens: config.max_output_tokens,
            features: config.features.iter().copied().collect(),
            prices: config.prices,
        }
    }
}

/// The reason why session settings were rejected, worded for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidSettings {
    /// The invalid field of the settings.
    pub field: &'static str,
    /// What is wrong with the field, and which values are allowed.
    pub message: String,
}

struct RegisteredProvider {
    info: ProviderInfo,
    /// The highest temperature of the provider's protocol.
    max_temperature: f64,
    model: Arc<dyn ChatModel>,
}

/// The providers by id. Only the circuit breakers and the learned forms change after startup.
pub struct ModelCatalog {
    entries: BTreeMap<String, RegisteredProvider>,
    circuits: CircuitBreakers,
    forms: LearnedForms,
}

impl ModelCatalog {
    /// Returns a catalog of the configured providers. Nothing is sent: a provider that lacks its API key or cannot be
    /// reached is listed, and its calls return the error.
    #[must_use]
    pub fn new(providers: &BTreeMap<String, ProviderOptions>) -> Self {
        let entries = providers.iter().map(|(id, config)| {
            let key = config.api_key.as_ref().is_some_and(|key| !key.expose_secret().trim().is_empty());
            let info = ProviderInfo {
                id: id.clone(),
                name: config.name.clone(),
                configured: key || config.key_optional,
                models: config.models.iter().map(ModelInfo::from).collect(),
            };
            let (model, max_temperature): (Arc<dyn ChatModel>, _) = match config.protocol {
                ProviderProtocol::Anthropic => (Arc::new(AnthropicModel::new(config)), MAX_TEMPERATURE),
                ProviderProtocol::Ollama => (Arc::new(OllamaModel::new(config)), 2.0),
                ProviderProtocol::Openai | ProviderProtocol::OpenaiChat | ProviderProtocol::OpenaiResponses => {
                    (Arc::new(OpenAiModel::new(config)), 2.0)
                }
            };
            (id.clone(), RegisteredProvider { info, max_temperature, model })
        });
        Self { entries: entries.collect(), circuits: CircuitBreakers::default(), forms: LearnedForms::default() }
    }

    /// Adds a provider that is built in rather than configured, such as the demo's or a test's scripted model.
    pub fn register_provider(&mut self, info: ProviderInfo, model: Arc<dyn ChatModel>) {
        self.entries.insert(info.id.clone(), RegisteredProvider { info, max_temperature: 2.0, model });
    }

    /// Returns all providers, ordered by id.
    #[must_use]
    pub fn providers(&self) -> Vec<ProviderInfo> {
        self.entries.values().map(|entry| entry.info.clone()).collect()
    }

    /// Returns whether the provider exists and has its API key or needs none.
    #[must_use]
    pub fn is_configured(&self, provider: &str) -> bool {
        self.entries.get(provider).is_some_and(|entry| entry.info.configured)
    }

    /// Returns the client for the models of a provider.
    #[must_use]
    pub fn chat_model(&self, provider: &str) -> Option<Arc<dyn ChatModel>> {
        self.entries.get(provider).map(|entry| Arc::clone(&entry.model))
    }

    /// Returns the catalog entry of a model.
    #[must_use]
    pub fn model_info(&self, provider: &str, model: &str) -> Option<&ModelInfo> {
        self.entries.get(provider)?.info.models.iter().find(|info| info.id == model)
    }

    /// Returns the circuit breaker of a model.
    #[must_use]
    pub fn circuit_breaker(&self, provider: &str, model: &str) -> Arc<CircuitBreaker> {
        self.circuits.for_model(provider, model)
    }

    /// Returns the form of requests that a model accepted last.
    #[must_use]
    pub fn learned_form(&self, provider: &str, model: &str) -> Arc<LearnedForm> {
        self.forms.for_model(provider, model)
    }

    /// Returns the models with an open circuit, as provider and model id.
    #[must_use]
    pub fn open_circuits(&self) -> Vec<(String, String)> {
        self.circuits.open_circuits()
    }

    /// Returns the reply limit of a model, for sessions whose settings name none.
    #[must_use]
    pub fn default_max_tokens(&self, provider: &str, model: &str) -> Option<u32> {
        self.model_info(provider, model)?.max_output_tokens
    }

    /// Returns the number of tokens of the model's context window, if known.
    #[must_use]
    pub fn context_window(&self, provider: &str, model: &str) -> Option<u32> {
        self.model_info(provider, model)?.context_window
    }

    /// Checks whether a session can run with these settings. A provider without its API key is accepted: the key may be
    /// set at the next start, and until then each call names the variable that is missing.
    ///
    /// # Errors
    /// Returns the first invalid field and the allowed values.
    pub fn validate_settings(&self, settings: &SessionSettings) -> Result<(), InvalidSettings> {
        let reject = |field, message| Err(InvalidSettings { field, message });
        let SessionSettings { provider, model, temperature, max_tokens, reasoning, memory: _ } = settings;
        let Some(entry) = self.entries.get(provider) else {
            let message =
                format!("unknown provider {}; available: {}", quote_name(provider), join_names(self.entries.keys()));
            return reject("provider", message);
        };
        let models = &entry.info.models;
        if models.is_empty() {
            if model.is_empty() || model.len() > MAX_MODEL_ID_BYTES || model.chars().any(char::is_control) {
                return reject("model", format!("must be 1 to {MAX_MODEL_ID_BYTES} bytes without control characters"));
            }
        } else if models.iter().all(|info| info.id != *model) {
            let available = join_names(models.iter().map(|info| &info.id));
            return reject("model", format!("{provider} has no model {}; available: {available}", quote_name(model)));
        }
        let lacks = |features: &[ModelFeature]| {
            let info = models.iter().find(|info| info.id == *model).filter(|info| !info.features.is_empty());
            info.is_some_and(|info| features.iter().all(|feature| !info.features.contains(feature)))
        };
        if temperature.is_some() && lacks(&[ModelFeature::Temperature]) {
            return reject("temperature", format!("{model} does not accept a temperature; omit it or set it to null"));
        }
        if reasoning.is_some_and(|effort| effort != ReasoningEffort::Off)
            && lacks(&[ModelFeature::Thinking, ModelFeature::ThinkingBudget])
        {
            return reject("reasoning", format!("{model} does not support reasoning; set it to null or off"));
        }
        let highest = entry.max_temperature;
        if let Some(temperature) = temperature
            && !(0.0..=highest).contains(temperature)
        {
            return reject("temperature", format!("must be a number from 0 to {highest} for {provider}"));
        }
        if let Some(max_tokens) = *max_tokens {
            let most = self.default_max_tokens(provider, model);
            if max_tokens == 0 || most.is_some_and(|most| max_tokens > most) {
                let most = most.map_or_else(|| "or more".to_owned(), |most| format!("to {most} for {model}"));
                return reject("max_tokens", format!("must be 1 {most}"));
            }
        }
        Ok(())
    }
}

/// Returns a name that a caller sent, quoted, escaped and truncated for an error message.
fn quote_name(name: &str) -> String {
    let name: String = name.chars().take(64).flat_map(char::escape_default).collect();
    format!("`{name}`")
}

fn join_names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names = names.map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.is_empty() { "none".to_owned() } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelError, ModelErrorKind, test_support};

    fn catalog() -> ModelCatalog {
        let mut anthropic = test_support::provider_config(ProviderProtocol::Anthropic, "https://api.anthropic.com");
        anthropic.api_key = None;
        anthropic.models[0].max_output_tokens = Some(64_000);
        let mut local = test_support::provider_config(ProviderProtocol::Openai, "http://127.0.0.1:1/v1");
        local.api_key = None;
        local.key_optional = true;
        local.models.clear();
        let providers = BTreeMap::from([("anthropic".to_owned(), anthropic), ("local".to_owned(), local)]);
        ModelCatalog::new(&providers)
    }

    fn settings(provider: &str, model: &str) -> SessionSettings {
        SessionSettings::for_model(provider, model)
    }

    #[test]
    fn unknown_names_are_rejected_with_alternatives() {
        let refused = |settings| {
            let InvalidSettings { field, message } = catalog().validate_settings(&settings).unwrap_err();
            format!("{field}: {message}")
        };
        assert_eq!(
            refused(settings("gemini", "x")),
            "provider: unknown provider `gemini`; available: anthropic, local"
        );
        assert_eq!(
            refused(settings("anthropic", "x\n")),
            "model: anthropic has no model `x\\n`; available: test-model"
        );
        assert!(refused(settings("local", "")).starts_with("model: must be"));
        assert_eq!(catalog().validate_settings(&settings("anthropic", "test-model")), Ok(()));
        assert_eq!(catalog().validate_settings(&settings("local", "whatever/it:has")), Ok(()));
    }

    #[test]
    fn numeric_settings_are_range_checked() {
        let with = |provider: &str, temperature, max_tokens| {
            let model = settings(provider, "test-model");
            catalog().validate_settings(&SessionSettings { temperature, max_tokens, ..model }).map_err(|e| e.field)
        };
        assert_eq!(with("local", Some(2.0), None), Ok(()));
        assert_eq!(with("anthropic", Some(1.0), Some(64_000)), Ok(()));
        for bad in [-0.1, 2.1, f64::NAN, f64::INFINITY] {
            assert_eq!(with("local", Some(bad), None), Err("temperature"), "{bad}");
        }
        assert_eq!(with("anthropic", Some(1.5), None), Err("temperature"));
        assert_eq!(with("anthropic", None, Some(0)), Err("max_tokens"));
        assert_eq!(with("anthropic", None, Some(64_001)), Err("max_tokens"));
        assert_eq!(with("local", None, Some(u32::MAX)), Ok(()));
    }

    #[tokio::test]
    async fn provider_without_key_is_listed_and_names_variable() {
        let catalog = catalog();
        let configured: Vec<_> = catalog.providers().into_iter().map(|p| (p.id, p.configured)).collect();
        assert_eq!(configured, [("anthropic".to_owned(), false), ("local".to_owned(), true)]);
        let model = catalog.chat_model("anthropic").unwrap();
        let error =
            model.stream(test_support::chat_request(vec![test_support::user_message("hi")])).await.err().unwrap();
        assert!(
            matches!(&error, ModelError { kind: ModelErrorKind::Auth, message: m, .. } if m.contains("TEST_API_KEY")),
            "{error:?}"
        );
        assert_eq!(model.check("test-model").await, Err(error));
        assert!(catalog.chat_model("gemini").is_none());
    }

    #[test]
    fn built_in_provider_can_be_registered() {
        let mut catalog = catalog();
        let scripted = catalog.chat_model("local").unwrap();
        let info = ProviderInfo { id: "demo".into(), name: "Demo".into(), configured: true, models: Vec::new() };
        catalog.register_provider(info, scripted);
        assert!(catalog.chat_model("demo").is_some());
        assert_eq!(catalog.validate_settings(&settings("demo", "rules")), Ok(()));
    }
}
