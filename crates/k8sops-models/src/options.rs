//! The options of this crate: providers by their ids, and their models.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8sops_core::{UsdAmount, printable_excerpt};
use k8sops_settings::{
    FieldShape, ItemVariable, SettingOrigin, SettingReader, SettingScope, SettingsSection as _, ValueFormat,
    declaration::{custom, map, optional, or_empty, required},
    formats::{API_KEY, BOOLEAN, DOLLARS, DURATION, HEADER_VALUE, HTTP_URL, ITEM_NAME, TEXT, whole_number},
    options,
    scope::ListingMode,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    Dialect, DialectCatalog, DialectChoice, LongPromptPrices, ModelFeature, ModelPrices, ProviderProtocol,
    model_feature::MODEL_FEATURE, provider_protocol::PROVIDER_PROTOCOL,
};

/// The variables of the built-in providers.
pub const PROVIDER_VARIABLES: &[ItemVariable] = &[
    provider_variable("providers.anthropic", "api_key", "ANTHROPIC_API_KEY", "sk-ant-...", "API key of Anthropic."),
    provider_variable("providers.anthropic", "base_url", "ANTHROPIC_BASE_URL", "", "Base URL of the Messages API."),
    provider_variable(
        "providers.openai",
        "api_key",
        "OPENAI_API_KEY",
        "sk-...",
        "API key of OpenAI, or of the server at OPENAI_BASE_URL.",
    ),
    provider_variable(
        "providers.openai",
        "base_url",
        "OPENAI_BASE_URL",
        "",
        "Base URL of OpenAI, or of any server with chat completions (vLLM, llama.cpp, LM Studio), including /v1.",
    ),
    provider_variable("providers.ollama", "base_url", "OLLAMA_BASE_URL", "", "Base URL of Ollama."),
    provider_variable("providers.ollama", "api_key", "OLLAMA_API_KEY", "none", "API key of Ollama, if it needs one."),
    provider_variable(
        "providers.ollama",
        "max_context",
        "OLLAMA_MAX_CONTEXT",
        "",
        "Largest context, in tokens, to request from Ollama.",
    ),
    provider_variable(
        "providers.ollama",
        "keep_alive",
        "OLLAMA_KEEP_ALIVE",
        "",
        "How long Ollama keeps a model in memory after a call.",
    ),
];

const fn provider_variable(
    item: &'static str,
    key: &'static str,
    variable: &'static str,
    example: &'static str,
    doc: &'static str,
) -> ItemVariable {
    ItemVariable { item, key, variable, accepts: None, example, doc }
}

options! {
    /// Model providers. They extend and override the built-in ones.
    #[derive(Debug, Clone)]
    pub struct ProviderCatalogOptions at "" {
        /// Providers by id. The built-in ones are in `config/models.yaml`. A new id adds a provider; for a known id, the given
        /// keys replace the built-in ones.
        pub providers: BTreeMap<String, ProviderOptions> =
            custom(TEXT, FieldShape::NamedSections(&ProviderOptions::SECTION), read_providers),
        /// Dialects of model servers by name. The built-in ones are in `config/dialects.yaml`. A new name adds a dialect; for a
        /// known name, the given keys replace the built-in ones.
        pub dialects: DialectCatalog = custom(TEXT, FieldShape::NamedSections(&Dialect::SECTION), read_dialects),
    }
}

