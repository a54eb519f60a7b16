//! The model of new sessions, and the models that are tried when its provider is down.

use std::collections::BTreeMap;

use k8sops_core::{ReasoningEffort, SessionSettings, is_time_zone, printable_excerpt};
use k8sops_models::{ModelChoice, ModelFeature, ModelOptions, ProviderOptions};
use k8sops_settings::{
    SettingReader, ValueFormat,
    declaration::{optional, or_empty, required},
    formats::{EFFORT, MODEL_ID, number_in, whole_number},
    options,
};

options! {
    /// Defaults of a new session; each session can change them.
    #[derive(Debug, Clone)]
    pub struct LlmOptions at "llm" {
        /// Provider of new sessions: one of config/models.yaml, or of your own.
        provider: String = required(PROVIDER_ID, "anthropic").variable("LLM_PROVIDER").live(),
        /// Model of new sessions, any id that the provider knows; empty: the first model of the provider.
        model: Option<String> = optional(MODEL_ID).variable("LLM_MODEL").live(),
        /// Sampling temperature of new sessions; empty: the parameter is not sent.
        temperature: Option<f64> = optional(number_in(0.0, 2.0)).variable("LLM_TEMPERATURE").live(),
        /// Most tokens of one reply; empty: the limit of the model.
        max_tokens: Option<u32> = optional(whole_number(1)).variable("LLM_MAX_TOKENS").example("8192").live(),
        /// How much the model of new sessions thinks before it answers; empty: its own default.
        reasoning: Option<ReasoningEffort> = optional(EFFORT).variable("LLM_REASONING").example("medium").live(),
        /// Time zone of the users, an IANA name like Europe/Berlin; empty: the model is told the time of each message in UTC only.
        time_zone: Option<String> = optional(TIME_ZONE).variable("K8SOPS_TIME_ZONE").example("Europe/Berlin").live(),
        /// Models that are tried, in this order, when the provider of a session is down; a provider alone stands for its first
        /// model.
        fallback: String =
            or_empty(FALLBACK_LIST).variable("LLM_FALLBACK").example("openai/gpt-6-sol,ollama/qwen3:8b"),
    }
}

const PROVIDER_ID: ValueFormat<String> = ValueFormat::described("the id of a provider", |text| Some(text.to_owned()));

const TIME_ZONE: ValueFormat<String> =
    ValueFormat::described("the IANA name of a time zone, like Europe/Berlin", |text| {
        is_time_zone(text).then(|| text.to_owned())
    });

const FALLBACK_LIST: ValueFormat<String> =
    ValueFormat::described("provider/model pairs with commas between", |text| Some(text.to_owned()));

/// The defaults of a new session.
#[derive(Debug, Clone)]
pub struct LlmConfig {
    /// Id of the provider.
    pub provider: String,
    /// Id of the model.
    pub model: String,
    /// Sampling temperature; `None`: the provider's default.
    pub temperature: Option<f64>,
    /// Most tokens of one reply; `None`: the limit of the model.
    pub max_tokens: Option<u32>,
    /// How much the model thinks; `None`: its own default.
    pub reasoning: Option<ReasoningEffort>,
    /// The time zone of the users.
    pub time_zone: Option<String>,
    /// Models that are tried when the provider of a session is down, in this order.
    pub fallback: Vec<ModelChoice>,
}

impl LlmConfig {
    /// Returns the settings of a new session.
    #[must_use]
    pub fn session_settings(&self) -> SessionSettings {
        SessionSettings {
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            reasoning: self.reasoning,
            time_zone: self.time_zone.clone(),
            ..SessionSettings::for_model(&self.provider, &self.model)
        }
    }

