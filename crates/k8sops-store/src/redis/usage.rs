//! What users use: one hash for each user and day, with a field for each session.

use std::collections::HashMap;

use async_trait::async_trait;

use super::RedisStore;
use k8sops_core::{DailyUsage, ModelUsage, SessionId, StoreError, USAGE_DAYS, UsageDay, UsageStore, UserDay, UserId};

#[async_trait]
impl UsageStore for RedisStore {
    async fn record_usage(&self, user: &UserId, session: SessionId, spent: &DailyUsage) -> Result<(), StoreError> {
        let models = serde_json::to_vec(&spent.models).map_err(|error| StoreError::corrupt("Redis", error))?;
        let key = self.keys.usage(user, spent.day);
        self.writes
            .ask::<redis::Value>(redis::cmd("HSET").arg(&key).arg(session.to_string()).arg(models) as &_)
            .await?;
        // From the last note on: a day is noted on that day, give or take a clock.
        let keep = USAGE_DAYS * 24 * 60 * 60;
        self.writes.ask::<redis::Value>(redis::cmd("EXPIRE").arg(&key).arg(keep) as &_).await?;
        Ok(())
    }

    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDay>, StoreError> {
        let mut found = Vec::with_capacity(days.len());
        for day in days {
            let key = self.keys.usage(user, *day);
            let fields: HashMap<String, Vec<u8>> = self.reads.ask(redis::cmd("HGETALL").arg(&key) as &_).await?;
            let mut sessions = UserDay::default();
            for (session, models) in fields {
                let unreadable = |what: String| StoreError::Corrupt(format!("{key}: {what}").into());
                let session: SessionId =
                    session.parse().map_err(|_| unreadable(format!("no session id: {session}")))?;
                let models: Vec<ModelUsage> =
                    serde_json::from_slice(&models).map_err(|error| unreadable(error.to_string()))?;
                sessions.sessions.insert(session, models);
            }
            found.push(sessions);
        }
        Ok(found)
    }
}
