//! Whom a run asks, and what its user has used: what a run is given of the catalog and the store.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;

use super::{Parts, Shared, observed, run_log::Projection};
use k8sops_agent::{ModelCandidate, UsageSource};
use k8sops_core::{DailyUsage, SessionId, TokenUsage, UsageDay, UserId};
use k8sops_telemetry::spans::SpanContext;

/// How long it may take to note or to read what a user has used: a run waits for it.
const LIMIT: Duration = Duration::from_secs(5);

/// The models that a run of these settings may ask: its own, then the fallbacks that are configured. Empty when there is no
/// such provider. Their calls are seen as `at` says.
pub(super) fn model_candidates(parts: &Parts, provider: &str, model: &str, at: &SpanContext) -> Vec<ModelCandidate> {
    let candidate = |provider: &str, model: &str| {
        let info = parts.catalog.model_info(provider, model);
        Some(ModelCandidate {
            provider: provider.to_owned(),
            model: model.to_owned(),
            chat: observed::watched(parts.catalog.chat_model(provider)?, &parts.metrics, at.clone()),
            context_window: parts.catalog.context_window(provider, model),
            max_tokens: parts.catalog.default_max_tokens(provider, model),
            prices: info.and_then(|info| info.prices),
            circuit: parts.catalog.circuit_breaker(provider, model),
        })
    };
    let Some(own) = candidate(provider, model) else { return Vec::new() };
    let others = parts.fallback.iter().filter(|choice| {
        (choice.provider.as_str(), choice.model.as_str()) != (provider, model)
            && parts.catalog.is_configured(&choice.provider)
    });
    let others = others.filter_map(|choice| candidate(&choice.provider, &choice.model));
    std::iter::once(own).chain(others).collect()
}

/// What the user of a session has used.
pub(super) struct UserSpending {
    pub(super) shared: Arc<Shared>,
    pub(super) projection: Arc<Projection>,
}

#[async_trait]
impl UsageSource for UserSpending {
    async fn user_usage_today(&self) -> Option<TokenUsage> {
        let (user, session, own) = self
            .projection
            .read(|state| (state.summary.user_id.clone(), state.summary.session_id, state.spent.clone()));
        let today = UsageDay::today();
        let read = timeout(LIMIT, self.shared.parts.store.read_usage(&user, &[today])).await;
        let noted = match read {
            Ok(Ok(days)) => days.into_iter().next().unwrap_or_default(),
            Ok(Err(error)) => {
                tracing::warn!(%session, %error, "what the user has used today cannot be read");
                return None;
            }
            Err(_) => return None,
        };
        // What this session has used is in the log already, and may not have been noted yet.
        let own = own.models.iter().filter(|_| own.day == today);
        Some(noted.without(Some(session)).chain(own).fold(TokenUsage::default(), |mut sum, model| {
            sum += model.usage;
            sum
        }))
    }
}

/// Notes what a session has used on the day of its newest reply. What cannot be noted now is in the log, and is noted with
/// the next reply.
pub(super) async fn note_usage(shared: &Shared, projection: &Projection) {
    let (user, session, spent) =
        projection.read(|state| (state.summary.user_id.clone(), state.summary.session_id, state.spent.clone()));
    if !spent.models.is_empty() {
        note(shared, &user, session, &spent).await;
    }
}

/// Notes what a session has used on a day.
pub(super) async fn note(shared: &Shared, user: &UserId, session: SessionId, spent: &DailyUsage) {
    match timeout(LIMIT, shared.parts.store.record_usage(user, session, spent)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%session, %error, "what the session has used is not noted yet"),
        Err(_) => tracing::warn!(%session, "what the session has used is not noted yet: the store does not answer"),
    }
}
