//! Changes of all sessions of a user: subscriptions, and what a stream that continues has missed.

use std::time::Duration;

use super::{
    account_hub::{AccountSubscription, MEMORY},
    error::SessionsError,
    sessions::Sessions,
};
use k8sops_core::{AccountChange, AccountTopic, ListCursor, RecordGroup, SessionDeleted, Timestamp, UserId};

/// How much a stream repeats: the clocks of replicas differ.
const OVERLAP: Duration = Duration::from_secs(5);
/// How many of a session's newest events are read for one stream.
const TAIL: u64 = 512;
/// Upper bound of sessions that are read for one stream.
const MAX_SESSIONS: usize = 1000;

/// The changes since a point in time.
#[derive(Debug)]
pub struct AccountBacklog {
    /// The changes, by their time.
    pub changes: Vec<AccountChange>,
    /// Whether there may be changes that are not among them.
    pub has_gap: bool,
}

impl Sessions {
    /// Subscribes to changes of a user's sessions.
    #[must_use]
    pub fn watch_account(&self, user: &UserId) -> AccountSubscription {
        self.0.accounts.subscribe(AccountTopic::User(user.clone()))
    }

    /// Subscribes to approvals in the sessions of all users.
    #[must_use]
    pub fn watch_approvals(&self) -> AccountSubscription {
        self.0.accounts.subscribe(AccountTopic::Approvers)
    }

    /// Reads the changes of a user's sessions since a point in time, and some before it.
    ///
    /// # Errors
    /// Store errors.
    pub async fn read_account_changes(&self, user: &UserId, since: Timestamp) -> Result<AccountBacklog, SessionsError> {
        let store = &self.0.dependencies.store;
        let overlap = i64::try_from(OVERLAP.as_millis()).unwrap_or(0);
        let from = Timestamp::from_millis(since.as_millis().saturating_sub(overlap));
        let is_forgotten = since.saturating_add(MEMORY) < Timestamp::now();
        let mut backlog = AccountBacklog { changes: Vec::new(), has_gap: is_forgotten };
        let mut after = None;
        let mut read = 0;
        'pages: while !backlog.has_gap {
            let page = store.list_sessions(user, after, 100).await?;
            let Some(last) = page.last() else { break };
            after = Some(ListCursor { updated_at: last.updated_at, session_id: last.session_id });
            for summary in &page {
                if summary.updated_at < from {
                    break 'pages;
                }
                read += 1;
                backlog.has_gap |= read > MAX_SESSIONS;
                let tail = summary.last_seq.saturating_sub(TAIL);
                let limit = usize::try_from(TAIL).unwrap_or(usize::MAX);
                // A session that cannot be read does not hide the others.
                let Ok(events) = store.read_events(summary.session_id, tail, limit).await else { continue };
                let is_cut = tail > 0 && events.events.first().is_some_and(|first| first.ts >= from);
                backlog.has_gap |= is_cut;
                let new = events.events.into_iter().filter(|event| event.ts >= from && event.body.concerns_account());
                backlog.changes.extend(new.map(|event| AccountChange::Logged { user: user.clone(), event }));
            }
        }
        let deletions = store.list_records(&RecordGroup::deletions_of(user)).await?;
        let deletions = deletions.iter().filter_map(|record| serde_json::from_str(&record.value).ok());
        let deletions = deletions.filter(|deleted: &SessionDeleted| deleted.ts >= from);
        backlog.changes.extend(deletions.map(AccountChange::Deleted));
        backlog.changes.sort_by_key(change_time);
        Ok(backlog)
    }
}

/// Returns when a change happened.
fn change_time(change: &AccountChange) -> Timestamp {
    match change {
        AccountChange::Logged { event, .. } => event.ts,
        AccountChange::Deleted(deleted) => deleted.ts,
        AccountChange::Queued(queued) => queued.ts,
    }
}
