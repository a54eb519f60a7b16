//! The catalog entry of the demo's model.

use super::rule_model::{MODEL_ID, MODEL_NAME, PROVIDER_ID, PROVIDER_NAME};
use k8sops_core::SessionSettings;
use k8sops_models::{ModelInfo, ProviderInfo};

/// Returns the only provider of the demo.
#[must_use]
pub fn provider_info() -> ProviderInfo {
    let model = ModelInfo {
        id: MODEL_ID.into(),
        name: MODEL_NAME.into(),
        description: "Selects tools by the words of the message and reports what they return".into(),
        context_window: None,
        max_output_tokens: None,
        features: Vec::new(),
        prices: None,
    };
    ProviderInfo { id: PROVIDER_ID.into(), name: PROVIDER_NAME.into(), configured: true, models: vec![model] }
}

/// Returns the default settings of the demo's sessions.
#[must_use]
pub fn session_settings() -> SessionSettings {
    SessionSettings::for_model(PROVIDER_ID, MODEL_ID)
}
