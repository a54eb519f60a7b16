//! The list of all sections.

use k8sops_agent::{
    AgentOptions, BudgetOptions, ContextOptions, EmbeddingOptions, LongTermMemoryOptions, PromptOptions,
};
use k8sops_mcp::{DEFAULT_SERVER_VARIABLES, McpOptions, USER_TOKEN};
use k8sops_models::{PROVIDER_VARIABLES, ProviderCatalogOptions};
use k8sops_settings::{SettingsCatalog, SettingsSection as _, StandaloneVariable};
use k8sops_store::{RedisOptions, StoreOptions};
use k8sops_telemetry::{LogOptions, TelemetryOptions};
use k8sops_tools::ToolOptions;

use super::llm::LlmOptions;
use crate::{
    api::{LimitOptions, ServerOptions},
    audit::AuditOptions,
    auth::{AuthOptions, JwtOptions, ProxyOptions},
    notifier::NotifierOptions,
    runtime::SessionOptions,
};

/// The variable that names the user's YAML.
pub const CONFIG_VARIABLE: &str = "K8SOPS_CONFIG";

/// The variable that tells the clients (`k8sops chat`) where the service is.
pub const URL_VARIABLE: &str = "K8SOPS_URL";

/// The variable with the key or token of the clients.
pub const TOKEN_VARIABLE: &str = "K8SOPS_TOKEN";

/// The providers and models that are compiled in.
const BUILTIN_MODELS: &str = include_str!("../../config/models.yaml");

/// The dialects that are compiled in.
const BUILTIN_DIALECTS: &str = include_str!("../../config/dialects.yaml");

const STANDALONE_VARIABLES: [StandaloneVariable; 3] = [
    StandaloneVariable {
        variable: CONFIG_VARIABLE,
        accepts: "a path",
        example: "/etc/k8sops.yaml",
        doc: "Your own YAML, over the defaults.",
    },
    StandaloneVariable {
        variable: URL_VARIABLE,
        accepts: "an http:// or https:// URL",
        example: "http://127.0.0.1:8080",
        doc: "URL of the service, for the clients (`k8sops ask`, `k8sops chat`).",
    },
    StandaloneVariable {
        variable: TOKEN_VARIABLE,
        accepts: "a key or token",
        example: "",
        doc: "Key or token of the clients.",
    },
];

/// Returns all settings, in the order of the documentation.
#[must_use]
pub fn settings_catalog() -> SettingsCatalog {
    SettingsCatalog::new(&[
        &ServerOptions::SECTION,
        &AuthOptions::SECTION,
        &JwtOptions::SECTION,
        &ProxyOptions::SECTION,
        &LimitOptions::SECTION,
        &LlmOptions::SECTION,
        &ProviderCatalogOptions::SECTION,
        &McpOptions::SECTION,
        &StoreOptions::SECTION,
        &SessionOptions::SECTION,
        &ContextOptions::SECTION,
        &RedisOptions::SECTION,
        &LongTermMemoryOptions::SECTION,
        &EmbeddingOptions::SECTION,
        &AgentOptions::SECTION,
        &PromptOptions::SECTION,
        &BudgetOptions::SECTION,
        &ToolOptions::SECTION,
        &LogOptions::SECTION,
        &TelemetryOptions::SECTION,
        &AuditOptions::SECTION,
        &NotifierOptions::SECTION,
    ])
    .with_item_variables(PROVIDER_VARIABLES)
    .with_item_variables(DEFAULT_SERVER_VARIABLES)
    .with_standalone_variables(&STANDALONE_VARIABLES)
    .with_builtin_yaml(BUILTIN_MODELS)
    .with_builtin_yaml(BUILTIN_DIALECTS)
    .with_reserved_reference(USER_TOKEN)
}
