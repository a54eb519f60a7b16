//! Reports of sessions, and links by which others read them without a key.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use data_encoding::HEXLOWER;
use k8sops_core::{
    EventAuthor, ExpiringRecord, RecordGroup, RecordId, ReportBuilder, SessionId, SessionReport, SessionSummary,
    StoreError, Timestamp, UserId, random_key,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{error::SessionsError, sessions::Sessions};
use crate::audit::{AuditAction, AuditRecord};

/// How many events are read at a time.
const PAGE_SIZE: usize = 500;

/// A link by which others read a session. The link itself is stored nowhere.
#[derive(Debug, Clone)]
pub struct SessionShare {
    /// The id, by which the link is revoked.
    pub id: RecordId,
    /// Who created it.
    pub by: EventAuthor,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// The content of a share's record.
#[derive(Serialize, Deserialize)]
struct StoredShare {
    by: EventAuthor,
    created_at: Timestamp,
}

impl SessionShare {
    fn from_record(record: ExpiringRecord) -> Option<Self> {
        let StoredShare { by, created_at } = serde_json::from_str(&record.value).ok()?;
        Some(Self { id: record.id, by, created_at, expires_at: record.expires_at })
    }
}

impl Sessions {
    /// Reads the report of a session.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn read_report(&self, user: &UserId, session: SessionId) -> Result<SessionReport, SessionsError> {
        let summary = self.get_session(user, session).await?;
        self.build_report(&summary).await
    }

    async fn build_report(&self, summary: &SessionSummary) -> Result<SessionReport, SessionsError> {
        let (store, session) = (&self.0.dependencies.store, summary.session_id);
        let mut page = store.read_events(session, 0, PAGE_SIZE).await?;
        let mut report = ReportBuilder::new(summary, page.oldest_seq);
        while let Some(last) = page.events.last().map(|event| event.seq) {
            page.events.iter().for_each(|event| report.apply_event(event));
            // Events that are committed meanwhile are for the next report.
            if last >= summary.last_seq {
                break;
            }
            page = store.read_events(session, last, PAGE_SIZE).await?;
        }
        Ok(report.finish())
    }

    /// Creates a link to a session, and returns it with its secret part.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn create_share(
        &self,
        user: &UserId,
        session: SessionId,
        lifetime: Duration,
    ) -> Result<(SessionShare, String), SessionsError> {
        self.get_session(user, session).await?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(random_key());
        let created_at = Timestamp::now();
        let by = EventAuthor::User(user.clone());
        let share =
            SessionShare { id: share_id(&token), by, created_at, expires_at: created_at.saturating_add(lifetime) };
        let stored = StoredShare { by: share.by.clone(), created_at };
        let value = serde_json::to_string(&stored).expect("a share has string keys and no failing Serialize");
        let record = ExpiringRecord { id: share.id.clone(), value, expires_at: share.expires_at };
        self.0.dependencies.store.replace_record(&RecordGroup::shares_of(session), &record).await?;
        self.audit_share(AuditAction::ShareCreated, user, session).await;
        Ok((share, token))
    }

    /// Lists the links to a session that have not expired, the oldest first.
    ///
    /// # Errors
    /// `NotFound`, and store errors.
    pub async fn list_shares(&self, user: &UserId, session: SessionId) -> Result<Vec<SessionShare>, SessionsError> {
        self.get_session(user, session).await?;
        let records = self.0.dependencies.store.list_records(&RecordGroup::shares_of(session)).await?;
        let mut shares: Vec<_> = records.into_iter().filter_map(SessionShare::from_record).collect();
        shares.sort_by_key(|share| share.created_at);
        Ok(shares)
    }

    /// Revokes a link.
    ///
    /// # Errors
    /// `NotFound`, `ShareNotFound`, and store errors.
    pub async fn revoke_share(&self, user: &UserId, session: SessionId, id: &RecordId) -> Result<(), SessionsError> {
        self.get_session(user, session).await?;
        let taken = self.0.dependencies.store.take_record(&RecordGroup::shares_of(session), id).await?;
        taken.ok_or(SessionsError::ShareNotFound)?;
        self.audit_share(AuditAction::ShareRevoked, user, session).await;
        Ok(())
    }

    /// Reads the report of a session by the secret part of a link to it.
    ///
    /// # Errors
    /// `ShareNotFound`, and store errors.
    pub async fn read_shared_report(&self, session: SessionId, token: &str) -> Result<SessionReport, SessionsError> {
        let store = &self.0.dependencies.store;
        let found = store.read_record(&RecordGroup::shares_of(session), &share_id(token)).await?;
        found.ok_or(SessionsError::ShareNotFound)?;
        let summary = match store.read_summary(session).await {
            Ok(Some(summary)) => summary,
            // What is wrong with it is for its user only.
            Ok(None) | Err(StoreError::Corrupt(_)) => return Err(SessionsError::ShareNotFound),
            Err(error) => return Err(error.into()),
        };
        self.build_report(&summary).await
    }

    async fn audit_share(&self, action: AuditAction, user: &UserId, session: SessionId) {
        let record = AuditRecord::new(action).with_actor(format!("user:{user}")).with_session(session);
        self.0.dependencies.audit.record(vec![record]).await;
    }
}

/// Returns the id of a link, from which its secret part cannot be found out.
fn share_id(token: &str) -> RecordId {
    let digest = HEXLOWER.encode(&Sha256::digest(token)[..16]);
    digest.parse().expect("hexadecimal digits are a valid id")
}
