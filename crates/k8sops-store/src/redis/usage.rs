//! Usage of users: one hash per user and day, with a field per session.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{lost_keys::of_shared_key, store::RedisStore};
use k8sops_core::{
    DailyUsage, ModelUsage, SessionId, StoreError, USAGE_RETENTION_DAYS, UsageDay, UsageStore, UserDailyUsage, UserId,
};

#[async_trait]
impl UsageStore for RedisStore {
    async fn record_usage(&self, user: &UserId, session: SessionId, spent: &DailyUsage) -> Result<(), StoreError> {
        let models = serde_json::to_vec(&spent.models).map_err(|error| StoreError::corrupt("daily usage", error))?;
        let key = self.keys.usage(user, spent.day);
        let recorded = self.writes.query::<()>(redis::cmd("HSET").arg(&key).arg(session.to_string()).arg(models)).await;
        recorded.map_err(of_shared_key(&key))?;
        // Counted from the last write: usage of a day is recorded on that day, apart from clock skew.
        let ttl_seconds = USAGE_RETENTION_DAYS * 24 * 60 * 60;
        self.writes.query(redis::cmd("EXPIRE").arg(&key).arg(ttl_seconds)).await
    }

    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDailyUsage>, StoreError> {
        let mut found = Vec::with_capacity(days.len());
        for day in days {
            let key = self.keys.usage(user, *day);
            let fields = self.bulk_reads.query(redis::cmd("HGETALL").arg(&key)).await;
            let fields: HashMap<String, Vec<u8>> = fields.map_err(of_shared_key(&key))?;
            let mut sessions = UserDailyUsage::default();
            for (session, models) in fields {
                let session: SessionId = session
                    .parse()
                    .map_err(|error| StoreError::corrupt(format!("{key}: invalid session id {session}"), error))?;
                let models: Vec<ModelUsage> = serde_json::from_slice(&models)
                    .map_err(|error| StoreError::corrupt(format!("{key}: usage of session {session}"), error))?;
                sessions.sessions.insert(session, models);
            }
            found.push(sessions);
        }
        Ok(found)
    }
}
