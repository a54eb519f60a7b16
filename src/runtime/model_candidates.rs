//! The models that a run may call: the session's own, then the configured fallbacks.

use k8sops_agent::ModelCandidate;
use k8sops_telemetry::spans::SpanContext;

use super::{inner::Dependencies, instrumented};

/// Returns the models that a run may call: its own, then the configured fallbacks. Empty when the provider is not configured.
/// `at` holds the ids for the spans of their calls.
pub(super) fn model_candidates(
    dependencies: &Dependencies,
    provider: &str,
    model: &str,
    at: &SpanContext,
) -> Vec<ModelCandidate> {
    let candidate = |provider: &str, model: &str| {
        let info = dependencies.catalog.model_info(provider, model);
        Some(ModelCandidate {
            provider: provider.to_owned(),
            model: model.to_owned(),
            chat: instrumented::instrument_model(
                dependencies.catalog.chat_model(provider)?,
                &dependencies.metrics,
                at.clone(),
            ),
            context_window: dependencies.catalog.context_window(provider, model),
            max_tokens: dependencies.catalog.default_max_tokens(provider, model),
            prices: info.and_then(|info| info.prices),
            form: dependencies.catalog.learned_form(provider, model),
            circuit: dependencies.catalog.circuit_breaker(provider, model),
        })
    };
    let Some(own) = candidate(provider, model) else { return Vec::new() };
    let others = dependencies.fallback.iter().filter(|choice| {
        (choice.provider.as_str(), choice.model.as_str()) != (provider, model)
            && dependencies.catalog.is_configured(&choice.provider)
    });
    let others = others.filter_map(|choice| candidate(&choice.provider, &choice.model));
    std::iter::once(own).chain(others).collect()
}