options! {
    /// A model provider.
    #[derive(Debug, Clone)]
    pub struct ProviderOptions at "" {
        /// Display name. Defaults to the id.
        pub name: String = custom(TEXT, FieldShape::Value, read_provider_name),
        /// Wire protocol.
        pub protocol: ProviderProtocol = required(PROVIDER_PROTOCOL, "openai"),
        /// Name of the dialect of the server, one of `dialects`. By default, the server is recognized by its host or its responses.
        pub dialect: DialectChoice = custom(TEXT, FieldShape::Value, read_dialect_choice),
        /// Base URL, for example https://api.openai.com/v1 or https://api.anthropic.com.
        pub base_url: String = or_empty(HTTP_URL),
        /// Environment variable that holds the API key. Defaults to the id in capital letters, followed by _API_KEY.
        pub key_variable: String = custom(TEXT, FieldShape::Value, read_key_variable),
        /// API key. The variable takes precedence.
        pub api_key: Option<SecretString> = custom(API_KEY, FieldShape::Value, read_api_key),
        /// Whether the provider can be used without an API key. Defaults to true for a custom `base_url`.
        pub key_optional: bool = custom(BOOLEAN, FieldShape::Value, read_key_optional),
        /// Time limit for connecting.
        pub connect_timeout: Duration = required(DURATION, "10s"),
        /// Time limit for the first byte of a reply, and between two chunks of it.
        pub read_timeout: Duration = required(DURATION, "2m"),
        /// Additional headers for every request.
        pub headers: BTreeMap<String, SecretString> = custom(HEADER_VALUE, FieldShape::NamedValues, read_headers),
        /// Largest context, in tokens, to request from a server that needs the size in each request (Ollama). Applies to
        /// models without `context_window`.
        pub max_context: u32 = required(whole_number(1), "32768"),
        /// How long Ollama keeps a model in memory after a call.
        pub keep_alive: Option<String> = optional(KEEP_ALIVE),
        /// Models of the provider. The first one is the default. A model with a known id replaces the built-in one.
        pub models: Vec<ModelOptions> = custom(TEXT, FieldShape::Sections(&ModelOptions::SECTION), read_models),
    }
}

options! {
    /// A model of a provider.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ModelOptions at "" {
        /// Id of the model at its provider.
        pub id: String = or_empty(TEXT),
        /// Display name. Defaults to the id.
        pub name: String = or_empty(TEXT),
        /// One-line description.
        pub description: String = or_empty(TEXT),
        /// Size of the context window (prompt and reply) in tokens, if known.
        pub context_window: Option<u32> = optional(whole_number(1)),
        /// Largest reply in tokens, if known.
        pub max_output_tokens: Option<u32> = optional(whole_number(1)),
        /// Features of the model. Empty if unknown.
        pub features: BTreeSet<ModelFeature> = custom(MODEL_FEATURE, FieldShape::Values, read_features),
        /// Prices in US dollars per million tokens, if known.
        pub prices: Option<ModelPrices> = custom(TEXT, FieldShape::Section(&PriceFields::SECTION), read_prices),
    }
}

options! {
    /// Prices in US dollars per million tokens.
    struct PriceFields at "" {
        /// Price of prompt tokens.
        input: Option<UsdAmount> = optional(DOLLARS),
        /// Price of reply tokens, including reasoning.
        output: Option<UsdAmount> = optional(DOLLARS),
        /// Price of prompt tokens that are read from the provider's cache. Defaults to `input`.
        cached_input: Option<UsdAmount> = optional(DOLLARS),
        /// Price of prompt tokens that are written to the provider's cache. Defaults to `input`.
        cache_write: Option<UsdAmount> = optional(DOLLARS),
        /// Prices of calls with a long prompt, if they differ.
        long: Option<LongPromptPrices> = custom(TEXT, FieldShape::Section(&LongPriceFields::SECTION), read_long_prices),
    }
}

options! {
    /// Prices of calls with a long prompt.
    struct LongPriceFields at "" {
        /// Number of prompt tokens above which these prices apply.
        above: Option<u64> = optional(whole_number(1)),
        /// Price of prompt tokens.
        input: Option<UsdAmount> = optional(DOLLARS),
        /// Price of reply tokens, including reasoning.
        output: Option<UsdAmount> = optional(DOLLARS),
        /// Price of prompt tokens that are read from the provider's cache. Defaults to `input`.
        cached_input: Option<UsdAmount> = optional(DOLLARS),
        /// Price of prompt tokens that are written to the provider's cache. Defaults to `input`.
        cache_write: Option<UsdAmount> = optional(DOLLARS),
    }
}

