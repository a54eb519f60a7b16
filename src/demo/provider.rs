//! The stand-in for a model as the catalog shows it.

use super::rule_model::{MODEL_ID, MODEL_NAME, PROVIDER_ID, PROVIDER_NAME};
use k8sops_core::SessionSettings;
use k8sops_models::{ModelInfo, ProviderInfo};

/// The demo's only provider.
#[must_use]
pub fn provider_info() -> ProviderInfo {
    let model = ModelInfo {
        id: MODEL_ID.into(),
        name: MODEL_NAME.into(),
        description: "Picks tools by the words of the message and reports what they return".into(),
        context_window: None,
        max_output_tokens: None,
        features: Vec::new(),
        prices: None,
    };
    ProviderInfo { id: PROVIDER_ID.into(), name: PROVIDER_NAME.into(), configured: true, models: vec![model] }
}

/// The settings of a session of the demo.
#[must_use]
pub fn session_settings() -> SessionSettings {
    SessionSettings::of(PROVIDER_ID, MODEL_ID)
}