    /// Reads the section. A model that it names and the catalog does not know becomes part of the catalog: people run servers
    /// whose models have any name.
    pub(super) fn read_settings(reader: &mut SettingReader, providers: &mut BTreeMap<String, ProviderOptions>) -> Self {
        let options: LlmOptions = reader.read_section();
        if !providers.contains_key(&options.provider) {
            let origin = reader.origin_of("llm.provider");
            let allowed = provider_ids(providers);
            reader.report_invalid("llm.provider", &printable_excerpt(&options.provider), &origin, &allowed);
        }
        let model = select_model(reader, &options, providers);
        warn_of_missing_key(reader, providers.get(&options.provider));
        let known = providers.get(&options.provider).and_then(|p| p.models.iter().find(|known| known.id == model));
        let temperature = options.temperature.filter(|_| {
            // Not an error: many have the variable set for other tools.
            let is_ignored = known.is_some_and(|model| model.lacks(ModelFeature::Temperature));
            if is_ignored {
                reader.report_warning(format!("LLM_TEMPERATURE has no effect: {model} does not accept a temperature"));
            }
            !is_ignored
        });
        let fallback = read_fallback(reader, &options.fallback, providers);
        Self {
            provider: options.provider,
            model,
            temperature,
            max_tokens: options.max_tokens,
            reasoning: options.reasoning,
            time_zone: options.time_zone,
            fallback,
        }
    }
}

/// Returns the model that is named, or the first of the provider.
fn select_model(
    reader: &mut SettingReader,
    options: &LlmOptions,
    providers: &mut BTreeMap<String, ProviderOptions>,
) -> String {
    let provider = providers.get_mut(&options.provider);
    if let Some(model) = &options.model {
        if let Some(provider) = provider {
            add_named_model(reader, &options.provider, provider, model, "llm.model", "LLM_MODEL");
        }
        return model.clone();
    }
    let Some(provider) = provider else { return String::new() };
    let first = provider.models.first().map(|model| model.id.clone()).unwrap_or_default();
    if first.is_empty() {
        reader.report_problem(format!("LLM_MODEL is not set and {} has no models; name one", provider.name));
    }
    reader.replace_shown_value("llm.model", &first);
    first
}

/// Adds a model to a catalog that lists some and not this one.
fn add_named_model(
    reader: &mut SettingReader,
    id: &str,
    provider: &mut ProviderOptions,
    model: &str,
    path: &str,
    variable: &str,
) {
    if !provider.models.is_empty() && provider.models.iter().all(|known| known.id != model) {
        let description = format!("Named by {variable}; its limits are not known");
        provider.models.push(ModelOptions::named(model, &description));
        let origin = reader.origin_of(path);
        reader.record_effective(format!("providers.{id}.models[]"), model, &origin);
    }
}

fn warn_of_missing_key(reader: &mut SettingReader, provider: Option<&ProviderOptions>) {
    let Some(provider) = provider.filter(|provider| provider.api_key.is_none() && !provider.key_optional) else {
        return;
    };
    let ProviderOptions { name, key_variable, .. } = provider;
    reader.report_warning(format!(
        "{name} is the provider of new sessions and has no key: set {key_variable}, or choose another in LLM_PROVIDER"
    ));
}

fn read_fallback(
    reader: &mut SettingReader,
    pairs: &str,
    providers: &mut BTreeMap<String, ProviderOptions>,
) -> Vec<ModelChoice> {
    let mut choices = Vec::new();
    let origin = reader.origin_of("llm.fallback");
    let ids = provider_ids(providers);
    for pair in pairs.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (id, model) = pair.split_once('/').unwrap_or((pair, ""));
        let Some(provider) = providers.get_mut(id) else {
            let allowed = format!("provider/model with a provider of: {ids}");
            reader.report_invalid("llm.fallback", &printable_excerpt(pair), &origin, &allowed);
            continue;
        };
        let model = match (model, provider.models.first()) {
            ("", Some(first)) => first.id.clone(),
            ("", None) => {
                let allowed = format!("{id}/MODEL: {id} has no first model");
                reader.report_invalid("llm.fallback", &printable_excerpt(pair), &origin, &allowed);
                continue;
            }
            (model, _) => model.to_owned(),
        };
        if provider.api_key.is_none() && !provider.key_optional {
            let ProviderOptions { name, key_variable, .. } = provider;
            reader.report_warning(format!("{name} is in LLM_FALLBACK and is skipped: it has no key ({key_variable})"));
        }
        add_named_model(reader, id, provider, &model, "llm.fallback", "LLM_FALLBACK");
        choices.push(ModelChoice { provider: id.to_owned(), model });
    }
    choices
}

fn provider_ids(providers: &BTreeMap<String, ProviderOptions>) -> String {
    providers.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}