const KEEP_ALIVE: ValueFormat<String> =
    ValueFormat::described("a duration like 30m, or a number of seconds; -1 is forever", parse_keep_alive);

impl ModelOptions {
    /// Creates a model with only an id and a description.
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

impl ProviderCatalogOptions {
    /// Returns the providers, each with the dialects to choose from. An unknown name of a dialect is reported to `reader`.
    #[must_use]
    pub fn into_providers(self, reader: &mut SettingReader) -> BTreeMap<String, ProviderOptions> {
        let known = Arc::new(self.dialects);
        let mut providers = self.providers;
        for (id, provider) in &mut providers {
            provider.dialect.known = Arc::clone(&known);
            if let Some(name) = provider.dialect.name.take_if(|name| known.get(name).is_none()) {
                let path = format!("providers.{id}.dialect");
                let origin = reader.origin_of(&path);
                let names = known.names().collect::<Vec<_>>().join(", ");
                reader.report_invalid(&path, &printable_excerpt(&name), &origin, &format!("one of: {names}"));
            }
        }
        providers
    }
}

fn read_dialects(scope: &mut SettingScope<'_>, key: &'static str) -> DialectCatalog {
    let dialects = scope.read_named_items(key, |name, scope| {
        if ITEM_NAME.parse(name).is_none() {
            let origin = scope.origin();
            let allowed = ITEM_NAME.kind().to_string();
            scope.reader().report_invalid("the name of a dialect", &printable_excerpt(name), &origin, &allowed);
            return None;
        }
        scope.set_listing(ListingMode::Nothing);
        Some((name.to_owned(), Dialect::read_from(scope)))
    });
    dialects.into_iter().flatten().collect()
}

fn read_dialect_choice(scope: &mut SettingScope<'_>, key: &'static str) -> DialectChoice {
    DialectChoice { name: optional(TEXT).read(scope, key), known: Arc::default() }
}

fn read_providers(scope: &mut SettingScope<'_>, key: &'static str) -> BTreeMap<String, ProviderOptions> {
    let providers = scope.read_named_items(key, |id, scope| {
        let origin = scope.origin();
        if ITEM_NAME.parse(id).is_none() {
            let allowed = ITEM_NAME.kind().to_string();
            scope.reader().report_invalid("the name of a provider", &printable_excerpt(id), &origin, &allowed);
            return None;
        }
        if scope.find_raw("base_url").is_none() {
            scope.report_invalid("base_url", "", &origin, &HTTP_URL.kind().to_string());
        }
        Some((id.to_owned(), ProviderOptions::read_from(scope)))
    });
    providers.into_iter().flatten().collect()
}

/// Returns the id of the provider that is read from a scope.
fn provider_id(scope: &SettingScope<'_>) -> String {
    scope.path().rsplit('.').next().unwrap_or_default().to_owned()
}

fn read_provider_name(scope: &mut SettingScope<'_>, key: &'static str) -> String {
    scope.find_raw(key).map_or_else(|| provider_id(scope), |value| value.text)
}

fn read_key_variable(scope: &mut SettingScope<'_>, key: &'static str) -> String {
    let by_default = || format!("{}_API_KEY", provider_id(scope).to_ascii_uppercase().replace('-', "_"));
    scope.find_raw(key).map_or_else(by_default, |value| value.text)
}

fn read_api_key(scope: &mut SettingScope<'_>, key: &'static str) -> Option<SecretString> {
    let variable = read_key_variable(scope, "key_variable");
    scope.set_variable(key, variable);
    optional(API_KEY).read(scope, key)
}

fn read_key_optional(scope: &mut SettingScope<'_>, key: &'static str) -> bool {
    // A local server that speaks the protocol of a known provider rarely needs a key.
    let is_own_server = scope.find_raw("base_url").is_none_or(|value| value.origin != SettingOrigin::Default);
    optional(BOOLEAN).read(scope, key).unwrap_or(is_own_server)
}

fn read_headers(scope: &mut SettingScope<'_>, key: &'static str) -> BTreeMap<String, SecretString> {
    let mut headers = map(HEADER_VALUE).read(scope, key);
    // An empty header is not sent: `${NAME:-}` leaves one out.
    headers.retain(|_, value| !value.expose_secret().is_empty());
    headers.retain(|name, _| {
        let is_name = http::HeaderName::try_from(name.as_str()).is_ok();
        if !is_name {
            let origin = scope.origin_of(&format!("{key}.{name}"));
            scope.report_invalid(key, &printable_excerpt(name), &origin, "names of HTTP headers");
        }
        is_name
    });
    headers
}

/// Reads the models of all layers: a later one replaces a model with the same id.
fn read_models(scope: &mut SettingScope<'_>, key: &'static str) -> Vec<ModelOptions> {
    let read = scope.read_items_of_all_layers(key, |scope| (ModelOptions::read_from(scope), scope.origin()));
    let mut models: Vec<(ModelOptions, SettingOrigin)> = Vec::new();
    for (mut model, origin) in read {
        if model.id.is_empty() {
            scope.report_invalid(&format!("{key}[].id"), "", &origin, "the id of the model at its provider");
            continue;
        }
        if model.name.is_empty() {
            model.name.clone_from(&model.id);
        }
        match models.iter_mut().find(|(known, _)| known.id == model.id) {
            Some(known) => *known = (model, origin),
            None => models.push((model, origin)),
        }
    }
    for (model, origin) in &models {
        scope.record_effective(&format!("{key}[]"), &model.id, origin);
    }
    models.into_iter().map(|(model, _)| model).collect()
}

fn read_features(scope: &mut SettingScope<'_>, key: &'static str) -> BTreeSet<ModelFeature> {
    scope.read_list(&MODEL_FEATURE, key).into_iter().collect()
}

fn read_prices(scope: &mut SettingScope<'_>, key: &'static str) -> Option<ModelPrices> {
    let PriceFields { input, output, cached_input, cache_write, long } = scope.read_nested(key)?;
    let (Some(input), Some(output)) = (input, output) else {
        report_missing_prices(scope, key);
        return None;
    };
    let cached_input = cached_input.unwrap_or(input);
    let cache_write = cache_write.unwrap_or(input);
    Some(ModelPrices { input, output, cached_input, cache_write, long })
}

fn read_long_prices(scope: &mut SettingScope<'_>, key: &'static str) -> Option<LongPromptPrices> {
    let LongPriceFields { above, input, output, cached_input, cache_write } = scope.read_nested(key)?;
    let Some(above) = above else {
        let origin = scope.origin();
        scope.report_invalid(&format!("{key}.above"), "", &origin, &whole_number::<u64>(1).kind().to_string());
        return None;
    };
    let (Some(input), Some(output)) = (input, output) else {
        report_missing_prices(scope, key);
        return None;
    };
    let cached_input = cached_input.unwrap_or(input);
    let cache_write = cache_write.unwrap_or(input);
    Some(LongPromptPrices { above, input, output, cached_input, cache_write })
}

fn report_missing_prices(scope: &mut SettingScope<'_>, key: &str) {
    let origin = scope.origin();
    scope.report_invalid(key, "", &origin, "at least `input` and `output`");
}

/// Reads a duration in Ollama's own form: Go's syntax, or a whole number of seconds; a negative one is forever.
fn parse_keep_alive(text: &str) -> Option<String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_accepted = |c: char| c.is_ascii_digit() || matches!(c, 'h' | 'm' | 's' | '.');
    (digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(is_accepted)).then(|| text.to_owned())
}
