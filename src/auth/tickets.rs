//! Tickets: single-use credentials for clients that cannot send a header, such as an `EventSource`, a link or a WebSocket of a
//! browser.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use data_encoding::HEXLOWER;
use k8sops_core::{
    ExpiringRecord, RecordGroup, RecordId, SessionId, SessionStore, StoreError, Timestamp, UserId, random_key,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    authenticator::Authenticator,
    errors::AuthRejection,
    identity::{CallerIdentity, CredentialExpiry},
    roles::{RoleSet, UserRole},
};

/// How long a ticket can be used.
const LIFETIME: Duration = Duration::from_secs(30);
/// The prefix of tickets, by which secret scanners recognize them.
const PREFIX: &str = "k8sops_ticket_";

/// The tickets of all replicas.
#[derive(Clone)]
pub struct TicketOffice(Arc<dyn SessionStore>);

/// A ticket that was issued.
#[derive(Debug, Clone)]
pub struct IssuedTicket {
    /// The ticket, which is stored nowhere.
    pub ticket: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Why a ticket was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// The ticket, or the credentials with which it was issued, are not valid.
    #[error(transparent)]
    Rejected(#[from] AuthRejection),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The content of a ticket's record. It has neither the ticket nor a key of the caller.
#[derive(Serialize, Deserialize)]
struct StoredTicket {
    user: UserId,
    roles: Vec<UserRole>,
    validity: StoredValidity,
    /// The session that it is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
}

/// How long the credentials of the caller are valid.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredValidity {
    Unlimited,
    /// Seconds since 1970.
    Until(u64),
    /// As long as the key with this SHA-256 is in force.
    Key(String),
}

impl TicketOffice {
    /// Creates an office that keeps tickets in this store.
    #[must_use]
    pub fn new(store: Arc<dyn SessionStore>) -> Self {
        Self(store)
    }

    /// Issues a ticket for a caller, for all of the caller's sessions or for one.
    ///
    /// # Errors
    /// Store errors.
    pub async fn issue_ticket(
        &self,
        caller: &CallerIdentity,
        session_id: Option<SessionId>,
    ) -> Result<IssuedTicket, StoreError> {
        let stored = StoredTicket {
            user: caller.user.clone(),
            roles: caller.roles.iter().collect(),
            validity: match &caller.expiry {
                CredentialExpiry::Never => StoredValidity::Unlimited,
                CredentialExpiry::At(deadline) => StoredValidity::Until(*deadline),
                CredentialExpiry::Key(key) => StoredValidity::Key(HEXLOWER.encode(key.hash())),
            },
            session_id,
        };
        let ticket = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random_key()));
        let expires_at = Timestamp::now().saturating_add(LIFETIME);
        let value = serde_json::to_string(&stored).expect("a ticket has string keys and no failing Serialize");
        let record = ExpiringRecord { id: ticket_record(&ticket), value, expires_at };
        self.0.replace_record(&RecordGroup::tickets(), &record).await?;
        Ok(IssuedTicket { ticket, expires_at })
    }

    /// Uses a ticket up, and returns the caller that it was issued for. `session` is the session that the request is about.
    ///
    /// # Errors
    /// The ticket is not valid for the request, or the store cannot be used.
    pub async fn redeem_ticket(
        &self,
        authenticator: &Authenticator,
        ticket: &str,
        session: Option<SessionId>,
    ) -> Result<CallerIdentity, TicketError> {
        let taken = self.0.take_record(&RecordGroup::tickets(), &ticket_record(ticket)).await?;
        let stored: Option<StoredTicket> = taken.and_then(|record| serde_json::from_str(&record.value).ok());
        let Some(StoredTicket { user, roles, validity, session_id }) = stored else {
            return Err(AuthRejection::Invalid(
                "the ticket is unknown, was used before, or is older than 30 s; POST /v1/tickets issues another".into(),
            )
            .into());
        };
        if session_id.is_some() && session_id != session {
            return Err(AuthRejection::Invalid("the ticket is limited to another session".into()).into());
        }
        let expiry = match validity {
            StoredValidity::Unlimited => CredentialExpiry::Never,
            StoredValidity::Until(deadline) => CredentialExpiry::At(deadline),
            StoredValidity::Key(hash) => authenticator.find_key_expiry(&hash)?,
        };
        Ok(CallerIdentity { user, roles: roles.into_iter().collect::<RoleSet>(), user_token: None, expiry })
    }
}

/// Returns the id of a ticket's record, from which the ticket cannot be found out.
fn ticket_record(ticket: &str) -> RecordId {
    let digest = HEXLOWER.encode(&Sha256::digest(ticket)[..16]);
    digest.parse().expect("hexadecimal digits are a valid id")
}
