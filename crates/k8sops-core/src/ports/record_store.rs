//! The port [`RecordStore`]: small records that expire.

use std::{fmt, str::FromStr};

use async_trait::async_trait;

use super::StoreError;
use crate::{
    ids::{InvalidId, SessionId, UserId},
    time::Timestamp,
};

/// Records that belong together and are listed together. Its name is safe in a path and a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordGroup {
    kind: &'static str,
    owner: String,
}

impl RecordGroup {
    /// Tickets of all users, which authenticate one request.
    #[must_use]
    pub fn tickets() -> Self {
        Self { kind: "tickets", owner: "all".to_owned() }
    }

    /// The links by which others read a session.
    #[must_use]
    pub fn shares_of(session: SessionId) -> Self {
        Self { kind: "shares", owner: session.to_string() }
    }

    /// The requests of a user that created sessions.
    #[must_use]
    pub fn creations_of(user: &UserId) -> Self {
        Self { kind: "creations", owner: user.to_string() }
    }

    /// The sessions of a user that were deleted lately.
    #[must_use]
    pub fn deletions_of(user: &UserId) -> Self {
        Self { kind: "deletions", owner: user.to_string() }
    }

    /// The push notifications that were asked for of the tasks of a session.
    #[must_use]
    pub fn push_configs_of(session: SessionId) -> Self {
        Self { kind: "push-configs", owner: session.to_string() }
    }

    /// The push notifications of all sessions that are not all delivered.
    #[must_use]
    pub fn push_deliveries() -> Self {
        Self { kind: "push-deliveries", owner: "all".to_owned() }
    }

    /// Which process delivers push notifications, of those that are not all delivered.
    #[must_use]
    pub fn push_claims() -> Self {
        Self { kind: "push-claims", owner: "all".to_owned() }
    }

    /// The groups of a session, which nothing reads once it is deleted.
    #[must_use]
    pub fn all_of_session(session: SessionId) -> [Self; 2] {
        [Self::shares_of(session), Self::push_configs_of(session)]
    }

    /// What the records are about.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whose records they are: a session, a user, or `all`.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

/// The id of a record in its group: 1 to 64 characters of `a-z 0-9 -`, which are safe in a path and a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(String);

impl RecordId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=64).contains(&text.len()) && text.chars().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId { what: "the id of a record", expected: "1 to 64 characters of a-z 0-9 -" })
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A small record that expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringRecord {
    /// Its id in the group.
    pub id: RecordId,
    /// Its content.
    pub value: String,
    /// When it expires. An expired record does not exist.
    pub expires_at: Timestamp,
}

/// What [`RecordStore::insert_record`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordInsertion {
    /// The record was written.
    Inserted,
    /// There is a record with this id; nothing was written.
    Exists(ExpiringRecord),
}

/// Small records that expire, in groups that have up to some thousand of them. Each write is on its own.
#[async_trait]
pub trait RecordStore: Send + Sync + 'static {
    /// Writes a record, unless there is one with this id.
    async fn insert_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<RecordInsertion, StoreError>;

    /// Writes a record in place of the one with this id, if there is one.
    async fn replace_record(&self, group: &RecordGroup, record: &ExpiringRecord) -> Result<(), StoreError>;

    /// Reads a record.
    async fn read_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError>;

    /// Removes a record and returns it: of several callers, one gets it.
    async fn take_record(&self, group: &RecordGroup, id: &RecordId) -> Result<Option<ExpiringRecord>, StoreError>;

    /// The records of a group, in the order of their ids.
    async fn list_records(&self, group: &RecordGroup) -> Result<Vec<ExpiringRecord>, StoreError>;
}
