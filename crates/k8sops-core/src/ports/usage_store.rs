//! The port [`UsageStore`]: what users used, by day.

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ids::{SessionId, UserId},
    usage::{DailyUsage, UsageDay, UserDailyUsage},
};

/// Usage by user and day, kept longer than the sessions that it comes from. Records are totals and not differences, so that
/// one that is written twice, or repeated by a later owner of the session, counts once.
#[async_trait]
pub trait UsageStore: Send + Sync + 'static {
    /// Records what a session has used on a day so far, and replaces the earlier record of the same session and day.
    async fn record_usage(&self, user: &UserId, session: SessionId, usage: &DailyUsage) -> Result<(), StoreError>;

    /// Marks the usage of a deleted session as final: a store may sum it up with that of others.
    async fn close_session_usage(&self, _user: &UserId, _session: SessionId) -> Result<(), StoreError> {
        Ok(())
    }

    /// A user's usage on each of these days, in their order; empty for a day without records.
    async fn read_usage(&self, user: &UserId, days: &[UsageDay]) -> Result<Vec<UserDailyUsage>, StoreError>;
}
