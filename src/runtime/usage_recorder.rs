//! Records what sessions use, and reports what a user has used.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8sops_agent::UsageSource;
use k8sops_core::{DailyUsage, SessionId, TokenUsage, UsageDay, UserId};
use tokio::time::timeout;

use super::{inner::RuntimeInner, run_handle::SessionProjection};

/// Time limit of reading or recording usage, which delays a run.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reports what the user of a session has used.
pub(super) struct UserUsage {
    pub(super) shared: Arc<RuntimeInner>,
    pub(super) projection: Arc<SessionProjection>,
}

#[async_trait]
impl UsageSource for UserUsage {
    async fn user_usage_today(&self) -> Option<TokenUsage> {
        let (user, session, own) = self
            .projection
            .read(|state| (state.summary.user_id.clone(), state.summary.session_id, state.spent.clone()));
        let today = UsageDay::today();
        let read = timeout(STORE_TIMEOUT, self.shared.dependencies.store.read_usage(&user, &[today])).await;
        let noted = match read {
            Ok(Ok(days)) => days.into_iter().next().unwrap_or_default(),
            Ok(Err(error)) => {
                tracing::warn!(%session, %error, "reading usage failed");
                return None;
            }
            Err(_) => return None,
        };
        // The usage of this session is in its log, but may not be recorded yet.
        let own = own.models.iter().filter(|_| own.day == today);
        Some(noted.usage_except(session).chain(own).fold(TokenUsage::default(), |mut sum, model| {
            sum += model.usage;
            sum
        }))
    }
}

/// Records what a session has used on the day of its newest reply. What cannot be recorded now is in the log, and is recorded
/// with the next reply.
pub(super) async fn record_session_usage(shared: &RuntimeInner, projection: &SessionProjection) {
    let (user, session, spent) =
        projection.read(|state| (state.summary.user_id.clone(), state.summary.session_id, state.spent.clone()));
    if !spent.models.is_empty() {
        record_usage(shared, &user, session, &spent).await;
    }
}

/// Records what a session has used on a day.
pub(super) async fn record_usage(shared: &RuntimeInner, user: &UserId, session: SessionId, spent: &DailyUsage) {
    match timeout(STORE_TIMEOUT, shared.dependencies.store.record_usage(user, session, spent)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%session, %error, "recording usage failed"),
        Err(_) => tracing::warn!(%session, "recording usage timed out"),
    }
}
